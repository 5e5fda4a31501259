"""Who drives in front, and how far away? The vehicle in the own lane, its distance and the time until one is where it is now.

    python examples/following_distance.py BUNDLE drive.mp4 --intrinsics 520,520,319.5,191.5 --speed 50 --save out/drive.mp4
    python examples/following_distance.py BUNDLE street.jpg --json

Boxes say what it is, the drivable area and the lines of lanes say whether it is in the own lane, depth says how far away.
"Nothing in front" is only said where the drivable area and the depth of the road agree on it; else the answer is "unknown".
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import cv2
import numpy as np

from edge_mtl import Engine, Prediction
from edge_mtl.errors import FrameError, TaskError
from edge_mtl.files import write_atomic
from edge_mtl.image.box_drawing import draw_boxes
from edge_mtl.image.lettering import put_text
from edge_mtl.sources.open_source import open_source
from edge_mtl.sources.videos import VIDEO_SUFFIXES
from edge_mtl.tasks.following import Following, FollowingOptions, headway_s, look_ahead, road_maps
from edge_mtl.tasks.following_tracking import FollowingTracker, TrackedFollowing

LANE, NEAR, FAR, WHITE, DARK = (70, 200, 120), (255, 60, 40), (255, 210, 60), (255, 255, 255), (10, 10, 10)
SHORT_S = 1.8  # a headway below which the box turns red
STILL_FPS = 10.0  # of a video made of images


def seen_in(prediction: Prediction, options: FollowingOptions) -> Following:
    """What is in front in one frame. Raises TaskError for a bundle that lacks the tasks."""
    return look_ahead(road_maps(prediction.results, options), prediction.intrinsics, options)


def sentence(found: TrackedFollowing, within_m: float, headway: float) -> str:
    """What is said of a frame."""
    if found.state == "clear":
        return f"nothing in front within {within_m:.0f} m"
    if found.state == "unknown":
        return f"unknown: {found.why}"
    words = f"{found.name} {found.distance_m:.1f} m"
    words += f", {headway:.1f} s" if math.isfinite(headway) else ""
    return words + (f" (seen {found.age_s:.1f} s ago)" if found.age_s > 0 else "")


def paint(frame: np.ndarray, prediction: Prediction, seen: Following, words: str, headway: float) -> np.ndarray:
    """The frame with the own lane in green, what is in front in its box, and the sentence."""
    image = np.ascontiguousarray(frame).copy()
    if seen.lane is not None:
        lane = seen.lane
        outline = np.concatenate([np.stack([lane.left, lane.rows], 1), np.stack([lane.right, lane.rows], 1)[::-1]])
        cover = cv2.fillPoly(image.copy(), [np.rint(outline).astype(np.int32)], LANE)
        image = cv2.addWeighted(image, 0.6, cover, 0.4, 0.0)
    if seen.box >= 0 and prediction.boxes is not None:
        box = prediction.boxes.xyxy[seen.box : seen.box + 1]
        caption = f"{seen.name} {seen.distance_m:.1f} m" if math.isfinite(seen.distance_m) else seen.name
        image = draw_boxes(image, box, [caption], [NEAR if headway < SHORT_S else FAR])
    size = max(12, len(image) // 22)
    put_text(image, words, (size // 2, round(1.4 * size)), size=size, colour=WHITE, outline=DARK)
    return image


def as_json(name: str, time_s: float | None, found: TrackedFollowing, headway: float) -> str:
    """One line; what is not known is null."""
    numbers = {"distance_m": found.distance_m, "headway_s": headway, "closing_mps": found.closing_mps, "clear_m": found.clear_m}
    known = {key: round(value, 3) if math.isfinite(value) else None for key, value in numbers.items()}
    said = {"frame": name, "time_s": time_s, "state": found.state, "class": found.name or None, "why": found.why}
    return json.dumps(said | known | {"seen_s_ago": round(found.age_s, 3)})


class Writer:
    """An image, or a video that grows frame by frame and is there under its name when it is complete."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._video: cv2.VideoWriter | None = None
        self._part = path.with_name(f"{path.stem}.part{path.suffix}")

    def add(self, image: np.ndarray) -> None:
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        if self._path.suffix.lower() not in VIDEO_SUFFIXES:
            ok, data = cv2.imencode(self._path.suffix, bgr)
            if not ok:
                raise SystemExit(f"--save: {self._path} could not be written as an image")
            write_atomic(self._path, data.tobytes())
            return
        if self._video is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            code = cv2.VideoWriter.fourcc(*("MJPG" if self._path.suffix.lower() == ".avi" else "mp4v"))
            self._video = cv2.VideoWriter(str(self._part), code, self._rate, bgr.shape[1::-1])
            if not self._video.isOpened():
                raise SystemExit(f"--save: this OpenCV writes no {self._path.suffix}; try .avi")
        self._video.write(bgr)

    def close(self) -> None:
        if self._video is not None:
            self._video.release()
            self._part.replace(self._path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="with boxes, depth and a drivable area")
    parser.add_argument("source", help="an image, a folder, a video or camera:N")
    parser.add_argument("--speed", type=float, default=math.nan, metavar="KM/H", help="of the own car, for the time headway")
    parser.add_argument("--bumper", type=float, default=0.0, metavar="M", help="from the camera to the front of the car")
    parser.add_argument("--within", type=float, default=30.0, metavar="M", help='of "nothing in front" (default: %(default)s)')
    parser.add_argument("--intrinsics", help="fx,fy,cx,cy of the camera; without it distances are right up to a factor")
    parser.add_argument("--save", type=Path, metavar="FILE", help="the image, or the video of several frames")
    parser.add_argument("--json", action="store_true", help="one line of JSON a frame")
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args(arguments)

    options, track = FollowingOptions(within_m=asked.within), FollowingTracker()
    camera = [float(value) for value in asked.intrinsics.split(",")] if asked.intrinsics else None
    with ExitStack() as stack:
        try:
            source = open_source(asked.source)
            writer = None
            if asked.save is not None:
                if source.count != 1 and asked.save.suffix.lower() not in VIDEO_SUFFIXES:
                    raise SystemExit(f"--save of several frames should be a video ({' '.join(VIDEO_SUFFIXES)})")
                writer = Writer(asked.save, source.frame_rate or STILL_FPS)
                stack.callback(writer.close)
            engine = stack.enter_context(Engine(asked.bundle, precision=asked.precision))
            for number, frame in enumerate(source.frames()):
                prediction = engine.predict(frame.pixels, intrinsics=camera or frame.intrinsics)
                if prediction.intrinsics_assumed and not number:
                    print("without --intrinsics distances are right only up to a factor", file=sys.stderr)
                seen = seen_in(prediction, options)
                if frame.time_s is None:  # images are not a sequence
                    track = FollowingTracker()
                found = track(seen, frame.time_s or 0.0)
                headway = headway_s(found.distance_m, asked.speed / 3.6, bumper_m=asked.bumper)
                words = sentence(found, asked.within, headway)
                print(as_json(frame.name, frame.time_s, found, headway) if asked.json else f"{frame.name}: {words}")
                if writer is not None:
                    writer.add(paint(frame.pixels, prediction, seen, words, headway))
        except (FrameError, TaskError) as error:
            raise SystemExit(str(error)) from None


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # how a camera ends
        main()
