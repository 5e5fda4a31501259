"""Every error this package raises on purpose, as one tree.

    EdgeMtlError
      BundleError            missing, corrupt, unknown format, hash mismatch; of labelled frames and benchmarks' files too
        EngineMismatch       built for another device, driver or runtime version
        SignatureError       not signed, by another key, or altered since; a key that cannot be used
        TaskError            a task that is not there, was not asked for, or cannot answer as asked
      BackendUnavailable     the runtime or device is not here (names the extra to install)
      FrameError             also ValueError: shape, dtype, empty
        SourceEndedEarly     a recording ended before the number of frames that it announces
      DepthScaleError        also ValueError: an implausible factor, another bundle's, readings that give none
      CalibrationError       no frames, unreadable frames, constant activations
      AccuracyError          a head misses its budget; the self-test disagrees with the reference
      BuildError             an engine, graph, dataset or file could not be made
      InferenceError         a runtime failed while running
      EngineClosed           used after close(), or in a forked child
      RegressionError        a benchmark is slower than the one it is compared with
      SystemFault            the operating system refuses what is needed: a disk, memory, threads, descriptors

A message says what was expected, what was found and what to do next. Vendor exceptions are translated once, where
the vendor's code is called, with `raise ... from exc`.
"""

from __future__ import annotations

__all__ = [
    "AccuracyError",
    "BackendUnavailable",
    "BuildError",
    "BundleError",
    "CalibrationError",
    "DepthScaleError",
    "EdgeMtlError",
    "EngineClosed",
    "EngineMismatch",
    "FrameError",
    "InferenceError",
    "RegressionError",
    "SignatureError",
    "SourceEndedEarly",
    "SystemFault",
    "TaskError",
]


class EdgeMtlError(Exception):
    """Base of all errors raised by edge_mtl. `exit_code` is what the command line returns for it."""

    exit_code: int = 1


class BundleError(EdgeMtlError):
    """A bundle, one of its files, labelled frames or a benchmark's file is missing, corrupt, altered or of unknown format."""

    exit_code = 3


class EngineMismatch(BundleError):
    """An engine was built for another device, driver or runtime version, or there is none yet."""

    exit_code = 4


class SignatureError(BundleError):
    """A bundle is not signed, by another key, or was altered since; or a key or a signature cannot be used."""

    exit_code = 17


class TaskError(BundleError):
    """A task that the bundle or the engine does not have, whose result was not asked for, or that cannot answer as asked."""


class BackendUnavailable(EdgeMtlError):
    """The runtime or the device is not here; the message names the extra to install."""

    exit_code = 5


class FrameError(EdgeMtlError, ValueError):
    """A frame, image or video cannot be used: shape, dtype, empty, unreadable."""

    exit_code = 6


class SourceEndedEarly(FrameError):
    """A video or bag ended before the number of frames that it announces; those before can be used."""

    exit_code = 16


class DepthScaleError(EdgeMtlError, ValueError):
    """A scale of depth that is not plausible, unreadable or another bundle's, or readings that do not give one."""

    exit_code = 12


class CalibrationError(EdgeMtlError):
    """No calibration frames, too many unreadable ones, or activations that never change."""

    exit_code = 7


class AccuracyError(EdgeMtlError):
    """A head misses its accuracy budget, or the self-test disagrees with the reference."""

    exit_code = 8


class BuildError(EdgeMtlError):
    """An engine, a graph, a dataset or a file could not be made; nothing half-written is left."""

    exit_code = 9


class InferenceError(EdgeMtlError):
    """A runtime failed while running a graph."""

    exit_code = 10


class EngineClosed(EdgeMtlError):
    """The engine was used after close(), or in a forked child that does not own it."""

    exit_code = 11


class RegressionError(EdgeMtlError):
    """Something became slower, beyond what noise explains and by more than was allowed, or is not measured any more."""

    exit_code = 15


class SystemFault(EdgeMtlError):
    """The operating system refuses what is needed: room on a disk, a permission, memory, threads, open files."""

    exit_code = 74
