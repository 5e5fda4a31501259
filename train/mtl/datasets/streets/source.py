"""Rendered streets as a data set: objects, drivable area, lanes, depth; on demand pixel classes, normals, kinds of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edge_mtl.tasks import Specs
from mtl.datasets.data_set import DataSet
from mtl.datasets.frame import Frame
from mtl.datasets.task_choice import chosen, problem_of, with_more
from mtl.datasets.worlds.cache import Split, size_folders
from mtl.datasets.worlds.frames import RenderedFrames, made_in

from .classes import SCENES, TIMES, WEATHERS
from .dataset import WORLD, StreetsDataset
from .render import RENDERER_VERSION, StreetOptions, StreetSample
from .tasks import DEFAULT_TASKS, STREET_TASKS, truth_of

if TYPE_CHECKING:
    from mtl.settings import DataSettings, Stage

__all__ = ["StreetFrames", "Streets", "StreetsRequest", "options_of"]


class Streets(DataSet):
    """See the module. `data.train`, `data.validation` and `data.test` of them, at the size of the data or of a stage.

    `data.conditions` names the kinds of scene, weather and time of day that there are; of a group of which it names none, all.
    """

    name = "streets"
    frames: ClassVar[str] = "procedural streets"
    renders: ClassVar[bool] = True
    options = frozenset({"conditions"})

    def holds(self, root: Path) -> bool:
        return bool(size_folders(root, WORLD))

    def title(self, data: DataSettings) -> str:
        only = f", {', '.join(data.conditions)} only" if data.conditions else ""
        return f"procedural streets, renderer {RENDERER_VERSION}{only}"

    def licence(self, data: DataSettings) -> str:
        return "rendered by this package from seeds; no third-party data"

    def redistributable(self, data: DataSettings) -> bool:
        return True

    def tasks(self, data: DataSettings) -> Specs:
        return chosen(data.tasks, STREET_TASKS, default=DEFAULT_TASKS)

    def with_truths(self, data: DataSettings, tasks: Sequence[str]) -> DataSettings:
        return with_more(data, tasks, STREET_TASKS, default=DEFAULT_TASKS)

    def train_frames(self, data: DataSettings, stage: Stage) -> StreetsRequest:
        height, width = stage.render_height or data.height, stage.render_width or data.width
        return StreetsRequest(data.root, "train", stage.train or data.train, height, width, data.tasks, data.conditions)

    def held_out_frames(self, data: DataSettings, split: Split) -> StreetsRequest:
        count = data.test if split == "test" else data.validation
        return StreetsRequest(data.root, split, count, data.height, data.width, data.tasks, data.conditions)

    def train_count(self, data: DataSettings) -> int:
        return data.train

    def counts(self, data: DataSettings) -> str:
        return f"{data.train} training, {data.validation} validation, {data.test} test"

    def problem(self, data: DataSettings) -> str | None:
        if data.validation_from_train:
            return 'data.validation_from_train is for data.kind "nyuv2"; streets have data.validation of their own'
        try:
            options_of(data.conditions)
        except ValueError as exc:
            return f"data.conditions: {exc}"
        return problem_of(data.tasks, STREET_TASKS, default=DEFAULT_TASKS)


def options_of(conditions: Sequence[str]) -> StreetOptions:
    """Streets of the kinds named, of all kinds of a group of which none is. Raises ValueError for a word that is no kind."""
    groups = {"scenes": SCENES, "weathers": WEATHERS, "times": TIMES}
    strange = [one for one in conditions if not any(one in known for known in groups.values())]
    if strange:
        known = ", ".join(one for group in groups.values() for one in group)
        raise ValueError(f"expected some of {known}; found {strange[0]!r}")
    named: dict[str, Any] = {
        name: tuple(one for one in known if one in conditions) or known for name, known in groups.items()
    }  # fmt: skip
    return StreetOptions(**named)


@dataclass(frozen=True, slots=True)
class StreetsRequest:
    """Streets by description. Opening renders what is missing; worker processes then open the same files.

    Attributes:
        tasks: what frames have truths of; none named stands for `DEFAULT_TASKS`.
        conditions: see `options_of`.
    """

    root: str
    split: Split
    count: int
    height: int
    width: int
    tasks: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()

    def open(self, *, workers: int = 1, progress: bool = False) -> StreetFrames:
        """The streets, rendered if need be. Raises BuildError when they cannot be, and for unknown tasks and conditions."""
        tasks = chosen(self.tasks, STREET_TASKS, default=DEFAULT_TASKS)
        with made_in(self, "streets"):
            streets = StreetsDataset(
                Path(self.root),
                self.split,
                self.count,
                height=self.height,
                width=self.width,
                options=options_of(self.conditions),
                workers=workers,
                progress=progress,
            )
        return StreetFrames(streets, tasks)


class StreetFrames(RenderedFrames[StreetSample]):
    """Rendered streets as `Frame`s that have truths of `tasks`."""

    def __init__(self, streets: StreetsDataset, tasks: Specs) -> None:
        super().__init__(streets, tasks, "street", _frame)


def _frame(street: StreetSample, tasks: Specs) -> Frame:
    return Frame(street.image, {task: truth_of(task, street) for task in tasks}, street.intrinsics)
