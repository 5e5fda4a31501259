"""The node's parameters: names, defaults, descriptions, ranges, and what makes a set of them valid.

Each is declared once, as a field of `Settings`; `PARAMETERS` are these fields as ROS needs them. Knows values; imports nothing
of ROS. A change is judged as a whole: either all of it is accepted or none. Of several cameras each may have its own value of
`OF_A_CAMERA`, as the parameter NAME.PARAMETER.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from edge_mtl.backends import BACKENDS, PRECISIONS
from edge_mtl.backends.selection import AUTO
from edge_mtl.ros.topics import OF_THE_FRAME, class_topics, task_topics
from edge_mtl.tasks import NYU_TASKS
from edge_mtl.tasks.drivable_grid import GridOptions
from edge_mtl.tasks.floor_tracking import FloorOptions
from edge_mtl.tasks.obstacles import ObstacleLimits
from edge_mtl_ros.parameter import Effect, Parameter, Value, converted, costs_of, fault_of, parameter, scale_fault

__all__ = ["LOADED", "OF_A_CAMERA", "PARAMETERS", "Parameter", "Settings", "Value"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TOPICS = (
    *OF_THE_FRAME,
    *(item.name for item in task_topics(NYU_TASKS)),
    *(name for topic in class_topics(NYU_TASKS).values() for name in (topic.name, topic.vision_name)),
)


def _cameras_fault(value: Any) -> str:
    """What is wrong with the names of cameras; empty if nothing is."""
    if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
        return f"cameras should be a list of names, such as [front, left]; found {value!r}"
    taken = dict.fromkeys((each.name for each in fields(Settings)), "a parameter has that name")
    taken["classes"] = "parameters of the node begin with it"
    taken |= dict.fromkeys((topic.partition("/")[0] for topic in _TOPICS), "a topic of the node has that name")
    for index, name in enumerate(value):
        if not _NAME.fullmatch(name) or "__" in name:
            why = "letters, digits and single underscores make a name, 64 at most, and no digit begins it"
        elif name in value[:index]:
            why = "every name stands for one camera"
        elif name in taken:
            why = taken[name]
        else:
            continue
        return f"cameras: {name!r} cannot be the name of a camera: {why}; choose another, such as front or left"
    return ""


def _costs_fault(value: Any) -> str:
    """What is wrong with classes and their costs; empty if nothing is."""
    if not isinstance(value, str):
        return f"drivable_classes should be str; found {value!r}"
    try:
        costs_of(value)
    except ValueError as exc:
        return str(exc)
    return ""


_MOST_CELLS = 1000
"""Of a grid, ahead."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A valid set of parameters, each declared here and nowhere else. The values of a `Literal` are its choices."""

    autostart: bool = parameter(
        True, "Configure and activate at start; false leaves it to a lifecycle manager.", effect="start"
    )
    cameras: tuple[str, ...] = parameter(
        (),
        "Names of several cameras; each has NAME/image, NAME/camera_info and ~/NAME/depth etc. Empty: one, without a name.",
        check=_cameras_fault,
        effect="start",
    )
    bundle: str = parameter("", "Folder or name of the bundle; empty: the demo bundle.", effect="reload")
    public_key: str = parameter(
        "", "Signer of the bundle, a file or its Base64 text: no other bundle is loaded; empty: any is.", effect="reload"
    )
    backend: str = parameter(
        AUTO, "Runtime of the network; auto: the fastest that is here.", choices=(AUTO, *BACKENDS), effect="reload"
    )
    precision: str = parameter(
        AUTO,
        "auto: the fastest engine that was built, else fp32; or the precision of an engine.",
        choices=(AUTO, *PRECISIONS),
        effect="reload",
    )
    threads: int = parameter(0, "Threads of the runtime; 0: one per physical core.", limits=(0, 1024), effect="reload")
    tasks: str = parameter("", "Tasks of the bundle to predict, with commas between; empty: all of them.", effect="reload")
    build: Literal["", "int8", "fp16", "bf16", "fp32"] = parameter(
        "", "Build an engine of this precision first if there is none.", effect="reload"
    )
    self_test: Literal["load", "all"] = parameter(
        "load", "Golden frames to compare at load: one (load) or all.", effect="reload"
    )
    output_size: Literal["frame", "network"] = parameter("frame", "Maps of the frame's size or the network's.", effect="reload")
    depth_scale: str | float = parameter(
        "",
        "Multiplies depth: a number, or a file of edge-mtl scale; empty: 1.",
        check=scale_fault,
        effect="reload",
        of_camera=True,
    )
    min_score: float = parameter(
        0.0, "Boxes with a lower score are not sent; 0: those below the bundle's own.", limits=(0.0, 0.999), effect="reload"
    )
    depth_encoding: Literal["32FC1", "16UC1"] = parameter(
        "32FC1", "Of maps of depth: 32FC1, metres, or 16UC1, millimetres with 0 unknown.", effect="reload"
    )
    image_transport: Literal["raw", "compressed"] = parameter(
        "raw", "raw: `image`; compressed: `image/compressed`.", effect="start", of_camera=True
    )
    image_bits: int = parameter(
        16,
        "Bits that the camera fills of images with 16 bits a channel: 10, 12 or 14 where the others are empty.",
        limits=(8, 16),
        of_camera=True,
    )
    rectified: bool = parameter(
        False, "The images are rectified: take the camera from P of camera_info, not from K.", of_camera=True
    )
    undistort: bool = parameter(
        False, "Undo the lens that camera_info describes before predicting; maps are of that image.", of_camera=True
    )
    withhold_unscaled: Literal["points", "all", "none"] = parameter(
        "points",
        "Not published until a camera scales the depth: what is made of points, all that is in metres, or nothing (none).",
    )
    max_age_s: float = parameter(
        0.0, "Drop a frame that waited longer than this; 0: never.", limits=(0.0, 60.0), of_camera=True
    )
    stale_after_s: float = parameter(
        0.4, "Diagnostics warn when no image came, or nothing went out, for this long.", limits=(0.1, 60.0), of_camera=True
    )
    blind_after_s: float = parameter(
        5.0,
        "Diagnostics warn when images repeat one another, or have no contrast, for this long; 0: never.",
        limits=(0.0, 600.0),
        of_camera=True,
    )
    hung_after_s: float = parameter(
        2.0, "Diagnostics report an error when one frame takes longer than this.", limits=(0.1, 600.0)
    )
    latency_budget_ms: float = parameter(
        0.0, "Longest time from arrival to publishing before work is left out; 0: no budget.", limits=(0.0, 60_000.0)
    )
    points: bool = parameter(False, "Publish ~/points, an organised cloud aligned with the mask.")
    points_labels: str = parameter(
        "", "Task whose classes label the points; empty: segmentation, else the first of labels.", effect="reload"
    )
    points_rate_hz: float = parameter(5.0, "At most this many clouds a second; 0: one per frame.", limits=(0.0, 240.0))
    points_normals: bool = parameter(False, "Clouds carry normals.", effect="start")
    stability: bool = parameter(False, "Smooth the maps over time where the image does not change.")
    min_obstacle_height_m: float = parameter(0.1, "Obstacles begin at this height above the floor.", limits=(0.01, 2.0))
    max_obstacle_height_m: float = parameter(2.0, "Obstacles end at this height above the floor.", limits=(0.05, 10.0))
    obstacle_range_m: float = parameter(
        3.0, "Obstacles, ground and scan reach as far as this, along the floor.", limits=(0.2, 50.0)
    )
    obstacle_stride: int = parameter(
        4, "Every so many pixels in both directions become a point of ~/obstacles.", limits=(1, 64)
    )
    floor_tolerance: float = parameter(
        0.2,
        "Where class and normal say floor, an obstacle begins at this share of the camera's height at the lowest.",
        limits=(0.0, 0.5),
    )
    floor_classes: str = parameter("floor", "Classes that are floor, in any case, with commas between.")
    ceiling_classes: str = parameter("ceiling", "Classes that are ceiling, in any case, with commas between.")
    floor_from: Literal["seen", "mount"] = parameter(
        "seen", "seen: the floor is looked for in each image; mount: its angle is that of camera_pitch_deg.", of_camera=True
    )
    floor_keep_s: float = parameter(5.0, "How long a floor that was seen counts where none is seen.", limits=(0.0, 3600.0))
    camera_height_m: float = parameter(
        0.0,
        "Of the camera above the floor: scales the distances of obstacles, ground and scan; 0: not known.",
        limits=(0.0, 10.0),
        of_camera=True,
    )
    camera_pitch_deg: float = parameter(
        0.0, "How far the camera looks downwards, for floor_from: mount.", limits=(-60.0, 60.0), of_camera=True
    )
    scan_frame: str = parameter(
        "", "A level frame at the camera for ~/scan; empty: one of its own, whose transform is sent.", of_camera=True
    )
    drivable_classes: str = parameter(
        "direct:0, alternative:50",
        "Classes that may be driven on, each with its cost from 0 to 99, for ~/drivable_grid; all others are blocked.",
        check=_costs_fault,
        effect="reload",
    )
    drivable_range_m: float = parameter(20.0, "~/drivable_grid reaches as far as this, along the ground.", limits=(1.0, 100.0))
    drivable_resolution_m: float = parameter(0.1, "Side of a cell of ~/drivable_grid.", limits=(0.02, 2.0))
    drivable_frame: str = parameter(
        "",
        "A frame on the ground that the camera is fixed to, as base_footprint, for ~/drivable_grid; empty: one of its own.",
        of_camera=True,
    )

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
    def grid_options(self) -> GridOptions:
        """What the grid of the drivable area shows."""
        return GridOptions(
            costs=costs_of(self.drivable_classes),
            range_m=self.drivable_range_m,
            resolution_m=self.drivable_resolution_m,
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
        chosen = {each.name: converted(each, values.get(each.name, each.default)) for each in PARAMETERS}
        wrong = [text for parameter in PARAMETERS if (text := fault_of(parameter, chosen[parameter.name]))]
        several = bool(chosen["cameras"])  # then what fits together is a question of each camera
        if not wrong and chosen["precision"] != AUTO and chosen["build"]:
            family = str(chosen["precision"]).partition("+")[0]
            if family != chosen["build"]:
                wrong.append(f"build {chosen['build']!r} makes no engine of the precision {chosen['precision']!r}")
        if not wrong and chosen["min_obstacle_height_m"] >= chosen["max_obstacle_height_m"]:
            wrong.append(
                f"max_obstacle_height_m should be above min_obstacle_height_m; found {chosen['max_obstacle_height_m']:g}"
            )
        if not wrong and chosen["drivable_range_m"] > _MOST_CELLS * chosen["drivable_resolution_m"]:
            wrong.append(
                f"drivable_range_m should be at most {_MOST_CELLS} cells of drivable_resolution_m; "
                f"found {chosen['drivable_range_m']:g} and {chosen['drivable_resolution_m']:g}"
            )
        if not wrong and not several and chosen["floor_from"] == "mount" and chosen["camera_height_m"] <= 0:
            wrong.append("floor_from: mount needs camera_height_m, the height of the camera above the floor in metres")
        if not wrong and not several and chosen["rectified"] and chosen["undistort"]:
            wrong.append("rectified and undistort exclude each other: rectified images have no lens to undo")
        if wrong:
            raise ValueError("; ".join(wrong))
        return cls(**chosen)

    @classmethod
    def of_cameras(cls, values: Mapping[str, Any]) -> dict[str, Settings]:
        """Those of each camera by its name, "" where it is the only one and has none: its own values, else the node's.

        Args:
            values: as for `of`, and by "NAME.PARAMETER"; None stands for none.

        Raises:
            ValueError: what is wrong, all of it.
        """
        node, found, wrong = cls.of(values), dict[str, Settings](), list[str]()
        for camera in node.cameras:
            given = {name: values.get(f"{camera}.{name}") for name in OF_A_CAMERA}
            own = {name: value for name, value in given.items() if value is not None}
            try:
                found[camera] = cls.of({**values, **own, "cameras": ()})
            except ValueError as exc:
                wrong.append(f"of the camera {camera}: {exc}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return found or {"": node}


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between; none where there is no text."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


_EFFECTS: Mapping[Effect, str] = {
    "at once": "",
    "reload": " Takes effect at the next ~/reload or configure.",
    "start": " Given at the start only.",
}


def _parameters() -> tuple[Parameter, ...]:
    """The fields of `Settings`, in their order."""
    types, defaults, found = get_type_hints(Settings), Settings(), []
    for each in fields(Settings):
        facts = dict(each.metadata)
        facts["description"] += _EFFECTS[facts["effect"]]
        if get_origin(types[each.name]) is Literal:
            facts["choices"] = get_args(types[each.name])
        found.append(Parameter(each.name, getattr(defaults, each.name), **facts))
    return tuple(found)


PARAMETERS: tuple[Parameter, ...] = _parameters()

LOADED: tuple[str, ...] = tuple(parameter.name for parameter in PARAMETERS if parameter.effect == "reload")
"""Those that an engine and its outputs are made with."""

OF_A_CAMERA: tuple[str, ...] = tuple(parameter.name for parameter in PARAMETERS if parameter.of_camera)
"""Those of which each of several cameras may have a value of its own."""
