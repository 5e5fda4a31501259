"""The process: signals, initialisation, spinning, exit code. Knows how to end; what the node does is elsewhere.

rclpy's own signal handlers make ending unreliable, so they are off: a handler sets an event, the executor spins in a thread,
and this thread waits, then takes everything down in order.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from typing import Any

__all__ = ["WRONG_ARGUMENTS", "main"]

WRONG_ARGUMENTS = 2
"""Exit code where the arguments or parameters are wrong: starting again does not help."""

_LOOK_S = 0.5
"""How often the main thread looks for a signal: where another thread received it, nothing wakes the one that handles it."""
_SPIN_END_S = 4.0
"""How long the executor may take to end before the process leaves without it; locks are freed by the kernel then."""
_CLOSE_END_S = 8.0
"""How long freeing everything may take: a runtime that hangs, or has lost its device, may never return."""
_THREADS_END_S = 2.0
"""How long other threads, such as one that loads an engine, may take to notice the end."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(arguments: list[str] | None = None) -> int:
    """Run the node until SIGINT, SIGTERM or a fault that it cannot recover from."""
    stop, importing = threading.Event(), True

    def end(*_: object) -> None:
        stop.set()
        if importing:
            os._exit(0)  # seconds on a slow machine, and nothing to take down yet

    for number in _SIGNALS:
        signal.signal(number, end)

    from edge_mtl_ros.profile import use_shared_memory

    remark = use_shared_memory()
    import rclpy
    from rclpy.exceptions import NameValidationException, ParameterException
    from rclpy.executors import SingleThreadedExecutor

    from edge_mtl.errors import BackendUnavailable

    try:
        from edge_mtl_ros.perception_node import PerceptionNode
    except BackendUnavailable as exc:  # OpenCV is missing or broken
        return _refuse(exc, exc.exit_code)

    importing = False
    try:
        try:
            _initialise(arguments)
        except Exception as exc:  # of types that differ between distributions
            return _refuse(exc, WRONG_ARGUMENTS)
        try:
            node = PerceptionNode(stop=stop)
        except (ValueError, ParameterException, NameValidationException) as exc:
            return _refuse(exc, WRONG_ARGUMENTS)
        except Exception as exc:
            return _refuse(exc, 1)
        if remark:
            node.get_logger().warning(remark)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.create_task(node.start)
        spinning = threading.Thread(target=_spin, args=(executor, node, stop), name="edge_mtl-spin", daemon=True)
        spinning.start()
        while not stop.wait(_LOOK_S):
            pass
        doing = node.activity
        executor.wake()
        spinning.join(_SPIN_END_S)
        if spinning.is_alive():
            node.get_logger().error("a callback did not end; leaving without it")
            _leave(node.exit_code or 1)
        executor.shutdown(timeout_sec=0)
        closing = threading.Thread(target=_close, args=(node,), name="edge_mtl-close", daemon=True)
        closing.start()
        closing.join(_CLOSE_END_S)
        if closing.is_alive():
            node.get_logger().error("the runtime could not be closed; leaving without it")
            _leave(node.exit_code or 1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the interpreter would give them back their default at its end
        if not _alone(_THREADS_END_S):
            if doing:
                node.get_logger().info(f"ended while {doing}")
            _leave(node.exit_code)
        return int(node.exit_code)
    finally:
        rclpy.try_shutdown()


def _initialise(arguments: list[str] | None) -> None:
    """Initialise rclpy. Raises what that does where it does not understand its arguments, ValueError for those of nobody."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    from rclpy.utilities import remove_ros_args

    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    _, *others = remove_ros_args(args=sys.argv if arguments is None else ["perception_node", *arguments])
    if others:
        raise ValueError(f"unknown arguments: {' '.join(others)}. Parameters follow --ros-args: --ros-args -p bundle:=FOLDER")


def _refuse(why: Exception, code: int) -> int:
    """Say why the node does not start, in one line; returns the exit code. Places in the sources of rcl are left out."""
    said = re.sub(r",? at \S+:\d+", "", " ".join(str(why).split())).strip(" ,")
    if " " not in said:
        said = f"{type(why).__name__}: {said}"
    sys.stderr.write(f"perception_node: cannot start: {said}\n")
    return code


def _close(node: Any) -> None:
    """Close the node; a runtime that hangs cannot be freed, by the end of the interpreter neither."""
    try:
        node.close()
    except Exception as exc:
        node.get_logger().error(f"{exc} Leaving without it.")
        _leave(node.exit_code or 1)


def _alone(timeout_s: float) -> bool:
    """Whether all other threads have ended, after waiting this long for them.

    A thread that is inside a runtime when the interpreter ends aborts the process: it cannot come back from there.
    """
    end_s = time.monotonic() + timeout_s
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    for thread in others:
        thread.join(max(0.0, end_s - time.monotonic()))
    return not any(thread.is_alive() for thread in others)


def _leave(code: int) -> None:
    """End the process now; the kernel frees what is left."""
    sys.stderr.flush()
    os._exit(code)


def _spin(executor: Any, node: Any, stop: threading.Event) -> None:
    """Spin; an exception out of a callback is logged, and spinning continues."""
    from rclpy.executors import ExternalShutdownException, ShutdownException

    while not stop.is_set():
        try:
            executor.spin_once(timeout_sec=0.5)
        except (ExternalShutdownException, ShutdownException):
            stop.set()
        except Exception as exc:
            if not stop.is_set():
                node.get_logger().error(f"a callback failed: {type(exc).__name__}: {exc}")


if __name__ == "__main__":
    sys.exit(main())
