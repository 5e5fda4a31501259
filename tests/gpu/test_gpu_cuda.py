"""The CUDA layer on a real GPU, through each binding that is installed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edge_mtl.backends import TensorSpec
from edge_mtl.cuda import Cuda, CudaOutOfMemory
from edge_mtl.cuda.arrays import DeviceArray, device_array
from edge_mtl.cuda.letterbox import DeviceFrame, LetterboxKernel
from edge_mtl.image.frames import letterbox, prepare_pixels, prepare_planes
from tests.bundles import make_image


def test_bytes_go_there_and_back(cuda: Cuda):
    content = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
    with cuda.active():
        stream, done = cuda.stream(), cuda.event()
        pinned, back, device = cuda.host_memory(1 << 20), cuda.host_memory(1 << 20), cuda.device_memory(1 << 20)
        pinned.array[:], back.array[:] = content, 0
        cuda.copy_in(device.address, pinned.array, stream)
        cuda.copy_out(back.array, device.address, stream)
        done.record(stream)
        done.synchronize()
        assert np.array_equal(back.array, content)
        for thing in (pinned, back, device, done, stream):
            thing.free()


def test_events_order_two_streams_and_measure_time(cuda: Cuda):
    with cuda.active():
        first, second = cuda.stream(), cuda.stream()
        start, middle, end = (cuda.event(timed=True) for _ in range(3))
        pinned, back, device = cuda.host_memory(1 << 24), cuda.host_memory(1 << 24), cuda.device_memory(1 << 24)
        for value in range(5):
            pinned.array[:] = value
            start.record(first)
            cuda.copy_in(device.address, pinned.array, first)
            middle.record(first)
            second.wait(middle)
            cuda.copy_out(back.array, device.address, second)
            end.record(second)
            end.synchronize()
            assert (back.array == value).all()
            assert end.milliseconds_since(start) > 0
        for thing in (pinned, back, device, start, middle, end, first, second):
            thing.free()


def test_mapped_memory_is_seen_by_the_gpu(cuda: Cuda):
    with cuda.active():
        stream, mapped, device, back = (
            cuda.stream(),
            cuda.host_memory(64, mapped=True),
            cuda.device_memory(64),
            cuda.host_memory(64),
        )
        mapped.array[:] = 42
        cuda.copy_device(device.address, mapped.device_address, 64, stream)
        cuda.copy_out(back.array, device.address, stream)
        stream.synchronize()
        assert (back.array == 42).all()
        for thing in (mapped, device, back, stream):
            thing.free()


def test_recorded_work_is_done_again_with_what_is_there_then(cuda: Cuda):
    if cuda.graphs:
        pytest.skip(f"needs CUDA graphs: {cuda.graphs}")
    with cuda.active():
        stream, pinned, device, back = cuda.stream(), cuda.host_memory(64), cuda.device_memory(64), cuda.host_memory(64)
        back.array[:] = 0
        cuda.begin_capture(stream)
        cuda.copy_in(device.address, pinned.array, stream)
        cuda.copy_out(back.array, device.address, stream)
        graph = cuda.end_capture(stream)
        stream.synchronize()
        assert (back.array == 0).all(), "recorded, not done"
        for value in (1, 2):
            pinned.array[:] = value
            graph.launch(stream)
            stream.synchronize()
            assert (back.array == value).all()
        for thing in (graph, pinned, device, back, stream):
            thing.free()


def test_more_memory_than_there_is_is_a_typed_error_and_the_gpu_goes_on(cuda: Cuda):
    with cuda.active():
        with pytest.raises(CudaOutOfMemory):
            cuda.device_memory(cuda.facts.memory_bytes * 4)
        cuda.device_memory(1024).free()


def test_making_and_freeing_leaves_no_memory_taken(cuda: Cuda):
    with cuda.active():
        cuda.device_memory(1 << 22).free()
        before, _ = cuda.memory()
        for _ in range(200):
            cuda.device_memory(1 << 22).free()
            cuda.host_memory(1 << 16).free()
        after, _ = cuda.memory()
    assert before - after <= 4 << 20


STICKY = """
import sys
import ctypes
from edge_mtl.cuda import CudaError, open_cuda
cuda = open_cuda(binding=sys.argv[1])
with cuda.active():
    stream = cuda.stream()
    from edge_mtl.cuda.letterbox import LetterboxKernel
    kernel = LetterboxKernel(cuda)._kernel
    wrong = [ctypes.c_void_p(64), ctypes.c_void_p(128), ctypes.c_longlong(300)]
    numbers = [ctypes.c_int(value) for value in (64, 96, 64, 96, 64, 96, 0, 0, 1, 0, 0)]
    kernel.launch((3, 8), (32, 8), [*wrong, *numbers], stream)
    seen = []
    for _ in range(2):
        try:
            stream.synchronize()
        except CudaError as exc:
            seen.append((exc.code, exc.sticky))
    print(seen)
import os
sys.stdout.flush()
os._exit(0)
"""


def test_an_illegal_address_is_sticky(cuda: Cuda):
    name = cuda.binding.split()[0]
    done = subprocess.run([sys.executable, "-c", STICKY, name], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == str([("CUDA_ERROR_ILLEGAL_ADDRESS", True)] * 2), done.stderr


@pytest.mark.parametrize("size", [(64, 96), (120, 213), (480, 640), (33, 47)])
@pytest.mark.parametrize("planar", [False, True])
def test_the_letterbox_kernel_makes_what_opencv_makes(cuda: Cuda, size, planar):
    frame = make_image(3, height=size[0], width=size[1])
    box = letterbox(size, (64, 96))
    spec = TensorSpec((1, 3, 64, 96) if planar else (1, 64, 96, 3), np.dtype(np.float32 if planar else np.uint8))
    expected = np.empty(spec.shape[1:], spec.dtype)
    (prepare_planes if planar else prepare_pixels)(frame, box, expected)
    with cuda.active():
        stream, kernel = cuda.stream(), LetterboxKernel(cuda)
        pinned, source = cuda.host_memory(frame.nbytes), cuda.device_memory(frame.nbytes)
        target, back = cuda.device_memory(expected.nbytes), cuda.host_memory(expected.nbytes)
        pinned.array[:] = frame.reshape(-1)
        cuda.copy_in(source.address, pinned.array, stream)
        array = DeviceArray.contiguous(source.address, frame.shape, frame.dtype, device=cuda.index, owner=source)
        kernel(DeviceFrame(array, box, "rgb"), target.address, spec, stream)
        cuda.copy_out(back.array, target.address, stream)
        stream.synchronize()
        found = back.array.view(spec.dtype).reshape(expected.shape).copy()
        for thing in (kernel, pinned, source, target, back, stream):
            thing.free()
    assert np.abs(found.astype(np.float32) - expected.astype(np.float32)).max() <= 1


def test_pytorch_shares_the_context_and_survives_our_end(cuda: Cuda):
    torch = pytest.importorskip("torch", reason="needs torch")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch with CUDA")
    tensor = torch.arange(24, dtype=torch.float32, device="cuda").reshape(2, 3, 4)
    torch.cuda.synchronize()
    theirs = device_array(tensor)
    assert theirs.address == tensor.data_ptr()
    with cuda.active():
        stream, memory = cuda.stream(), cuda.device_memory(theirs.nbytes)
        cuda.copy_device(memory.address, theirs.address, theirs.nbytes, stream)
        stream.synchronize()
        ours = DeviceArray.contiguous(memory.address, theirs.shape, theirs.dtype, device=cuda.index, owner=memory)
        for passed in (torch.as_tensor(ours, device="cuda"), torch.from_dlpack(ours)):
            assert torch.equal(passed, tensor)
            del passed
        memory.free()
        stream.free()
    cuda.close()
    assert float((tensor * 2).sum()) == 552.0
