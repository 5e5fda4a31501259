"""What /diagnostics says: a level, a sentence and values, from a snapshot of the node.

Knows counts, ages and limits; imports nothing of ROS. The worst of all findings decides the level; its sentence comes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_mtl.engine import EngineInfo
from edge_mtl_ros.frame_queue import Counts
from edge_mtl_ros.machine import MachineState
from edge_mtl_ros.sight import Remark, Silence

__all__ = ["ERROR", "OK", "WARN", "Latencies", "Report", "Snapshot", "report"]

OK, WARN, ERROR = 0, 1, 2
"""Levels of diagnostic_msgs/DiagnosticStatus."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The node at one instant. Ages in seconds by the monotonic clock; None where there is nothing to report.

    Attributes:
        state: of the lifecycle: "active", "inactive", ...
        activity: what a long step is doing, such as building; empty else.
        failure: why the last transition or inference failed; empty else.
        reload_failure: why the last reload failed, so that the engine before still runs; empty else.
        engine: what runs.
        counts: where all frames went.
        rate_hz, p50_ms, p95_ms: published frames a second; latency from arrival to publishing.
        predict_ms, overhead_ms: medians of its parts: inference, and receiving, converting and publishing.
        image_age_s, camera_age_s: since the last image and camera_info.
        image_source: why no image can come, where that is known; empty else.
        listened: topics of frames that somebody listens to.
        silence: nothing goes out although it should; None else.
        active_s: since activation.
        working_s: since the frame being worked on was taken up.
        scale: which camera scales the depth, a sentence; `scale_ok` whether it is the right one, or nothing is in metres.
        lens: why images may not be taken for a pinhole camera's, a sentence; empty where they may.
        remarks: of the worker, the camera's side and the topics.
        max_age_s: after which waiting frames are dropped.
        step: what is left out by degradation; `step_level` 0 is nothing.
        incompatible: topics with an incompatible QoS, and which policy.
        time_jumps: how often stamps jumped back.
        bad_values: places of the last frame where the network gave no number.
        asked: the tasks that the last frame was asked for.
        floor: how the floor of the last frame was found; empty while nothing needs it.
    """

    state: str
    activity: str
    failure: str
    reload_failure: str
    engine: EngineInfo | None
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
    active_s: float | None
    working_s: float | None
    stale_after_s: float
    hung_after_s: float
    scale: str
    scale_ok: bool
    lens: str
    remarks: tuple[Remark, ...]
    max_age_s: float
    step: str
    step_level: int
    incompatible: Mapping[str, str]
    time_jumps: int
    bad_values: int
    last_rejection: str
    machine: MachineState
    asked: tuple[str, ...] = ()
    floor: str = ""


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


def report(now: Snapshot) -> Report:
    """Judge a snapshot."""
    findings = _findings(now)
    level = max((found for found, _, _ in findings), default=OK)
    worst_first = sorted(findings, key=lambda finding: -finding[0])
    message = "; ".join(text for _, _, text in worst_first) or _all_well(now)
    return Report(level, message, _values(now), kinds=frozenset(kind for _, kind, _ in findings))


def _findings(now: Snapshot) -> list[tuple[int, str, str]]:
    """(level, kind, sentence) of all that is not as it should be."""
    found: list[tuple[int, str, str]] = []
    if now.failure:
        found.append((ERROR, "failure", now.failure))
    if now.reload_failure:
        found.append((WARN, "reload", now.reload_failure))
    if now.engine is not None and now.engine.shortfall:
        found.append((WARN, "shortfall", now.engine.shortfall))
    if now.activity:
        found.append((WARN, now.activity.partition(" (")[0], now.activity))  # each step is news, not its count
    if now.working_s is not None and now.working_s > now.hung_after_s:
        found.append((ERROR, "hanging", f"inference has been running for {now.working_s:.1f} s"))
    if now.state == "active":
        silent_s = now.active_s if now.image_age_s is None else now.image_age_s
        if silent_s is not None and silent_s > now.stale_after_s:
            found.append((WARN, "no image", f"no image for {silent_s:.1f} s{now.image_source and f': {now.image_source}'}"))
        elif now.silence is not None:
            found.append((WARN, f"silent {sorted(now.silence.lost)}", _silent(now, now.silence)))
        if not now.scale_ok:
            found.append((WARN, "scale", now.scale))
        if now.lens:
            found.append((WARN, "lens", now.lens))
        found += [(WARN, remark.kind, remark.text) for remark in now.remarks]
    for topic, policy in now.incompatible.items():
        found.append((WARN, f"QoS of {topic}", f"incompatible QoS on {topic}: {policy}"))
    if now.step_level:
        found.append((WARN, "behind", f"behind its latency budget or too hot: {now.step}"))
    if now.machine.throttled:
        found.append((WARN, "throttled", "the device is at its throttling temperature"))
    if now.bad_values:
        said = f"{now.bad_values} values of the last frame are no numbers; they are published as unknown"
        found.append((WARN, "bad values", said))
    if not now.counts.exact:
        found.append((ERROR, "accounts", "frames are unaccounted for"))
    return found


def _all_well(now: Snapshot) -> str:
    if now.state != "active":
        return now.state
    if not now.listened:
        return "nobody listens"
    return f"{now.rate_hz:.1f} Hz" if now.counts.published else "waiting for frames"


def _silent(now: Snapshot, silence: Silence) -> str:
    """For how long nothing was published, and what became of the frames."""
    why = {
        "rejected": f"frames rejected, the last as {now.last_rejection.rstrip('.')}",
        "aged": f"frames older than max_age_s ({now.max_age_s:g} s) when they could be taken",
        "stale_stamp": "frames whose stamps do not move forward: a clock that stands still, or two cameras on one topic",
        "shed": f"frames left out to keep up ({now.step})",
        "withheld": "frames of which nothing that is listened to can be sent",
    }
    lost = "; ".join(f"{count} {why[name]}" for name, count in silence.lost.items())
    return f"nothing published for {silence.lasted_s:.1f} s: {lost}"


def _values(now: Snapshot) -> dict[str, str]:
    counts = now.counts
    values = {
        "state": now.state,
        "rate_hz": f"{now.rate_hz:.2f}",
        "latency_p50_ms": _text(now.p50_ms),
        "latency_p95_ms": _text(now.p95_ms),
        "predict_p50_ms": _text(now.predict_ms),
        "overhead_p50_ms": _text(now.overhead_ms),
        "received": str(counts.received),
        "published": str(counts.published),
        "dropped": str(counts.dropped),
        "rejected": str(counts.rejected),
        "in_flight": str(counts.waiting + counts.working),
        **{f"dropped_{reason}": str(number) for reason, number in counts.drops.items()},
        "last_rejection": now.last_rejection,
        "image_age_s": _text(now.image_age_s),
        "camera_info_age_s": _text(now.camera_age_s),
        "listened": ", ".join(sorted(now.listened)),
        "depth_scale": now.scale,
        "lens": now.lens,
        "degradation": now.step,
        "time_jumps": str(now.time_jumps),
        "resident_mib": _mib(now.machine.resident_bytes),
        "gpu_mib": _mib(now.machine.gpu_bytes),
        "temperature_c": _text(now.machine.temperature_c),
        "throttled": str(now.machine.throttled).lower(),
    }
    if now.engine is not None:
        test = now.engine.self_test
        values |= {
            "bundle": f"{now.engine.name} revision {now.engine.revision} ({now.engine.bundle})",
            "backend": f"{now.engine.backend} {now.engine.runtime_version}",
            "device": now.engine.device,
            "precision": now.engine.precision,
            "tasks": ", ".join(now.engine.tasks),
            "tasks_asked": ", ".join(now.asked),
            "floor": now.floor,
            "depth_factor": _factor(now.engine.depth_scale, now.engine.depth_scale_from),
            "reason": now.engine.reason,
            "shortfall": now.engine.shortfall,
            "self_test": "off" if test is None else f"passed on {test.frames} golden frame(s)",
        }
    return values


def _factor(scale: float, place: str) -> str:
    """What distances are multiplied by, and the file that says so."""
    return f"{scale:.4g} of {place}" if place else f"{scale:.4g}"


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _mib(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.1f}"


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
