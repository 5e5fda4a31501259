"""What the outputs of an ONNX graph mean to a network that learns from it, as one JSON entry among the graph's properties.

    {"format": 1,
     "answers": {"floor": {"kind": "labels", "classes": [...], "output": "z", "meaning": "log-probabilities"}},
     "features": [{"output": "f8", "stride": 8}],
     "about": {"title": "...", "licence": "..."}}

Whoever has a graph of another network adds the entry with `with_notes`; `train/make_teacher.py` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_mtl.documents import parse_json
from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import parse
from edge_mtl.tasks import LabelsSpec, describe_tasks, read_tasks

__all__ = ["KEY", "TeacherNotes", "read_notes", "with_notes"]

KEY = "edge_mtl.teacher"
"""Name of the entry in `metadata_props`."""

_FORMAT = 1
_MEANING = "log-probabilities"


@dataclass(frozen=True, slots=True)
class TeacherNotes:
    """What a graph teaches.

    Attributes:
        tasks: of labels, those that it answers, with their classes.
        outputs: by task, the name of the output: (1, classes, h, w) log-probabilities, up to a constant at each pixel.
        features: by stride of the maps that learn to resemble it, the name of the output: (1, channels, h, w) of any size.
        about: for people and for provenance: what the network is, where its weights are from, under which licence.
    """

    tasks: Mapping[str, LabelsSpec] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[int, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.tasks) != set(self.outputs):
            raise ValueError(f"tasks are {', '.join(self.tasks)}, outputs are of {', '.join(self.outputs)}: name one for each")


def with_notes(model: bytes, notes: TeacherNotes, *, name: str = "the graph") -> bytes:
    """The graph with notes in place of those that it had.

    Raises:
        BuildError: no ONNX model, or one without an output that the notes name.
        BackendUnavailable: the package onnx is missing.
    """
    proto = parse(model, name=name)
    there = [output.name for output in proto.graph.output]
    lacking = next((one for one in (*notes.outputs.values(), *notes.features.values()) if one not in there), None)
    if lacking is not None:
        raise BuildError(f"{name} has no output {lacking!r}: it has {', '.join(there)}. Name one of these in the notes")
    described = describe_tasks(notes.tasks)
    content = {
        "format": _FORMAT,
        "answers": {task: {**described[task], "output": output, "meaning": _MEANING} for task, output in notes.outputs.items()},
        "features": [{"output": output, "stride": stride} for stride, output in notes.features.items()],
        "about": dict(notes.about),
    }
    others = [one for one in proto.metadata_props if one.key != KEY]
    del proto.metadata_props[:]
    proto.metadata_props.extend(others)
    proto.metadata_props.add(key=KEY, value=json.dumps(content, ensure_ascii=False))
    return bytes(proto.SerializeToString())


def read_notes(model: bytes, *, name: str) -> TeacherNotes:
    """The notes of a graph.

    Raises:
        BuildError: no ONNX model, one without notes, or notes that say something else than they may.
        BackendUnavailable: the package onnx is missing.
    """
    proto = parse(model, name=name)
    text = next((one.value for one in proto.metadata_props if one.key == KEY), None)
    if text is None:
        raise BuildError(
            f"{name} does not say what its outputs mean: expected an entry {KEY!r} among its properties (metadata_props). "
            "Add it with mtl.distill.graph_notes.with_notes, or make a teacher with train/make_teacher.py"
        )
    try:
        content = parse_json(text)
        if content["format"] != _FORMAT:
            raise ValueError(f"their format is {content['format']}, this edge_mtl reads {_FORMAT}")
        answers, features = content.get("answers", {}), content.get("features", [])
        for task, one in answers.items():
            if (one["kind"], one["meaning"]) != ("labels", _MEANING):
                raise ValueError(f"{task} should be of the kind labels, {_MEANING}; found {one['kind']}, {one['meaning']}")
        specs = read_tasks(answers) if answers else {}
        return TeacherNotes(
            {task: spec for task, spec in specs.items() if isinstance(spec, LabelsSpec)},
            {task: str(one["output"]) for task, one in answers.items()},
            {int(one["stride"]): str(one["output"]) for one in features},
            dict(content.get("about", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise BuildError(
            f"{name}: its notes {KEY!r} are not as expected ({exc!s}). Write them again with mtl.distill.graph_notes.with_notes"
        ) from exc
