"""Whether the images of a data set go into what is passed on, and what a bundle holds in their place where they may not.

Calibration frames become statistics, of which INT8 is the same graph; golden and evaluation frames become rooms that are
rendered here, which may go anywhere. Knows data sets and settings; writes no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_mtl.tasks import Specs
from mtl.datasets.sources import data_set, stand_in_tasks
from mtl.settings import DataSettings, ExportSettings, RunSettings

__all__ = ["TravellingImages", "embeds", "images_of", "kept_back"]


@dataclass(frozen=True, slots=True)
class TravellingImages:
    """What a bundle holds of images.

    Attributes:
        asked: `export.embed_images`.
        embedded: whether images of the data set itself are in it.
        withheld: titles and licences of the data sets whose images may not be passed on; empty where all may.
        labelled: whether the rooms that stand in for its evaluation frames have truths: their tasks are those of the network.
    """

    asked: str
    embedded: bool
    withheld: tuple[tuple[str, str], ...]
    labelled: bool

    def provenance(self) -> dict[str, Any]:
        """What the manifest says of it; nothing where frames travel because they may."""
        if self.embedded and self.asked == "auto":
            return {}
        if self.embedded:
            return {"images": {"embed_images": self.asked, "embedded": True}}
        evaluation = "rendered rooms with labels" if self.labelled else "rendered rooms without labels"
        travels = {"calibration": "statistics of frames", "evaluation": evaluation, "golden": "rendered rooms"}
        return {"images": {"embed_images": self.asked, "embedded": False, **travels}}

    def describe(self, export: ExportSettings, *, calibration: int, labelled: int) -> str | None:
        """One line for people; None where frames travel because they may.

        Args:
            calibration: how many frames INT8 is calibrated with.
            labelled: how many evaluation frames there are.
        """
        named = "; ".join(f"{title}, licence: {licence}" for title, licence in self.withheld)
        if self.embedded:
            return (
                f"images are embedded because export.embed_images is always, though they may not be passed on ({named}): "
                "who gets this bundle is your responsibility"
                if self.withheld
                else None
            )
        why = f"they may not be passed on ({named})" if self.withheld else "export.embed_images is never"
        labels = "with labels" if self.labelled else "without labels, so that INT8 is judged by its agreement with FP32"
        return (
            f"no image of the data set goes into the bundle: {why}. In their place: statistics of {calibration} calibration "
            f"frames, {labelled} rendered rooms {labels}, {export.golden} rendered rooms as golden frames. "
            "--export.embed_images always embeds images, on your own responsibility"
        )


def kept_back(data: DataSettings) -> tuple[tuple[str, str], ...]:
    """Titles and licences of the data sets in `data` whose images may not be passed on."""
    parts = data_set(data).parts(data)
    return tuple((one.title(own), one.licence(own)) for one, own in parts if not one.redistributable(own))


def embeds(settings: RunSettings) -> bool:
    """Whether images of the run's data set go into its bundle and into reports, as `export.embed_images` says."""
    asked = settings.export.embed_images
    return asked == "always" or (asked == "auto" and not kept_back(settings.data))


def images_of(settings: RunSettings, specs: Specs) -> TravellingImages:
    """What a bundle of a run holds.

    Args:
        specs: the tasks of the network.
    Raises:
        BuildError: a data set that cannot say under which terms its images are.
    """
    known = stand_in_tasks()
    labelled = all(known.get(name) == spec for name, spec in specs.items())
    return TravellingImages(settings.export.embed_images, embeds(settings), kept_back(settings.data), labelled)
