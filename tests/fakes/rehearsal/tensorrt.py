"""A TensorRT that is not there, for a dress rehearsal of what needs a GPU: imported as `tensorrt` by fresh interpreters.

It parses ONNX, "builds" plans that hold the graph, and runs them with ONNX Runtime on the addresses of `driver.cpp`, which
are the host's, when the stream comes to it. Only what `edge_mtl` calls is here, as version 10.13 has it.
"""

import ctypes
import enum
import hashlib
import json
import threading

import numpy as np
import onnx
import onnxruntime

__version__ = "10.13.3"

_MAGIC = b"ftrt"
_HOST = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_DRIVER = ctypes.CDLL("libcuda.so.1")
_DRIVER.cuLaunchHostFunc.argtypes = [ctypes.c_void_p, _HOST, ctypes.c_void_p]
_KINDS = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF"}
_DTYPES = {"FLOAT": "f4", "UINT8": "u1", "INT8": "i1", "INT32": "i4", "INT64": "i8", "BOOL": "?", "HALF": "f2"}


class _Member(enum.IntEnum):
    def __str__(self):
        return f"{type(self).__name__}.{self.name}"


def _enum(name, members):
    return _Member(name, members.split(), start=0)


BuilderFlag = _enum("BuilderFlag", "FP16 INT8 TF32 VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME")
NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH STRONGLY_TYPED")
MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE")
ProfilingVerbosity = _enum("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
HardwareCompatibilityLevel = _enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY")
LayerType = _enum("LayerType", "CONVOLUTION MATRIX_MULTIPLY QUANTIZE DEQUANTIZE OTHER")
DataType = _enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 INT64")
TensorIOMode = _enum("TensorIOMode", "NONE INPUT OUTPUT")
LayerInformationFormat = _enum("LayerInformationFormat", "ONELINE JSON")


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self):
        pass


class IProgressMonitor:
    def __init__(self):
        pass


class IProfiler:
    def __init__(self):
        pass


class _Tensor:
    def __init__(self, value):
        kind = value.type.tensor_type
        self.name, self.dtype = value.name, DataType[_KINDS[kind.elem_type]]
        self.shape = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in kind.shape.dim)


_LAYERS = {
    "Conv": LayerType.CONVOLUTION,
    "Gemm": LayerType.MATRIX_MULTIPLY,
    "MatMul": LayerType.MATRIX_MULTIPLY,
    "QuantizeLinear": LayerType.QUANTIZE,
    "DequantizeLinear": LayerType.DEQUANTIZE,
}


class _Layer:
    def __init__(self, node, types):
        self.type = _LAYERS.get(node.op_type, LayerType.OTHER)
        self._dtype = types.get(node.output[0], DataType.FLOAT)

    def get_output(self, index):
        self.dtype = self._dtype
        return self


class _Network:
    def __init__(self):
        self.model, self.layers, self.inputs = b"", [], []

    num_layers = property(lambda self: len(self.layers))
    num_inputs = property(lambda self: len(self.inputs))

    def get_layer(self, index):
        return self.layers[index]

    def get_input(self, index):
        return self.inputs[index]


class OnnxParser:
    num_errors = 0

    def __init__(self, network, logger):
        self._network = network

    def parse(self, model):
        proto = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model))
        typed = [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]
        types = {value.name: _Tensor(value).dtype for value in typed if value.type.tensor_type.elem_type in _KINDS}
        self._network.model = model
        self._network.layers = [_Layer(node, types) for node in proto.graph.node]
        self._network.inputs = [_Tensor(value) for value in proto.graph.input]
        return True


class _Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, smallest, usual, largest):
        self.shapes[name] = [list(smallest), list(usual), list(largest)]


class _Config:
    def __init__(self):
        self.profiles, self.progress_monitor = [], None

    def set_memory_pool_limit(self, pool, size):
        assert isinstance(pool, MemoryPoolType)
        assert size > 0

    def add_optimization_profile(self, profile):
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def set_flag(self, flag):
        assert isinstance(flag, BuilderFlag)

    clear_flag = set_flag

    def create_timing_cache(self, content):
        return self

    def set_timing_cache(self, cache, ignore_mismatch):
        return True

    def serialize(self):
        return b"timings"


class Builder:
    def __init__(self, logger):
        self.logger = logger

    def create_network(self, flags):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return _Network()

    def create_builder_config(self):
        return _Config()

    def create_optimization_profile(self):
        return _Profile()

    def build_serialized_network(self, network, config):
        monitor = config.progress_monitor
        monitor.phase_start("build", None, 2)
        for step in range(2):
            if not monitor.step_complete("build", step):
                return None
        monitor.phase_finish("build")
        header = json.dumps({"shapes": config.profiles[0] if config.profiles else {}}).encode()
        body = len(header).to_bytes(8, "little") + header + network.model
        return _MAGIC + hashlib.sha256(body).digest() + body


class Runtime:
    def __init__(self, logger):
        self.logger, self.engine_host_code_allowed = logger, False

    def deserialize_cuda_engine(self, plan):
        assert plan[:4] == _MAGIC, "the real one may end the process here"
        body = plan[36:]
        if hashlib.sha256(body).digest() != plan[4:36]:
            self.logger.log(ILogger.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization")
            return None
        length = int.from_bytes(body[:8], "little")
        return _Engine(json.loads(body[8 : 8 + length])["shapes"], body[8 + length :])


class _Engine:
    device_memory_size_v2 = 1 << 16

    def __init__(self, profile, model):
        graph = onnx.load_model_from_string(model).graph
        self.profile, self.graph = profile, graph
        self.inputs = {value.name: _Tensor(value) for value in graph.input}
        self.tensors = self.inputs | {value.name: _Tensor(value) for value in graph.output}
        self.num_io_tensors = len(self.tensors)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return self.tensors[name].dtype

    def get_tensor_shape(self, name):
        return self.tensors[name].shape

    def get_tensor_profile_shape(self, name, profile):
        return self.profile[name]

    def create_execution_context(self):
        return _Context(self)

    def create_engine_inspector(self):
        return self

    def get_engine_information(self, kind):
        assert kind == LayerInformationFormat.JSON
        layers = [
            {"Name": node.name, "Outputs": [{"Format/Datatype": "Int8" if "Quantize" in node.op_type else "Half"}]}
            for node in self.graph.node
        ]
        return json.dumps({"Layers": layers})


class _Context:
    def __init__(self, engine):
        self.engine, self.addresses, self.shapes, self.profiler = engine, {}, {}, None
        self.inside, self.kept = threading.Lock(), []

    def set_input_shape(self, name, shape):
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        if name in self.shapes:
            return self.shapes[name]
        batch = next(iter(self.shapes.values()), (-1,))[0]
        return tuple(batch if side < 0 else side for side in self.engine.get_tensor_shape(name))

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        if not self.inside.acquire(blocking=False):
            raise AssertionError("an execution context was used by two threads at once")
        try:
            addresses, shapes = dict(self.addresses), {name: self.get_tensor_shape(name) for name in self.engine.tensors}
            call = _HOST(lambda _: self.compute(addresses, shapes))
            self.kept.append(call)  # graphs call it again
            return _DRIVER.cuLaunchHostFunc(stream, call, None) == 0
        finally:
            self.inside.release()

    def compute(self, addresses, shapes):
        view = {name: self._at(name, addresses[name], shapes[name]) for name in shapes}
        feeds = {name: np.array(view[name]) for name in self.engine.inputs}
        names = [name for name in view if name not in self.engine.inputs]
        for name, found in zip(names, self.engine.session.run(names, feeds), strict=True):
            view[name][...] = found

    def _at(self, name, address, shape):
        dtype = np.dtype(_DTYPES[self.engine.get_tensor_dtype(name).name])
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_uint8 * size).from_address(int(address)), dtype).reshape(shape)
