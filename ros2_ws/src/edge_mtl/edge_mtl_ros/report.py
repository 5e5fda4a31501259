"""What /diagnostics says: a level, a sentence and values, from a snapshot of the node and of each of its cameras.

Knows counts, ages and limits; imports nothing of ROS. The worst of all findings decides the level; its sentence comes first.
The node and its camera have one report; of several cameras, which have names, each has its own beside the node's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from edge_mtl.engine import EngineInfo
from edge_mtl_ros.frame_queue import Counts
from edge_mtl_ros.machine import MachineState
from edge_mtl_ros.sight import Remark, Silence

__all__ = ["ERROR", "OK", "WARN", "CameraSnapshot", "Latencies", "Report", "Snapshot", "reports"]

OK, WARN, ERROR = 0, 1, 2
"""Levels of diagnostic_msgs/DiagnosticStatus."""

_Finding = tuple[int, str, str]
"""(level, kind, sentence) of something that is not as it should be."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The node at one instant. Ages in seconds by the monotonic clock; None where there is nothing to report.

    Attributes:
        state: of the lifecycle: "active", "inactive", ...
        activity: what a long step is doing, such as building; empty else.
        failure: why the last transition or inference failed; empty else.
        reload_failure: why the last reload failed, so that the engine before still runs; empty else.
        engine: what runs.
        active_s: since activation.
        working_s: since the frame being worked on was taken up.
        step: what is left out by degradation; `step_level` 0 is nothing.
        incompatible: topics with an incompatible QoS, and which policy.
    """

    state: str
    activity: str
    failure: str
    reload_failure: str
    engine: EngineInfo | None
    active_s: float | None
    working_s: float | None
    hung_after_s: float
    step: str
    step_level: int
    incompatible: Mapping[str, str]
    machine: MachineState


@dataclass(frozen=True, slots=True)
class CameraSnapshot:
    """One camera at the same instant.

    Attributes:
        counts: where all its frames went.
        rate_hz, p50_ms, p95_ms: published frames a second; latency from arrival to publishing.
        predict_ms, overhead_ms: medians of its parts: inference, and receiving, converting and publishing.
        image_age_s, camera_age_s: since the last image and camera_info.
        image_source: why no image can come, where that is known; empty else.
        listened: topics of its frames that somebody listens to.
        silence: nothing goes out although it should; None else.
        stale_after_s: how long no image may come.
        scale: which camera_info scales the depth, a sentence; `scale_ok` whether it is the right one, or nothing is in metres.
        lens: why images may not be taken for a pinhole camera's, a sentence; empty where they may.
        remarks: of the worker, the camera's side and the topics.
        max_age_s: after which waiting frames are dropped.
        time_jumps: how often stamps jumped back.
        bad_values: places of the last frame where the network gave no number.
        last_rejection: why the last frame that could not be used could not.
        failure: what went wrong with its last frame in the node itself; empty else.
        asked: the tasks that the last frame was asked for.
        floor: how the floor of the last frame was found; empty while nothing needs it.
        ground: how it is known where the grid of the drivable area lies; empty while nobody listens to it.
        factor: what its distances are multiplied by in place of the engine's factor, and the file that says so; None for that.
    """

    counts: Counts
    rate_hz: float
    p50_ms: float | None
    p95_ms: float | None
    predict_ms: float | None
    overhead_ms: float | None
    image_age_s: float | None
    camera_age_s: float | None
    image_source: str
    listened: frozenset[str]
    silence: Silence | None
    stale_after_s: float
    scale: str
    scale_ok: bool
    lens: str
    remarks: tuple[Remark, ...]
    max_age_s: float
    time_jumps: int
    bad_values: int
    last_rejection: str
    failure: str = ""
    asked: tuple[str, ...] = ()
    floor: str = ""
    ground: str = ""
    factor: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One DiagnosticStatus.

    Attributes:
        kinds: what was found, without its numbers; others are news.
    """

    level: int
    message: str
    values: Mapping[str, str]
    kinds: frozenset[str] = frozenset()


class Latencies:
    """Rate and percentiles of what was published in the last seconds. One thread adds, others read."""

    def __init__(self, *, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._recent: deque[tuple[float, float]] = deque(maxlen=2000)

    def add(self, now_s: float, latency_s: float) -> None:
        """A frame went out `latency_s` after it arrived."""
        self._recent.append((now_s, latency_s))

    def summary(self, now_s: float) -> tuple[float, float | None, float | None]:
        """(frames a second, median in ms, 95th percentile in ms) of the window."""
        recent = [(when, latency) for when, latency in list(self._recent) if now_s - when <= self._window_s]
        if not recent:
            return 0.0, None, None
        ordered = sorted(latency for _, latency in recent)
        span = max(now_s - recent[0][0], 1e-3)
        rate = len(recent) / span if len(recent) > 1 else 1.0 / self._window_s
        return rate, 1e3 * _percentile(ordered, 0.5), 1e3 * _percentile(ordered, 0.95)


def reports(now: Snapshot, cameras: Mapping[str, CameraSnapshot]) -> dict[str, Report]:
    """Judge a snapshot of the node and of its cameras by their names, "" where it is the only one and has none.

    The keys: "perception" is the node, "camera NAME" a camera that has a name.
    """
    every = cameras.values()
    if "" in cameras:
        one = cameras[""]
        found = _failures(now, one.failure) + _sight(now, one) + _conditions(now) + _numbers(one)
        return {"perception": _report(found, _all_well(now, every), _values(now, one))}
    made = {"perception": _report(_failures(now) + _conditions(now), _all_well(now, every), _values_of_several(now, every))}
    for name, camera in cameras.items():
        found = [(ERROR, "failure", camera.failure)] if camera.failure else []
        found = [(level, kind, f"{name}: {text}") for level, kind, text in found + _sight(now, camera) + _numbers(camera)]
        made[f"camera {name}"] = _report(found, _all_well(now, [camera]), _values_of_camera(now, camera))
    return made


def _report(found: Sequence[_Finding], all_well: str, values: Mapping[str, str]) -> Report:
    worst_first = sorted(found, key=lambda finding: -finding[0])
    return Report(
        max((level for level, _, _ in found), default=OK),
        "; ".join(text for _, _, text in worst_first) or all_well,
        values,
        kinds=frozenset(kind for _, kind, _ in found),
    )


def _failures(now: Snapshot, of_camera: str = "") -> list[_Finding]:
    """What went wrong, what a long step does, and what takes too long."""
    found: list[_Finding] = []
    if now.failure or of_camera:
        found.append((ERROR, "failure", now.failure or of_camera))
    if now.reload_failure:
        found.append((WARN, "reload", now.reload_failure))
    if now.engine is not None and now.engine.shortfall:
        found.append((WARN, "shortfall", now.engine.shortfall))
    if now.activity:
        found.append((WARN, now.activity.partition(" (")[0], now.activity))  # each step is news, not its count
    if now.working_s is not None and now.working_s > now.hung_after_s:
        found.append((ERROR, "hanging", f"inference has been running for {now.working_s:.1f} s"))
    return found


def _sight(now: Snapshot, camera: CameraSnapshot) -> list[_Finding]:
    """Why a camera sees nothing, or not what it should."""
    if now.state != "active":
        return []
    found: list[_Finding] = []
    silent_s = now.active_s if camera.image_age_s is None else camera.image_age_s
    if silent_s is not None and silent_s > camera.stale_after_s:
        source = camera.image_source and f": {camera.image_source}"
        found.append((WARN, "no image", f"no image for {silent_s:.1f} s{source}"))
    elif camera.silence is not None:
        found.append((WARN, f"silent {sorted(camera.silence.lost)}", _silent(now, camera, camera.silence)))
    if not camera.scale_ok:
        found.append((WARN, "scale", camera.scale))
    if camera.lens:
        found.append((WARN, "lens", camera.lens))
    return found + [(WARN, remark.kind, remark.text) for remark in camera.remarks]


def _conditions(now: Snapshot) -> list[_Finding]:
    """What hinders the node: the other sides' QoS, its budget, the device."""
    found = [(WARN, f"QoS of {topic}", f"incompatible QoS on {topic}: {policy}") for topic, policy in now.incompatible.items()]
    if now.step_level:
        found.append((WARN, "behind", f"behind its latency budget or too hot: {now.step}"))
    if now.machine.throttled:
        found.append((WARN, "throttled", "the device is at its throttling temperature"))
    return found


def _numbers(camera: CameraSnapshot) -> list[_Finding]:
    """Figures of a camera that should not be."""
    found: list[_Finding] = []
    if camera.bad_values:
        said = f"{camera.bad_values} values of the last frame are no numbers; they are published as unknown"
        found.append((WARN, "bad values", said))
    if not camera.counts.exact:
        found.append((ERROR, "accounts", "frames are unaccounted for"))
    return found


def _all_well(now: Snapshot, cameras: Collection[CameraSnapshot]) -> str:
    if now.state != "active":
        return now.state
    if not any(camera.listened for camera in cameras):
        return "nobody listens"
    published = any(camera.counts.published for camera in cameras)
    return f"{sum(camera.rate_hz for camera in cameras):.1f} Hz" if published else "waiting for frames"


def _silent(now: Snapshot, camera: CameraSnapshot, silence: Silence) -> str:
    """For how long nothing was published, and what became of the frames."""
    why = {
        "rejected": f"frames rejected, the last as {camera.last_rejection.rstrip('.')}",
        "aged": f"frames older than max_age_s ({camera.max_age_s:g} s) when they could be taken",
        "stale_stamp": "frames whose stamps do not move forward: a clock that stands still, or two cameras on one topic",
        "shed": f"frames left out to keep up ({now.step})",
        "withheld": "frames of which nothing that is listened to can be sent",
    }
    lost = "; ".join(f"{count} {why[name]}" for name, count in silence.lost.items())
    return f"nothing published for {silence.lasted_s:.1f} s: {lost}"


def _values(now: Snapshot, camera: CameraSnapshot) -> dict[str, str]:
    """Of the node with its only camera."""
    asked = {"tasks_asked": ", ".join(camera.asked), "floor": camera.floor, "ground": camera.ground}
    return {
        "state": now.state,
        **_values_of_frames(camera),
        "degradation": now.step,
        "time_jumps": str(camera.time_jumps),
        **_values_of_machine(now.machine),
        **_values_of_engine(now.engine, asked),
    }


def _values_of_several(now: Snapshot, cameras: Collection[CameraSnapshot]) -> dict[str, str]:
    """Of the node with several cameras: sums of their frames."""
    return {
        "state": now.state,
        "rate_hz": f"{sum(camera.rate_hz for camera in cameras):.2f}",
        **_values_of_counts(Counts.total(camera.counts for camera in cameras)),
        "degradation": now.step,
        **_values_of_machine(now.machine),
        **_values_of_engine(now.engine, {}),
    }


def _values_of_camera(now: Snapshot, camera: CameraSnapshot) -> dict[str, str]:
    """Of one of several cameras."""
    of_engine = None if now.engine is None else (now.engine.depth_scale, now.engine.depth_scale_from)
    factor = camera.factor or of_engine
    return {
        **_values_of_frames(camera),
        "time_jumps": str(camera.time_jumps),
        "tasks_asked": ", ".join(camera.asked),
        "floor": camera.floor,
        "ground": camera.ground,
        "depth_factor": "" if factor is None else _factor(*factor),
    }


def _values_of_frames(camera: CameraSnapshot) -> dict[str, str]:
    return {
        "rate_hz": f"{camera.rate_hz:.2f}",
        "latency_p50_ms": _text(camera.p50_ms),
        "latency_p95_ms": _text(camera.p95_ms),
        "predict_p50_ms": _text(camera.predict_ms),
        "overhead_p50_ms": _text(camera.overhead_ms),
        **_values_of_counts(camera.counts),
        "last_rejection": camera.last_rejection,
        "image_age_s": _text(camera.image_age_s),
        "camera_info_age_s": _text(camera.camera_age_s),
        "listened": ", ".join(sorted(camera.listened)),
        "depth_scale": camera.scale,
        "lens": camera.lens,
    }


def _values_of_counts(counts: Counts) -> dict[str, str]:
    return {
        "received": str(counts.received),
        "published": str(counts.published),
        "dropped": str(counts.dropped),
        "rejected": str(counts.rejected),
        "in_flight": str(counts.waiting + counts.working),
        **{f"dropped_{reason}": str(number) for reason, number in counts.drops.items()},
    }


def _values_of_machine(machine: MachineState) -> dict[str, str]:
    return {
        "resident_mib": _mib(machine.resident_bytes),
        "gpu_mib": _mib(machine.gpu_bytes),
        "temperature_c": _text(machine.temperature_c),
        "throttled": str(machine.throttled).lower(),
    }


def _values_of_engine(engine: EngineInfo | None, asked: Mapping[str, str]) -> dict[str, str]:
    """Of what runs, with what is `asked` of it; nothing without an engine."""
    if engine is None:
        return {}
    test = engine.self_test
    return {
        "bundle": f"{engine.name} revision {engine.revision} ({engine.bundle})",
        "backend": f"{engine.backend} {engine.runtime_version}",
        "device": engine.device,
        "precision": engine.precision,
        "tasks": ", ".join(engine.tasks),
        **asked,
        "depth_factor": _factor(engine.depth_scale, engine.depth_scale_from),
        "reason": engine.reason,
        "shortfall": engine.shortfall,
        "self_test": "off" if test is None else f"passed on {test.frames} golden frame(s)",
    }


def _factor(scale: float, place: str) -> str:
    """What distances are multiplied by, and the file that says so."""
    return f"{scale:.4g} of {place}" if place else f"{scale:.4g}"


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _mib(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.1f}"


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
