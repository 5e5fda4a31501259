"""Which tasks are asked for, and results that are finished when they are read."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edge_mtl.errors import BundleError, TaskError
from edge_mtl.tasks import NYU_TASKS, DepthMap, LabelMap, NormalMap, Result
from edge_mtl.tasks.asked import LazyResults, asked_of
from edge_mtl.tasks.points import first_of
from tests.bundles import answer_of


def test_tasks_come_in_the_bundles_order_once_each_and_all_of_them_by_default() -> None:
    assert asked_of(NYU_TASKS, None) is NYU_TASKS
    assert list(asked_of(NYU_TASKS, ["normals", "depth", "normals"])) == ["depth", "normals"]


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (("depht",), r"no task 'depht'\. This bundle predicts segmentation, depth, normals"),
        (("depth", "lane", "boxes"), r"no task 'lane', 'boxes'\."),
        ((), "at least one task, or be None for all; found none"),
        ("depth", r"should be names, such as \('depth',\); found the text 'depth'"),
    ],
)
def test_what_is_no_task_is_refused_with_the_tasks_there_are(tasks: tuple[str, ...] | str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        asked_of(NYU_TASKS, tasks)
    assert issubclass(TaskError, BundleError)


class Counted:
    """Finishers of the study's tasks that note who was called."""

    def __init__(self, *, bad: int = 0, seconds: float = 0.0) -> None:
        made = answer_of(
            {
                "segmentation": np.zeros((4, 6), np.uint8),
                "depth": np.ones((4, 6), np.float32),
                "normals": np.zeros((4, 6, 3), np.float32),
            }
        ).results
        self.calls: list[str] = []

        def finisher(name: str, result: Result):
            def finish() -> tuple[Result, int]:
                self.calls.append(name)
                time.sleep(seconds)
                return result, bad

            return finish

        self.results = LazyResults(NYU_TASKS, {name: finisher(name, result) for name, result in made.items()}, (4, 6))


def test_names_finish_nothing_and_a_result_is_finished_once() -> None:
    counted = Counted(bad=2)
    results = counted.results
    assert (list(results), len(results), "depth" in results, "lane" in results) == (list(NYU_TASKS), 3, True, False)
    assert (results.get("lane"), results.bad_values, results.finished, counted.calls) == (None, 0, (), [])
    assert results["depth"] is results["depth"]
    assert (results.bad_values, results.finished, counted.calls) == (2, ("depth",), ["depth"])
    assert [type(result) for result in results.values()] == [LabelMap, DepthMap, NormalMap]
    assert (results.bad_values, counted.calls) == (6, ["depth", "segmentation", "normals"])


def test_the_first_of_a_class_is_found_without_finishing_the_others() -> None:
    counted = Counted()
    assert isinstance(first_of(counted.results, NormalMap), NormalMap)
    assert counted.calls == ["normals"]
    assert first_of(LazyResults({}, {}, (4, 6)), DepthMap) is None


def test_threads_that_read_one_result_finish_it_once_and_get_the_same() -> None:
    counted = Counted(seconds=0.02)
    found: list[Result] = []
    threads = [threading.Thread(target=lambda: found.append(counted.results["depth"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.calls == ["depth"]
    assert len({id(result) for result in found}) == 1
    assert len(found) == 8


def test_a_failure_is_raised_to_whoever_reads_and_tried_again() -> None:
    attempts = []

    def finish() -> tuple[Result, int]:
        attempts.append(1)
        if len(attempts) == 1:
            raise MemoryError
        return answer_of({"depth": np.ones((2, 2), np.float32)}).results["depth"], 0

    results = LazyResults({"depth": NYU_TASKS["depth"]}, {"depth": finish}, (2, 2))
    with pytest.raises(MemoryError):
        results["depth"]
    assert results.finished == ()
    assert isinstance(results["depth"], DepthMap)
