"""Arrays on a GPU: what others say about theirs, what ours say, and errors and presence. Nothing here touches a GPU."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import numpy as np
import pytest

from edge_mtl import cuda as cuda_package
from edge_mtl.cuda import BINDINGS, CudaError, CudaOutOfMemory, dlpack, open_cuda
from edge_mtl.cuda.arrays import DeviceArray, device_array, is_on_device
from edge_mtl.cuda.errors import STICKY, cuda_error
from edge_mtl.cuda.presence import no_gpu
from edge_mtl.errors import BackendUnavailable, FrameError


def ours(shape=(2, 3, 4), kind="f4") -> DeviceArray:
    return DeviceArray.contiguous(0x1000, shape, np.dtype(kind), device=1, owner=None)


class DlpackOnly:
    def __init__(self, array: DeviceArray) -> None:
        self.array = array

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream=None):
        return self.array.__dlpack__(stream=stream)


@pytest.mark.parametrize("kind", ["u1", "i8", "f2", "f4", "?"])
def test_an_array_passes_through_both_conventions_unchanged(kind):
    array = ours(kind=kind)
    for passed in (SimpleNamespace(__cuda_array_interface__=array.__cuda_array_interface__), DlpackOnly(array)):
        assert is_on_device(passed)
        found = device_array(passed)
        assert (found.address, found.shape, found.dtype, found.strides) == (0x1000, (2, 3, 4), np.dtype(kind), array.strides)
        assert found.is_contiguous
        assert found.nbytes == array.nbytes


def test_strides_survive():
    array = DeviceArray(0x1000, (4, 5, 3), np.dtype("u1"), (64, 3, 1), None, 0, None)
    for passed in (SimpleNamespace(__cuda_array_interface__=array.__cuda_array_interface__), DlpackOnly(array)):
        assert device_array(passed).strides == (64, 3, 1)
        assert not device_array(passed).is_contiguous


def test_what_a_capsule_holds_lives_exactly_as_long_as_it_is_used():
    gc.collect()
    before = len(dlpack._EXPORTED)
    capsule = ours().__dlpack__()
    tensor = dlpack.import_capsule(capsule)
    with pytest.raises(ValueError, match="consumed"):
        dlpack.import_capsule(capsule)
    del capsule
    gc.collect()
    assert len(dlpack._EXPORTED) == before + 1
    del tensor
    gc.collect()
    assert len(dlpack._EXPORTED) == before
    unused = ours().__dlpack__()
    assert len(dlpack._EXPORTED) == before + 1
    del unused
    assert len(dlpack._EXPORTED) == before


def test_arrays_on_the_host_are_not_on_the_gpu():
    class Tensor:
        @property
        def __cuda_array_interface__(self):
            raise AttributeError("a tensor on the CPU")

    for value in (np.zeros(3), [1, 2], None, "text", Tensor(), memoryview(b"x")):
        assert not is_on_device(value)
        with pytest.raises(FrameError, match="on the GPU was expected"):
            device_array(value)


@pytest.mark.parametrize("change", [{"shape": None}, {"typestr": "?!"}, {"data": ()}, {"mask": object()}, {"data": None}])
def test_a_wrong_description_is_a_frame_error(change):
    interface = {**ours().__cuda_array_interface__, **change}
    with pytest.raises(FrameError, match="describe itself"):
        device_array(SimpleNamespace(__cuda_array_interface__=interface))


def test_a_capsule_of_another_device_is_refused():
    class OnCpu(DlpackOnly):
        def __dlpack_device__(self):
            return 1, 0

    assert not is_on_device(OnCpu(ours()))
    for wrong in (object(), 3, b"dltensor"):
        with pytest.raises(ValueError, match="capsule"):
            dlpack.import_capsule(wrong)


def test_errors_are_typed_by_what_can_be_done_about_them():
    full = cuda_error("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory")
    assert isinstance(full, CudaOutOfMemory)
    assert not full.sticky
    lost = cuda_error("cuStreamSynchronize", "CUDA_ERROR_ILLEGAL_ADDRESS")
    assert isinstance(lost, CudaError)
    assert lost.sticky
    assert "start it again" in str(lost)
    passing = cuda_error("cuLaunchKernel", "CUDA_ERROR_INVALID_VALUE", "invalid argument")
    assert (passing.sticky, passing.exit_code) == (False, 10)
    assert "invalid argument" in str(passing)
    for code in ("CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"):
        assert isinstance(cuda_error("cuInit", code), BackendUnavailable)
    assert "CUDA_ERROR_INVALID_VALUE" not in STICKY


@pytest.mark.parametrize("node", ["nvidia0", "nvhost-gpu", "nvgpu/igpu0", "dxg"])
def test_a_gpu_is_seen_by_its_device_file_and_may_be_hidden(tmp_path, monkeypatch, node):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "no NVIDIA GPU" in no_gpu(root=tmp_path)
    (tmp_path / "dev" / node).parent.mkdir(parents=True)
    (tmp_path / "dev" / node).touch()
    assert no_gpu(root=tmp_path) == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "hides" in no_gpu(root=tmp_path)


def test_no_binding_an_unknown_one_and_no_driver_are_typed(monkeypatch):
    with pytest.raises(BackendUnavailable, match="Unknown CUDA binding"):
        open_cuda(binding="opencl")
    with pytest.raises(BackendUnavailable, match="0 or more"):
        open_cuda(-1, binding="pycuda")
    for name in BINDINGS:
        if no_gpu():
            with pytest.raises(BackendUnavailable, match=r"driver|not installed"):
                open_cuda(binding=name)
    monkeypatch.setattr(cuda_package, "_found", lambda package: False)
    with pytest.raises(BackendUnavailable, match="Neither pycuda nor cuda-bindings"):
        open_cuda()
