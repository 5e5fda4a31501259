"""The few functions of CUDA's driver that pycuda does not have: graphs, names of errors, contexts and streams of others.

Called through ctypes on the library that pycuda itself has loaded, with the handles pycuda gives. Knows no memory.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

from edge_mtl.cuda.errors import cuda_error
from edge_mtl.cuda.protocol import Stream

__all__ = ["DriverGraph", "DriverLibrary", "begin_capture", "driver_library", "end_capture"]

_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads, PyTorch's say, may allocate meanwhile."""

_HANDLE = ctypes.c_void_p
_OUT = ctypes.POINTER(ctypes.c_void_p)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuStreamBeginCapture_v2": (_HANDLE, ctypes.c_int),
    "cuStreamEndCapture": (_HANDLE, _OUT),
    "cuGraphInstantiateWithFlags": (_OUT, _HANDLE, ctypes.c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGraphDestroy": (_HANDLE,),
    "cuStreamSynchronize": (_HANDLE,),
    "cuCtxPopCurrent_v2": (_OUT,),
}
_LARGEST_CODE = 1000


class DriverLibrary:
    """CUDA's driver by ctypes.

    Attributes:
        missing: functions of `_SIGNATURES` that this driver lacks (graphs need CUDA 11.4).
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self.missing = tuple(name for name in _SIGNATURES if not hasattr(library, name))
        for name, arguments in _SIGNATURES.items():
            if name not in self.missing:
                function = getattr(library, name)
                function.argtypes, function.restype = arguments, ctypes.c_int

    def call(self, name: str, *arguments: Any) -> None:
        """Call and raise what `cuda_error` makes of a failure."""
        result = getattr(self._library, name)(*arguments)
        if result != 0:
            code, text = self._describe(result)
            raise cuda_error(name, code, text)

    @functools.cached_property
    def codes(self) -> dict[str, str]:
        """The driver's name of an error by the driver's sentence about it: pycuda's exceptions hold only the latter."""
        found = (self._describe(code) for code in range(1, _LARGEST_CODE))
        return {text: name for name, text in found if text}

    def _describe(self, code: int) -> tuple[str, str]:
        texts = []
        for function in (self._library.cuGetErrorName, self._library.cuGetErrorString):
            function.argtypes, function.restype = (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)), ctypes.c_int
            text = ctypes.c_char_p()
            known = function(code, ctypes.byref(text)) == 0 and text.value is not None
            texts.append(text.value.decode(errors="replace") if known and text.value else "")
        return texts[0] or f"error {code}", texts[1]


class DriverGraph:
    """See `edge_mtl.cuda.protocol.Graph`."""

    def __init__(self, driver: DriverLibrary, executable: int) -> None:
        self._driver, self._executable = driver, executable

    def launch(self, stream: Stream) -> None:
        self._driver.call("cuGraphLaunch", self._executable, stream.handle)

    def free(self) -> None:
        executable, self._executable = self._executable, 0
        if executable:
            self._driver.call("cuGraphExecDestroy", executable)


@functools.cache
def driver_library() -> DriverLibrary:
    """Raises OSError where there is no driver."""
    return DriverLibrary(ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"))


def begin_capture(driver: DriverLibrary, stream: Stream) -> None:
    """See `edge_mtl.cuda.protocol.Cuda.begin_capture`."""
    driver.call("cuStreamBeginCapture_v2", stream.handle, _THREAD_LOCAL)


def end_capture(driver: DriverLibrary, stream: Stream) -> DriverGraph:
    """See `edge_mtl.cuda.protocol.Cuda.end_capture`."""
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    driver.call("cuStreamEndCapture", stream.handle, ctypes.byref(graph))
    try:
        driver.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, 0)
    finally:
        driver.call("cuGraphDestroy", graph)
    return DriverGraph(driver, executable.value or 0)
