"""The camera of a command line: four numbers, or a camera_info YAML as ROS writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_mtl.errors import BuildError, FrameError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.packages import import_package
from edge_mtl.ros.cameras import Camera
from mtl.datasets.folder.camera import SharedCamera

__all__ = ["parse_camera", "read_camera_info"]

_EXPECTED = (
    "expected image_width, image_height and camera_matrix as camera_calibration writes them, or width, height and k as "
    "`ros2 topic echo --once` prints a camera_info"
)


def parse_camera(text: str, *, size: tuple[int, int] | None = None, rectified: bool = False) -> SharedCamera:
    """The camera that "fx,fy,cx,cy" or the name of a YAML file means.

    Args:
        size: (H, W) of the images that the numbers are for; a YAML file says it itself.
        rectified: of a YAML file take P, the camera of rectified images, in place of K.
    Raises:
        BuildError: it is neither, the numbers are no camera, or the file cannot be read.
        BackendUnavailable: a YAML file, and PyYAML is missing or broken.
    """
    if Path(text).suffix.lower() in (".yaml", ".yml"):
        found = read_camera_info(Path(text), rectified=rectified)
        if size is not None and size != found.size:
            raise BuildError(f"{text} is for images of {found.size}, not of {size}. Leave the size away: the file says it")
        return found
    try:
        values = [float(part) for part in text.split(",")]
        if len(values) != 4:
            raise ValueError(f"{len(values)} numbers")
        camera = Intrinsics(*values)
    except ValueError as exc:  # FrameError too
        raise BuildError(f"a camera is fx,fy,cx,cy in pixels, or a camera_info file.yaml; found {text!r} ({exc})") from exc
    return SharedCamera(camera.as_tuple(), size)


def read_camera_info(path: Path, *, rectified: bool = False) -> SharedCamera:
    """The camera of a YAML file: of camera_calibration, or a printed sensor_msgs/CameraInfo.

    Args:
        rectified: take P in place of K.
    Raises:
        BuildError: it cannot be read, or holds no camera.
        BackendUnavailable: PyYAML is missing or broken.
    """
    use = f"{path}: YAML needs the package PyYAML, or give --camera fx,fy,cx,cy"
    yaml = import_package("yaml", "YAMLError", "safe_load_all", use=use, install="pyyaml")
    try:
        # `ros2 topic echo` ends a message with "---"
        content = next(iter(yaml.safe_load_all(path.read_text(encoding="utf-8"))), None)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as exc:
        raise BuildError(f"{path} cannot be read ({' '.join(str(exc).split())}): {_EXPECTED}") from exc
    if not isinstance(content, Mapping):
        raise BuildError(f"{path} holds no camera_info: {_EXPECTED}")
    try:
        camera = _camera(content)
        found = camera.intrinsics(rectified=rectified)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, FrameError) as exc:
        raise BuildError(f"{path} holds no camera_info ({type(exc).__name__}: {exc}): {_EXPECTED}") from exc
    if found is None:
        raise BuildError(
            f"{path} is of a camera that was never calibrated: its {'P' if rectified else 'K'} is zero. Calibrate it"
        )
    if not rectified and any(camera.d):
        raise BuildError(
            f"{path} has distortion {list(camera.d)}: labels are made for images without. Rectify the images (image_proc) "
            "and give --rectified; or, where that was left out on purpose, give --camera fx,fy,cx,cy"
        )
    return SharedCamera(found.as_tuple(), (camera.height, camera.width))


def _camera(content: Mapping[str, Any]) -> Camera:
    if "camera_matrix" in content:
        matrix, projection = content["camera_matrix"]["data"], content.get("projection_matrix", {}).get("data", ())
        lens = content.get("distortion_coefficients", {}).get("data", ())
        width, height = content["image_width"], content["image_height"]
        return _checked(Camera.of(width=width, height=height, k=matrix, d=lens, p=projection))
    roi = content.get("roi") or {}
    return _checked(
        Camera.of(
            width=content["width"],
            height=content["height"],
            k=content["k"],
            d=content.get("d", ()),
            p=content.get("p", ()),
            binning=(content.get("binning_x", 0), content.get("binning_y", 0)),
            roi=(roi.get("x_offset", 0), roi.get("y_offset", 0), roi.get("width", 0), roi.get("height", 0)),
        )
    )


def _checked(camera: Camera) -> Camera:
    if len(camera.k) != 9 or len(camera.p) != 12 or min(camera.width, camera.height) < 1:
        raise ValueError(
            f"K should have 9 numbers, P 12 and height and width be above 0; found {len(camera.k)}, {len(camera.p)} and "
            f"height {camera.height}, width {camera.width}"
        )
    return camera
