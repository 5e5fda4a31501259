"""The letterbox kernel, compiled as plain C++ and run for every pixel, against OpenCV; and checks of frames on a GPU."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import edge_mtl.cuda
from edge_mtl.backends import TensorSpec
from edge_mtl.backends.tensorrt import open_plan
from edge_mtl.cuda.arrays import DeviceArray
from edge_mtl.cuda.letterbox import DeviceFrame, arguments, check_device_frame
from edge_mtl.engine import Engine
from edge_mtl.errors import FrameError
from edge_mtl.image.frames import letterbox, prepare_pixels, prepare_planes
from tests.bundles import make_image
from tests.fakes import tensorrt as fake
from tests.fakes.cuda import FakeCuda

SOURCE = Path(edge_mtl.cuda.__file__).with_name("letterbox.cu")
LOOP = """
#include "{source}"
extern "C" void run(int grid_x, int grid_y, const unsigned char* frame, void* network, long long pitch, int fh, int fw,
    int h, int w, int ch, int cw, int top, int left, int factor, int swap, int planar)
{{
    blockDim.x = 32; blockDim.y = 8;
    for (blockIdx.y = 0; blockIdx.y < grid_y; blockIdx.y++) for (blockIdx.x = 0; blockIdx.x < grid_x; blockIdx.x++)
        for (threadIdx.y = 0; threadIdx.y < 8; threadIdx.y++) for (threadIdx.x = 0; threadIdx.x < 32; threadIdx.x++)
            letterbox(frame, network, pitch, fh, fw, h, w, ch, cw, top, left, factor, swap, planar);
}}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """The kernel's source, compiled for the host."""
    compiler = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("needs a C++ compiler: g++ or clang++")
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "loop.cpp").write_text(LOOP.format(source=SOURCE))
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(folder / "loop.so"), str(folder / "loop.cpp")]
    subprocess.run(command, check=True, capture_output=True)
    return ctypes.CDLL(str(folder / "loop.so")).run


def on_host(kernel, frame: np.ndarray, network: tuple[int, int], *, channels: str, planar: bool) -> np.ndarray:
    """The network's input as the kernel makes it."""
    box = letterbox(frame.shape[:2], network)
    shape, kind = ((3, *network), np.float32) if planar else ((*network, 3), np.uint8)
    target = np.full(shape, 77, kind)
    array = DeviceArray(frame.ctypes.data, frame.shape, frame.dtype, frame.strides, None, 0, frame)
    given = arguments(DeviceFrame(check_device_frame(array), box, channels), target.ctypes.data, planar=planar)
    kernel(-(-network[1] // 32), -(-network[0] // 8), *given)
    return target


@pytest.mark.parametrize(
    "size", [(64, 96), (48, 64), (120, 213), (90, 60), (200, 300), (480, 640), (33, 47), (8, 8), (1, 1), (700, 90)]
)
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("planar", [False, True])
def test_the_kernel_makes_what_opencv_makes(kernel, size, channels, planar):
    frame = make_image(3, height=size[0], width=size[1])
    found = on_host(kernel, frame, (64, 96), channels=channels, planar=planar)
    expected = np.empty_like(found)
    (prepare_planes if planar else prepare_pixels)(frame, letterbox(size, (64, 96)), expected, channels=channels)
    difference = np.abs(found.astype(np.float32) - expected.astype(np.float32))
    assert difference.max() <= 1, "OpenCV rounds its products differently from one processor to the next"
    assert difference.mean() < 0.2


def test_a_frame_of_the_networks_size_is_copied_bit_for_bit(kernel):
    frame = make_image(5)
    assert np.array_equal(on_host(kernel, frame, (64, 96), channels="rgb", planar=False), frame)


def test_rows_may_be_apart(kernel):
    wide = make_image(5, width=160)
    part = wide[:, 10:106]
    assert np.array_equal(on_host(kernel, part, (64, 96), channels="rgb", planar=False), part)


def test_the_control_sees_another_letterbox(kernel):
    frame = make_image(3, height=120, width=213)
    found = on_host(kernel, frame, (64, 96), channels="rgb", planar=False)
    wrong = np.roll(found, 1, axis=1)
    assert np.abs(found.astype(int) - wrong.astype(int)).max() > 1


def test_the_ptx_is_of_this_source_and_old_drivers_take_it():
    text = SOURCE.with_suffix(".ptx").read_text()
    assert ".version 6.3" in text
    assert ".target sm_75" in text
    parameters = re.findall(r"\.param \.(\w+) letterbox_param_\d+", text)
    given = arguments(
        DeviceFrame(DeviceArray(1, (2, 2, 3), np.dtype("u1"), (6, 3, 1), None, 0, None), letterbox((2, 2), (64, 96)), "rgb"),
        2,
        planar=True,
    )
    sizes = [ctypes.sizeof(value) for value in given]
    assert [int(kind[1:]) // 8 for kind in parameters] == sizes


def test_the_ptx_assembles_for_the_gpus_it_is_meant_for(tmp_path):
    assembler = shutil.which("ptxas")
    if assembler is None:
        pytest.skip("needs ptxas of the CUDA toolkit")
    for target in ("sm_75", "sm_87", "sm_90"):
        command = [assembler, f"-arch={target}", str(SOURCE.with_suffix(".ptx")), "-o", str(tmp_path / target)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("shape", "kind", "strides", "match"),
    [
        ((4, 6), "u1", (6, 1), "shape"),
        ((4, 6, 4), "u1", (24, 4, 1), "shape"),
        ((4, 6, 3), "f4", (72, 12, 4), "uint8"),
        ((0, 6, 3), "u1", (18, 3, 1), "pixels a side"),
        ((20000, 6, 3), "u1", (18, 3, 1), "pixels a side"),
        ((4, 6, 3), "u1", (18, 1, 6), "packed"),
        ((4, 6, 3), "u1", (-18, 3, 1), "packed"),
    ],
)
def test_a_frame_on_the_gpu_that_cannot_be_used_is_a_frame_error(shape, kind, strides, match):
    with pytest.raises(FrameError, match=match):
        check_device_frame(DeviceArray(4096, shape, np.dtype(kind), strides, None, 0, None))


def test_an_engine_on_a_cpu_refuses_a_frame_on_the_gpu(tiny_bundle):
    with Engine(tiny_bundle, device="cpu", self_test="off") as engine, pytest.raises(FrameError, match="Copy it to the host"):
        engine.predict(DeviceArray(4096, (64, 96, 3), np.dtype("u1"), (288, 3, 1), None, 0, None))


def test_a_frame_on_the_gpu_goes_through_the_kernel_into_the_networks_input():
    gpu = FakeCuda()
    launched = []

    def stand_in(cuda, frame, network, pitch, height, width, *rest):
        launched.append((pitch, height, width, *rest))
        cuda.at(network, 72)[:] = cuda.at(frame, 1)[0]

    gpu.kernels["letterbox"] = stand_in
    backend = open_plan(fake.plan(), cuda=gpu, library=fake.library(gpu))
    with gpu.active():
        memory = gpu.device_memory(16 * 24 * 3)
        memory.array[:] = 6
    array = DeviceArray(memory.address, (16, 24, 3), np.dtype("u1"), (72, 3, 1), None, 0, memory)
    outputs = backend.run({"image": DeviceFrame(array, letterbox((16, 24), (4, 6)), "bgr")})
    assert (outputs["segmentation"] == 6 * 72 % 251).all()
    assert launched == [(72, 16, 24, 4, 6, 4, 6, 0, 0, 4, 1, 0)]
    assert gpu.copies_in == 0
    backend.close()


def test_specs_say_whether_the_input_is_planar():
    calls = []
    from edge_mtl.cuda.letterbox import LetterboxKernel

    module = SimpleNamespace(
        kernel=lambda name: SimpleNamespace(launch=lambda grid, block, given, stream: calls.append((grid, given[-1].value)))
    )
    kernel = LetterboxKernel(SimpleNamespace(module=lambda code: module))
    frame = DeviceFrame(DeviceArray(1, (2, 2, 3), np.dtype("u1"), (6, 3, 1), None, 0, None), letterbox((2, 2), (64, 96)), "rgb")
    kernel(frame, 5, TensorSpec((1, 3, 64, 96), np.dtype("f4")), None)
    kernel(frame, 5, TensorSpec((1, 64, 96, 3), np.dtype("u1")), None)
    assert calls == [((3, 8), 1), ((3, 8), 0)]
