"""pycuda.driver as far as `edge_mtl.cuda.pycuda_binding` uses it, with its rules: contexts are pushed and popped by hand,
objects belong to the context that was current, and errors say "function failed: sentence". Read from pycuda 2026.1's source.
"""

import ctypes
import weakref

import numpy as np

_cuda = ctypes.CDLL("libcuda.so.1")


class Error(Exception):
    pass


class LogicError(Error):
    pass


class MemoryError(Error):
    pass


class host_alloc_flags:  # noqa: N801
    PORTABLE, DEVICEMAP, WRITECOMBINED = 1, 2, 4


class event_flags:  # noqa: N801
    DEFAULT, BLOCKING_SYNC, DISABLE_TIMING = 0, 1, 2


class device_attribute:  # noqa: N801
    INTEGRATED = 18


def _call(name, *arguments):
    result = getattr(_cuda, name)(*arguments)
    if result:
        text = ctypes.c_char_p()
        _cuda.cuGetErrorString(result, ctypes.byref(text))
        kind = MemoryError if result == 2 else LogicError
        raise kind(f"{name.removesuffix('_v2')} failed: {text.value.decode()}")


def _made(name, *arguments):
    out = ctypes.c_void_p()
    _call(name, ctypes.byref(out), *arguments)
    return out.value


def _at(address):
    return ctypes.c_void_p(address)


def init(flags=0):
    _call("cuInit", flags)


def get_driver_version():
    out = ctypes.c_int()
    _call("cuDriverGetVersion", ctypes.byref(out))
    return out.value


def mem_get_info():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


class Device:
    def __init__(self, index):
        self._index = index

    @staticmethod
    def count():
        out = ctypes.c_int()
        _call("cuDeviceGetCount", ctypes.byref(out))
        return out.value

    def name(self):
        text = ctypes.create_string_buffer(256)
        _call("cuDeviceGetName", text, 256, self._index)
        return text.value.decode()

    def compute_capability(self):
        return self.get_attribute(75), self.get_attribute(76)

    def total_memory(self):
        out = ctypes.c_size_t()
        _call("cuDeviceTotalMem_v2", ctypes.byref(out), self._index)
        return out.value

    def get_attribute(self, kind):
        out = ctypes.c_int()
        _call("cuDeviceGetAttribute", ctypes.byref(out), kind, self._index)
        return out.value

    def retain_primary_context(self):
        return Context(_made("cuDevicePrimaryCtxRetain", self._index), self._index)


class Context:
    def __init__(self, handle, device):
        self._handle, self._device, self._valid = handle, device, True

    def push(self):
        _call("cuCtxPushCurrent_v2", _at(self._handle))

    @staticmethod
    def pop():
        _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def detach(self):
        assert self._valid
        self._valid = False
        _call("cuDevicePrimaryCtxRelease_v2", self._device)


class Stream:
    def __init__(self, flags=0):
        self.handle = _made("cuStreamCreate", flags)
        weakref.finalize(self, _cuda.cuStreamDestroy_v2, _at(self.handle)).atexit = False

    def synchronize(self):
        _call("cuStreamSynchronize", _at(self.handle))

    def wait_for_event(self, event):
        _call("cuStreamWaitEvent", _at(self.handle), _at(event.handle), 0)


class Event:
    def __init__(self, flags=0):
        self.handle = _made("cuEventCreate", flags)
        weakref.finalize(self, _cuda.cuEventDestroy_v2, _at(self.handle)).atexit = False

    def record(self, stream=None):
        _call("cuEventRecord", _at(self.handle), _at(stream.handle))
        return self

    def synchronize(self):
        _call("cuEventSynchronize", _at(self.handle))
        return self

    def time_since(self, earlier):
        out = ctypes.c_float()
        _call("cuEventElapsedTime", ctypes.byref(out), _at(earlier.handle), _at(self.handle))
        return out.value


class DeviceAllocation:
    def __init__(self, nbytes):
        self._address = _made("cuMemAlloc_v2", ctypes.c_size_t(nbytes))

    def __int__(self):
        return self._address

    def free(self):
        _call("cuMemFree_v2", _at(self._address))


def mem_alloc(nbytes):
    return DeviceAllocation(nbytes)


class PagelockedHostAllocation:
    def __init__(self, nbytes, flags):
        self._address = _made("cuMemHostAlloc", ctypes.c_size_t(nbytes), flags)
        self._nbytes = nbytes

    @property
    def __array_interface__(self):
        return {"shape": (self._nbytes,), "typestr": "|u1", "data": (self._address, False), "version": 3}

    def get_device_pointer(self):
        return _made("cuMemHostGetDevicePointer_v2", _at(self._address), 0)

    def free(self):
        _call("cuMemFreeHost", _at(self._address))


def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
    assert np.dtype(dtype) == np.uint8
    return np.asarray(PagelockedHostAllocation(int(shape), mem_flags))


def memcpy_htod_async(dest, src, stream=None):
    _call("cuMemcpyHtoDAsync_v2", _at(dest), _at(src.ctypes.data), ctypes.c_size_t(src.nbytes), _at(stream.handle))


def memcpy_dtoh_async(dest, src, stream=None):
    _call("cuMemcpyDtoHAsync_v2", _at(dest.ctypes.data), _at(src), ctypes.c_size_t(dest.nbytes), _at(stream.handle))


def memcpy_dtod_async(dest, src, size, stream=None):
    _call("cuMemcpyDtoDAsync_v2", _at(dest), _at(src), ctypes.c_size_t(size), _at(stream.handle))


class Function:
    def __init__(self, handle):
        self._handle = handle

    def prepare(self, types):
        self._types = types

    def prepared_async_call(self, grid, block, stream, *values):
        assert len(grid) == len(block) == 3
        kinds = {"P": ctypes.c_void_p, "i": ctypes.c_int, "q": ctypes.c_longlong, "l": ctypes.c_long}
        held = [kinds[kind](value) for kind, value in zip(self._types, values, strict=True)]
        given = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
        _call("cuLaunchKernel", _at(self._handle), *grid, *block, 0, _at(stream.handle), given, None)


class Module:
    def __init__(self, handle):
        self._handle = handle

    def get_function(self, name):
        return Function(_made("cuModuleGetFunction", _at(self._handle), name.encode()))


def module_from_buffer(buffer):
    assert buffer.endswith(b"\0"), "PTX ends with a zero"
    return Module(_made("cuModuleLoadData", buffer))
