"""The TensorRT backend over a GPU and a library that are not there: order, threads, graphs, errors. See `tests/fakes`."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import numpy as np
import pytest

from edge_mtl import backends
from edge_mtl.backends import availability, open_backend
from edge_mtl.backends.tensorrt import open_plan
from edge_mtl.cuda import CudaError, CudaOutOfMemory
from edge_mtl.cuda.arrays import DeviceArray
from edge_mtl.errors import BackendUnavailable, BundleError, EngineClosed, EngineMismatch, InferenceError
from tests.fakes import tensorrt as fake
from tests.fakes.cuda import FakeCuda

SHAPE = (1, 4, 6, 3)
DYNAMIC = {"image": ((1, 4, 6, 3), (1, 4, 6, 3), (4, 4, 6, 3), "uint8")}
DYNAMIC_OUT = {"depth": ((1, 4, 6), (1, 4, 6), (4, 4, 6), "float32")}


def image(value: int, batch: int = 1) -> np.ndarray:
    return np.full((batch, *SHAPE[1:]), value, np.uint8)


INSTALLED = ModuleSpec("tensorrt", None, origin="tensorrt/__init__.py")


def answer(value: int, number: int = 0, batch: int = 1) -> int:
    """What the fake network answers."""
    return (value * 72 * batch + number) % 251


def opened(cuda: FakeCuda | None = None, plan: bytes | None = None, **options):
    gpu = cuda or FakeCuda()
    return open_plan(fake.plan() if plan is None else plan, cuda=gpu, library=fake.library(gpu), **options)


@pytest.fixture(params=["discrete", "integrated"])
def cuda(request) -> FakeCuda:
    return FakeCuda(integrated=request.param == "integrated")


def test_inputs_and_outputs_are_described(cuda):
    backend = opened(cuda, precision="fp16")
    assert {name: (spec.shape, spec.dtype) for name, spec in backend.inputs.items()} == {"image": (SHAPE, np.uint8)}
    assert [spec.dtype for spec in backend.outputs.values()] == [np.uint8, np.float32]
    assert (backend.info.name, backend.info.version, backend.info.device, backend.info.precision) == (
        "tensorrt", "10.3.0", "cuda:0", "fp16",
    )  # fmt: skip
    assert "Fake GPU (sm_87" in backend.description
    assert backend.device_bytes > 4096


def test_answers_are_those_of_the_input_run_after_run_and_belong_to_the_caller(cuda):
    backend = opened(cuda)
    kept = [backend.run({"image": image(value)}) for value in range(7)]
    for value, outputs in enumerate(kept):
        assert (outputs["segmentation"] == answer(value)).all()
        assert (outputs["depth"] == answer(value, 1)).all()
        assert outputs["depth"].dtype == np.float32
        assert outputs["depth"].flags.writeable


def test_an_integrated_gpu_copies_nothing_and_another_one_once_each_way():
    for integrated, copies in ((True, (0, 0)), (False, (5, 10))):
        gpu = FakeCuda(integrated=integrated)
        backend = opened(gpu)
        for value in range(5):
            backend.run({"image": image(value)})
        assert (gpu.copies_in, gpu.copies_out) == copies


def test_the_work_is_recorded_once_per_shape_and_set_of_buffers_and_then_launched():
    gpu = FakeCuda()
    library = fake.library(gpu)
    backend = open_plan(fake.plan(), cuda=gpu, library=library)
    for value in range(20):
        backend.run({"image": image(value)})
    assert library.module.executed == 4, "a warm-up and a recording for each of two sets"
    assert (backend.graphs_recorded, gpu.launches) == (2, 18)
    assert backend.no_graphs == ""


def test_without_graphs_the_same_answers_come_and_the_reason_is_told(cuda, caplog):
    caplog.set_level("INFO", "edge_mtl")
    cuda.graphs = "this driver has no cuGraphLaunch"
    backends_without = {
        "this driver has no cuGraphLaunch": opened(cuda),
        "they were switched off": opened(FakeCuda(), graphs=False),
        "cannot be recorded": opened(FakeCuda(), fake.plan(synchronises="it synchronises")),
    }
    for reason, backend in backends_without.items():
        for value in range(6):
            assert (backend.run({"image": image(value)})["depth"] == answer(value, 1)).all()
        assert backend.graphs_recorded == 0
        assert reason in backend.no_graphs
        assert reason in backend.description
    assert "without CUDA graphs" in caplog.text


def test_a_stream_answers_in_order_and_overlaps():
    gpu = FakeCuda()
    backend = opened(gpu)
    seen, given = [], []

    def feeds():
        for value in range(9):
            given.append(len(seen))
            yield {"image": image(value)}

    for outputs in backend.stream(feeds()):
        seen.append(int(outputs["segmentation"][0, 0, 0]))
    assert seen == [answer(value) for value in range(9)]
    assert given == [0, 0, 1, 2, 3, 4, 5, 6, 7], "one input ahead"


def test_streams_that_nobody_reads_on_do_not_stop_others(cuda):
    backend = opened(cuda)
    streams = [backend.stream({"image": image(value)} for value in range(4)) for _ in range(3)]
    first = [next(stream)["segmentation"][0, 0, 0] for stream in streams]
    assert first == [answer(0)] * 3
    assert (backend.run({"image": image(9)})["segmentation"] == answer(9)).all()
    for stream in streams:
        assert [int(outputs["segmentation"][0, 0, 0]) for outputs in stream] == [answer(value) for value in (1, 2, 3)]


def test_threads_get_their_own_answers_and_never_share_the_context(cuda):
    backend = opened(cuda)

    def work(value: int) -> bool:
        return bool((backend.run({"image": image(value % 200)})["segmentation"] == answer(value % 200)).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(200)))


def test_the_control_sees_a_context_that_two_threads_use():
    gpu = FakeCuda()
    context = fake.Engine(fake.Module(gpu), {"inputs": {}, "outputs": {}, "faults": {}}).create_execution_context()
    with gpu.active():
        stream = gpu.stream()
        with context.inside, pytest.raises(AssertionError, match="two threads"):
            context.execute_async_v3(stream.handle)


def test_batches_within_the_profile_run_and_others_are_refused(cuda):
    backend = opened(cuda, fake.plan(DYNAMIC, DYNAMIC_OUT))
    for _ in range(3):
        for batch in (1, 3, 4):
            depth = backend.run({"image": image(2, batch)})["depth"]
            assert depth.shape == (batch, 4, 6)
            assert (depth == answer(2, batch=batch)).all()
    assert backend.graphs_recorded >= 3, "by shape"
    for wrong in (image(1, 5), np.zeros((1, 5, 6, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)):
        with pytest.raises(InferenceError, match="shape"):
            backend.run({"image": wrong})


@pytest.mark.parametrize(
    ("feeds", "match"),
    [
        ({}, "takes"),
        ({"image": np.zeros(SHAPE, np.float32)}, "uint8; found float32"),
        ({"image": np.zeros((1, 3, 4, 6), np.uint8)}, "shape"),
        ({"picture": np.zeros(SHAPE, np.uint8)}, "takes"),
    ],
)
def test_wrong_inputs_are_refused_and_the_next_run_works(cuda, feeds, match):
    backend = opened(cuda)
    with pytest.raises(InferenceError, match=match):
        backend.run(feeds)
    assert (backend.run({"image": image(3)})["segmentation"] == answer(3)).all()


def test_no_plan_reaches_the_library_unless_it_looks_like_one():
    gpu = FakeCuda()
    library = fake.library(gpu)
    for payload, kind, match in (
        (b"", BundleError, "0 bytes"),
        (b"ftrt", BundleError, "4 bytes"),
        (b"\x08\x08" * 100, BundleError, "ftrt"),
        (fake.plan(magic=b"vtrt"), EngineMismatch, "RTX"),
    ):
        with pytest.raises(kind, match=match):
            open_plan(payload, cuda=gpu, library=library)
    assert library.module.deserialised == 0


@pytest.mark.parametrize(
    ("plan", "kind", "match"),
    [
        (fake.plan(version="8.6"), EngineMismatch, "8.6.*build-engine"),
        (fake.plan()[:-30], BundleError, "end of the buffer"),
        (b"ftrt" + bytes(range(256)), (BundleError), "Magic tag|Serialization"),
        (fake.plan(deserialise="cudaErrorMemoryAllocation: out of memory"), CudaOutOfMemory, "smaller engine"),
        (fake.plan(context="Cannot allocate: OutOfMemory"), CudaOutOfMemory, "execution context"),
        (fake.plan(context="no such profile"), InferenceError, "no such profile"),
        (fake.plan(outputs={"x": ((1,), "fp8")}), BundleError, "FP8"),
    ],
)
def test_a_plan_that_cannot_be_used_is_a_typed_error_and_leaves_nothing(plan, kind, match):
    gpu = FakeCuda()
    with pytest.raises(kind, match=match):
        opened(gpu, plan)
    assert gpu.living == []
    assert gpu.streams == {}
    assert gpu.closed


def test_a_library_that_does_not_start_says_why():
    gpu = FakeCuda()
    with pytest.raises(BackendUnavailable, match=r"error: 35.*nvidia-smi"):
        open_plan(fake.plan(), cuda=gpu, library=fake.library(gpu, starts=False))


@pytest.mark.parametrize("total", [0, 100, 700])
def test_too_little_memory_is_a_typed_error_and_leaves_nothing(total):
    gpu = FakeCuda(total=total)
    with pytest.raises(CudaOutOfMemory, match="Free memory"):
        opened(gpu)
    assert gpu.living == []


@pytest.mark.parametrize("fault", ["address", "execute"])
def test_what_the_library_refuses_is_reported_in_its_words_and_the_next_run_works(cuda, fault):
    gpu = cuda
    library = fake.library(gpu)
    backend = open_plan(fake.plan(), cuda=gpu, library=library)
    engine = backend._plan._engine
    engine.faults[fault] = "Error Code 3: API Usage Error"
    with pytest.raises(InferenceError, match="API Usage Error") as caught:
        backend.run({"image": image(1)})
    assert not isinstance(caught.value, CudaError)
    engine.faults.clear()
    assert (backend.run({"image": image(5)})["segmentation"] == answer(5)).all()


def test_an_error_that_passes_does_not_end_the_backend(cuda):
    backend = opened(cuda)
    cuda.fail["work"] = "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"
    with pytest.raises(CudaError) as caught:
        backend.run({"image": image(1)})
    assert not caught.value.sticky
    assert (backend.run({"image": image(5)})["segmentation"] == answer(5)).all()


@pytest.mark.parametrize("use", ["run", "stream", "device"])
def test_a_sticky_error_ends_the_backend_and_says_to_restart(cuda, use):
    backend = opened(cuda)
    backend.run({"image": image(1)})
    cuda.fail["work"] = "CUDA_ERROR_ILLEGAL_ADDRESS"
    calls = {
        "run": lambda: backend.run({"image": image(1)}),
        "stream": lambda: list(backend.stream([{"image": image(1)}] * 3)),
        "device": lambda: backend.run_on_device({"image": image(1)}),
    }
    with pytest.raises(CudaError, match="start it again") as caught:
        calls[use]()
    assert caught.value.sticky
    cuda.lost = None  # even if the driver seemed well again
    for call in calls.values():
        with pytest.raises(CudaError, match=r"failed before.*start it again") as again:
            call()
        assert again.value.sticky
    backend.close()


def test_the_control_sees_freed_memory_wrong_addresses_and_reading_too_early():
    gpu = FakeCuda()
    with gpu.active():
        stream, memory, pinned = gpu.stream(), gpu.device_memory(16), gpu.host_memory(16)
        pinned.array[:] = 7
        gpu.copy_in(memory.address, pinned.array, stream)
        assert (memory.array != 7).all(), "nothing has happened yet"
        stream.synchronize()
        assert (memory.array == 7).all()
        with pytest.raises(CudaError, match="not pinned"):
            gpu.copy_out(np.zeros(16, np.uint8), memory.address, stream)
        memory.free()
        gpu.copy_out(pinned.array, memory.address, stream)
        with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
            stream.synchronize()
    with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
        gpu.stream()


def test_the_control_sees_calls_without_a_context():
    with pytest.raises(CudaError, match="no context"):
        FakeCuda().stream()


def test_closing_frees_everything_once_and_later_use_is_refused(cuda):
    backend = opened(cuda)
    stream = backend.stream({"image": image(value)} for value in range(4))
    next(stream)
    backend.run_on_device({"image": image(1)})
    backend.close()
    backend.close()
    assert cuda.living == []
    assert cuda.streams == {}
    assert cuda.freed_while_busy == 0
    assert cuda.closed
    for call in (lambda: backend.run({"image": image(1)}), lambda: backend.run_on_device({"image": image(1)})):
        with pytest.raises(EngineClosed):
            call()
    assert int(next(stream)["segmentation"][0, 0, 0]) == answer(1), "it had been computed"
    with pytest.raises(EngineClosed):
        next(stream)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_refused_and_frees_nothing(cuda):
    backend = opened(cuda)
    backend.run({"image": image(1)})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            try:
                backend.run({"image": image(1)})
            except EngineClosed:
                backend.close()
                code = 0 if cuda.living and not cuda.closed else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    backend.run({"image": image(1)})


def test_inputs_and_outputs_may_stay_on_the_gpu(cuda):
    backend = opened(cuda)
    with cuda.active():
        memory = cuda.device_memory(72)
        memory.array[:] = 5
    on_gpu = DeviceArray.contiguous(memory.address, SHAPE, np.dtype(np.uint8), device=0, owner=memory)
    assert (backend.run({"image": on_gpu})["depth"] == answer(5, 1)).all()
    first = backend.run_on_device({"image": on_gpu})
    second = backend.run_on_device({"image": image(6)})
    for outputs, value in ((first, 5), (second, 6)):
        found = cuda.at(outputs["depth"].address, outputs["depth"].nbytes).view(np.float32)
        assert (found == answer(value, 1)).all()
        assert outputs["depth"].__cuda_array_interface__["shape"] == (1, 4, 6)
    living = len(cuda.living)
    for _ in range(5):
        backend.run_on_device({"image": on_gpu})
    del first, second, outputs
    for _ in range(5):
        backend.run_on_device({"image": on_gpu})
    assert len(cuda.living) <= living + 2, "dropped arrays are lent again"


def test_an_input_on_the_gpu_is_waited_for_and_must_be_contiguous(cuda):
    backend = opened(cuda)
    with cuda.active():
        memory, pinned, producer = cuda.device_memory(72), cuda.host_memory(72), cuda.stream()
        pinned.array[:] = 9
        cuda.copy_in(memory.address, pinned.array, producer)

    theirs = SimpleNamespace(
        __cuda_array_interface__={
            "shape": SHAPE,
            "typestr": "|u1",
            "data": (memory.address, False),
            "strides": None,
            "stream": producer.handle,
            "version": 3,
        }
    )
    assert (backend.run({"image": theirs})["segmentation"] == answer(9)).all()
    strided = DeviceArray(memory.address, SHAPE, np.dtype(np.uint8), (72, 36, 3, 1), None, 0, memory)
    with pytest.raises(InferenceError, match="contiguous"):
        backend.run({"image": strided})


def test_closing_waits_for_threads_that_run(cuda):
    backend, outcomes = opened(cuda), []

    def work() -> None:
        try:
            for _ in range(10_000):
                backend.run({"image": image(1)})
        except (EngineClosed, CudaError) as exc:
            outcomes.append(type(exc))

    thread = threading.Thread(target=work)
    thread.start()
    while not cuda.launches:
        pass
    with backend._lock:
        pass
    backend.close()
    thread.join(60)
    assert not thread.is_alive()
    assert outcomes in ([EngineClosed], [CudaError])


def test_open_backend_takes_a_plan_and_asks_no_list_of_operators(monkeypatch):
    gpu = FakeCuda()
    monkeypatch.setattr(availability, "no_gpu", lambda: "")
    monkeypatch.setattr(availability, "installed_binding", lambda: "pycuda")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: INSTALLED)
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(Runtime=object))
    monkeypatch.setattr("edge_mtl.backends.tensorrt.opening.find_library", lambda name: fake.library(gpu))
    monkeypatch.setattr("edge_mtl.backends.tensorrt.opening.open_cuda", lambda device: gpu)
    backend = open_backend("tensorrt", fake.plan(), precision="int8")
    assert (backend.info.precision, backend.info.loading) == ("int8", "compiled code")
    assert (backend.run({"image": image(3)})["segmentation"] == answer(3)).all()
    backend.close()
    with pytest.raises(BundleError):
        open_backend("onnxruntime", fake.plan())
    assert backends.compile_graph("tensorrt", fake.plan()) is None


def test_tensorrt_without_a_gpu_or_a_binding_is_not_usable_and_says_why(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: INSTALLED)
    monkeypatch.setattr(availability, "no_gpu", lambda: "there is no NVIDIA GPU here")
    with pytest.raises(BackendUnavailable, match="no NVIDIA GPU"):
        open_backend("tensorrt", fake.plan())
    monkeypatch.setattr(availability, "no_gpu", lambda: "")
    monkeypatch.setattr(availability, "installed_binding", lambda: None)
    with pytest.raises(BackendUnavailable, match=r"neither pycuda nor cuda-bindings"):
        open_backend("tensorrt", fake.plan())


def test_the_version_is_that_of_the_library_which_is_taken_and_not_of_the_other(monkeypatch):
    """On a Jetson TensorRT may be the system's, without metadata, while TensorRT for RTX lies beside it."""
    there = {"tensorrt-rtx": "1.7.1"}

    def version(name: str) -> str:
        if name in there:
            return there[name]
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: INSTALLED if "tensorrt" in name else None)
    monkeypatch.setattr(availability, "no_gpu", lambda: "")
    monkeypatch.setattr(availability, "installed_binding", lambda: "pycuda")
    assert backends.available()["tensorrt"].version == "unknown"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: INSTALLED if name == "tensorrt_rtx" else None)
    assert backends.available()["tensorrt"].version == "1.7.1"
