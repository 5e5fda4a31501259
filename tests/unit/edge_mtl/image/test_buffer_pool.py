"""Arrays that are used again, and only once nobody holds them."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from edge_mtl.image.buffer_pool import BufferPool


def test_an_array_is_handed_out_again_once_nobody_holds_it_or_a_view_of_it() -> None:
    pool = BufferPool()
    first = pool.take((4, 6))
    place, view = first.ctypes.data, first[1:]
    del first
    second = pool.take((4, 6))
    assert second.ctypes.data != place, "a view is still held"
    del view
    assert pool.take((4, 6)).ctypes.data == place
    assert place % 64 == 0


def test_above_its_limit_the_pool_keeps_nothing() -> None:
    pool = BufferPool(limit_bytes=100)
    assert pool.take((1000,), np.uint8).shape == (1000,)
    assert pool._kept_bytes == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    pool = BufferPool()
    with pool._lock:  # as of a thread that was interrupted by the fork
        child = os.fork()
        if child == 0:
            os._exit(0 if pool.take((2, 2)).shape == (2, 2) else 1)
        for _ in range(1000):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.01)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hung")
    assert os.waitstatus_to_exitcode(status) == 0
