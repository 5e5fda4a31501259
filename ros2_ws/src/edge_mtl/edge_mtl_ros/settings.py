"""The node's parameters: names, defaults, descriptions, ranges, and what makes a set of them valid.

Knows values; imports nothing of ROS. A change is judged as a whole: either all of it is accepted or none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_mtl.depth_scale import check_factor
from edge_mtl.errors import DepthScaleError
from edge_mtl.tasks.floor_tracking import FloorOptions
from edge_mtl.tasks.obstacles import ObstacleLimits

__all__ = ["PARAMETERS", "Parameter", "Settings"]

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    Attributes:
        default: its value where none is given; also decides the type.
        description: for people; says when a change takes effect.
        limits: smallest and largest value of a number.
        choices: the allowed values of a text.
        read_only: it cannot change while the node runs.
        check: says what is wrong with a value of any type, in place of the other rules; empty if nothing is.
    """

    name: str
    default: Value
    description: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False
    check: Callable[[Any], str] | None = None


def _scale_fault(value: Any) -> str:
    """What is wrong with a scale of depth: a factor, its text, the name of a file that ends in .json, or empty."""
    if isinstance(value, str):
        if not value or value.endswith(".json"):
            return ""
        try:
            value = float(value)
        except ValueError:
            return f"depth_scale should be a number, or a file of edge-mtl scale that ends in .json; found {value!r}"
    try:
        check_factor(value)
    except DepthScaleError as exc:
        return f"depth_scale: {exc}"
    return ""


_LOADING = "Takes effect at the next ~/reload or configure."

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("autostart", True, "Configure and activate at start; false leaves it to a lifecycle manager.", read_only=True),
    Parameter("bundle", "", f"Folder or name of the bundle; empty: the demo bundle. {_LOADING}"),
    Parameter("backend", "auto", f"auto, onnxruntime, openvino, onnxruntime-cuda or tensorrt. {_LOADING}"),
    Parameter("precision", "auto", f"auto, fp32, or a precision that an engine was built with. {_LOADING}"),
    Parameter("threads", 0, f"Threads of the runtime; 0: one per physical core. {_LOADING}", limits=(0, 1024)),
    Parameter("tasks", "", f"Tasks of the bundle to predict, with commas between; empty: all of them. {_LOADING}"),
    Parameter(
        "build",
        "",
        f"Build an engine of this precision first if there is none. {_LOADING}",
        choices=("", "int8", "fp16", "bf16", "fp32"),
    ),
    Parameter("self_test", "load", f"Golden frames to compare at load: one (load) or all. {_LOADING}", choices=("load", "all")),
    Parameter("output_size", "frame", f"Maps of the frame's size or the network's. {_LOADING}", choices=("frame", "network")),
    Parameter(
        "depth_scale",
        "",
        f"Multiplies depth: a number, or a file of edge-mtl scale; empty: 1. {_LOADING}",
        check=_scale_fault,
    ),
    Parameter(
        "depth_encoding",
        "32FC1",
        f"Of maps of depth: 32FC1, metres, or 16UC1, millimetres with 0 unknown. {_LOADING}",
        choices=("32FC1", "16UC1"),
    ),
    Parameter(
        "image_transport", "raw", "raw: `image`; compressed: `image/compressed`.", choices=("raw", "compressed"), read_only=True
    ),
    Parameter(
        "image_bits",
        16,
        "Bits that the camera fills of images with 16 bits a channel: 10, 12 or 14 where the others are empty.",
        limits=(8, 16),
    ),
    Parameter("rectified", False, "The images are rectified: take the camera from P of camera_info, not from K."),
    Parameter("undistort", False, "Undo the lens that camera_info describes before predicting; maps are of that image."),
    Parameter(
        "withhold_unscaled",
        "points",
        "Not published until a camera scales the depth: the cloud (points), all that is in metres (all), or nothing (none).",
        choices=("points", "all", "none"),
    ),
    Parameter("max_age_s", 0.0, "Drop a frame that waited longer than this; 0: never.", limits=(0.0, 60.0)),
    Parameter(
        "stale_after_s", 0.4, "Diagnostics warn when no image came, or nothing went out, for this long.", limits=(0.1, 60.0)
    ),
    Parameter(
        "blind_after_s",
        5.0,
        "Diagnostics warn when images repeat one another, or have no contrast, for this long; 0: never.",
        limits=(0.0, 600.0),
    ),
    Parameter("hung_after_s", 2.0, "Diagnostics report an error when one frame takes longer than this.", limits=(0.1, 600.0)),
    Parameter(
        "latency_budget_ms",
        0.0,
        "Longest time from arrival to publishing before work is left out; 0: no budget.",
        limits=(0.0, 60_000.0),
    ),
    Parameter("points", False, "Publish ~/points, an organised cloud aligned with the mask."),
    Parameter(
        "points_labels", "", f"Task whose classes label the points; empty: segmentation, else the first of labels. {_LOADING}"
    ),
    Parameter("points_rate_hz", 5.0, "At most this many clouds a second; 0: one per frame.", limits=(0.0, 240.0)),
    Parameter("points_normals", False, "Clouds carry normals. Given at start only.", read_only=True),
    Parameter("stability", False, "Smooth the maps over time where the image does not change."),
    Parameter("min_obstacle_height_m", 0.1, "Obstacles begin at this height above the floor.", limits=(0.01, 2.0)),
    Parameter("max_obstacle_height_m", 2.0, "Obstacles end at this height above the floor.", limits=(0.05, 10.0)),
    Parameter("obstacle_range_m", 3.0, "Obstacles, ground and scan reach as far as this, along the floor.", limits=(0.2, 50.0)),
    Parameter("obstacle_stride", 4, "Every so many pixels in both directions become a point of ~/obstacles.", limits=(1, 64)),
    Parameter(
        "floor_tolerance",
        0.2,
        "Where class and normal say floor, an obstacle begins at this share of the camera's height at the lowest.",
        limits=(0.0, 0.5),
    ),
    Parameter("floor_classes", "floor", "Classes that are floor, in any case, with commas between."),
    Parameter("ceiling_classes", "ceiling", "Classes that are ceiling, in any case, with commas between."),
    Parameter(
        "floor_from",
        "seen",
        "seen: the floor is looked for in each image; mount: its angle is that of camera_pitch_deg.",
        choices=("seen", "mount"),
    ),
    Parameter("floor_keep_s", 5.0, "How long a floor that was seen counts where none is seen.", limits=(0.0, 3600.0)),
    Parameter(
        "camera_height_m",
        0.0,
        "Of the camera above the floor: scales the distances of obstacles, ground and scan; 0: not known.",
        limits=(0.0, 10.0),
    ),
    Parameter("camera_pitch_deg", 0.0, "How far the camera looks downwards, for floor_from: mount.", limits=(-60.0, 60.0)),
    Parameter("scan_frame", "", "A level frame at the camera for ~/scan; empty: one of its own, whose transform is sent."),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A valid set of parameters; the fields are those of PARAMETERS."""

    autostart: bool = True
    bundle: str = ""
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 0
    tasks: str = ""
    build: str = ""
    self_test: str = "load"
    output_size: str = "frame"
    depth_scale: str | float = ""
    depth_encoding: str = "32FC1"
    image_transport: str = "raw"
    image_bits: int = 16
    rectified: bool = False
    undistort: bool = False
    withhold_unscaled: str = "points"
    max_age_s: float = 0.0
    stale_after_s: float = 0.4
    blind_after_s: float = 5.0
    hung_after_s: float = 2.0
    latency_budget_ms: float = 0.0
    points: bool = False
    points_labels: str = ""
    points_rate_hz: float = 5.0
    points_normals: bool = False
    stability: bool = False
    min_obstacle_height_m: float = 0.1
    max_obstacle_height_m: float = 2.0
    obstacle_range_m: float = 3.0
    obstacle_stride: int = 4
    floor_tolerance: float = 0.2
    floor_classes: str = "floor"
    ceiling_classes: str = "ceiling"
    floor_from: str = "seen"
    floor_keep_s: float = 5.0
    camera_height_m: float = 0.0
    camera_pitch_deg: float = 0.0
    scan_frame: str = ""

    @property
    def task_names(self) -> tuple[str, ...] | None:
        """`tasks` as names; None for all."""
        return _names(self.tasks) or None

    @property
    def floor_class_names(self) -> tuple[str, ...]:
        """`floor_classes` as names."""
        return _names(self.floor_classes)

    @property
    def ceiling_class_names(self) -> tuple[str, ...]:
        """`ceiling_classes` as names."""
        return _names(self.ceiling_classes)

    @property
    def obstacle_limits(self) -> ObstacleLimits:
        """What counts as an obstacle."""
        return ObstacleLimits(
            min_height_m=self.min_obstacle_height_m,
            max_height_m=self.max_obstacle_height_m,
            range_m=self.obstacle_range_m,
            stride=self.obstacle_stride,
            tolerance=self.floor_tolerance,
        )

    @property
    def floor_options(self) -> FloorOptions:
        """How the floor is found."""
        return FloorOptions(
            classes=self.floor_class_names,
            stride=self.obstacle_stride,
            keep_s=self.floor_keep_s,
            height_m=self.camera_height_m,
            pitch_deg=self.camera_pitch_deg if self.floor_from == "mount" else None,
        )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """From values by name; those not given have their defaults, unknown names are left out.

        Raises:
            ValueError: what is wrong, all of it.
        """
        chosen = {parameter.name: values.get(parameter.name, parameter.default) for parameter in PARAMETERS}
        wrong = [text for parameter in PARAMETERS if (text := _fault(parameter, chosen[parameter.name]))]
        if not wrong and chosen["precision"] not in ("auto", "") and chosen["build"]:
            family = str(chosen["precision"]).partition("+")[0]
            if family != chosen["build"]:
                wrong.append(f"build {chosen['build']!r} makes no engine of the precision {chosen['precision']!r}")
        if not wrong and chosen["min_obstacle_height_m"] >= chosen["max_obstacle_height_m"]:
            wrong.append(
                f"max_obstacle_height_m should be above min_obstacle_height_m; found {chosen['max_obstacle_height_m']:g}"
            )
        if not wrong and chosen["floor_from"] == "mount" and chosen["camera_height_m"] <= 0:
            wrong.append("floor_from: mount needs camera_height_m, the height of the camera above the floor in metres")
        if not wrong and chosen["rectified"] and chosen["undistort"]:
            wrong.append("rectified and undistort exclude each other: rectified images have no lens to undo")
        if wrong:
            raise ValueError("; ".join(wrong))
        return cls(**chosen)


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between; none where there is no text."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


def _fault(parameter: Parameter, value: Any) -> str:
    """What is wrong with a value; empty if nothing is."""
    if parameter.check is not None:
        return parameter.check(value)
    kind = type(parameter.default)
    if type(value) is not kind:
        return f"{parameter.name} should be {kind.__name__}; found {value!r}"
    if parameter.choices and value not in parameter.choices:
        return f"{parameter.name} should be one of {', '.join(map(repr, parameter.choices))}; found {value!r}"
    if parameter.limits is not None and isinstance(value, (int, float)):
        low, high = parameter.limits
        if not (math.isfinite(value) and low <= value <= high):
            return f"{parameter.name} should lie in {low:g}..{high:g}; found {value!r}"
    return ""
