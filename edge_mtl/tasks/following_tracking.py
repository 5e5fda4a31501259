"""What is in front over time: one wrong frame neither moves a distance nor makes a vehicle vanish, and memory says so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_mtl.tasks.following import Following, State

__all__ = ["FollowingTracker", "TrackedFollowing"]

_KEEP_S = 0.6
"""How long something that was in front counts where it is not seen."""
_SMOOTH_S = 0.3
"""In which a change of the distance has arrived by two thirds."""
_SAME, _SAME_M = 0.2, 1.0
"""How far from where it must be something may be seen and still be the same, as a share and in metres."""


@dataclass(frozen=True, slots=True)
class TrackedFollowing:
    """What is in front, smoothed.

    Attributes:
        state, why, name, clear_m: as of `Following`.
        distance_m: smoothed; where it was seen before and not in this frame, where it must be by now.
        closing_mps: how fast the distance shrinks; NaN until it was seen twice.
        age_s: since it was last seen, 0 in this frame.
    """

    state: State
    why: str
    name: str = ""
    distance_m: float = math.nan
    closing_mps: float = math.nan
    clear_m: float = 0.0
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Track:
    state: State
    name: str
    distance_m: float
    speed_mps: float
    frames: int
    seen_s: float

    def at(self, now_s: float) -> float:
        return max(0.0, self.distance_m + self.speed_mps * (now_s - self.seen_s))


class FollowingTracker:
    """Smooths frame after frame of one camera with an alpha-beta filter (gains of Benedict & Bordner 1962).

    Something nearer than expected is believed at once, something farther only when it is seen twice: an error towards the near
    side warns without need, one towards the far side does not warn.
    """

    def __init__(self) -> None:
        self._track: _Track | None = None
        self._farther = False

    def __call__(self, seen: Following, now_s: float) -> TrackedFollowing:
        """The next frame's; `now_s` is when it was taken, by any clock that runs forward."""
        track = self._track
        if track is not None and not 0 <= now_s - track.seen_s <= _KEEP_S:
            track = self._track = None
        if seen.state in ("vehicle", "other"):
            return self._seen(seen, track, now_s)
        if track is None:
            return TrackedFollowing(seen.state, seen.why, clear_m=seen.clear_m)
        age_s, expected = now_s - track.seen_s, track.at(now_s)
        if seen.clear_m > expected:  # this frame contradicts the ones before
            why = f"{seen.why}, but a {track.name} was in front {age_s:.1f} s ago"
            return TrackedFollowing("unknown", why, track.name, age_s=age_s)
        why = f"a {track.name} was seen {age_s:.1f} s ago"
        return TrackedFollowing(track.state, why, track.name, expected, _closing(track), age_s=age_s)

    def _seen(self, seen: Following, track: _Track | None, now_s: float) -> TrackedFollowing:
        if track is None:
            return self._restart(seen, now_s)
        age_s, expected = now_s - track.seen_s, track.at(now_s)
        away = seen.distance_m - expected
        if abs(away) > max(_SAME_M, _SAME * expected):
            if away < 0 or self._farther:
                return self._restart(seen, now_s)
            self._farther = True
            why = f"a {track.name} was seen {age_s:.1f} s ago, this frame has a {seen.name} at {seen.distance_m:.1f} m"
            return TrackedFollowing(track.state, why, track.name, expected, _closing(track), age_s=age_s)
        self._farther = False
        if age_s > 0:
            gain = max(1.0 - math.exp(-age_s / _SMOOTH_S), 1.0 / (track.frames + 1))
            speed = track.speed_mps + gain * gain / (2.0 - gain) * away / age_s
            track = _Track(seen.state, seen.name, expected + gain * away, speed, track.frames + 1, now_s)
            self._track = track
        return TrackedFollowing(seen.state, seen.why, seen.name, track.distance_m, _closing(track))

    def _restart(self, seen: Following, now_s: float) -> TrackedFollowing:
        self._farther = False
        self._track = _Track(seen.state, seen.name, seen.distance_m, 0.0, 1, now_s)
        return TrackedFollowing(seen.state, seen.why, seen.name, seen.distance_m)


def _closing(track: _Track) -> float:
    return -track.speed_mps if track.frames > 1 else math.nan
