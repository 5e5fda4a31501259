import json
import subprocess
import sys

import pytest

import edge_mtl

HEAVY = ("cv2", "torch", "torchvision", "timm", "onnx", "onnxruntime", "openvino", "tensorrt", "pycuda", "rclpy", "matplotlib")


def loaded_after(statement):
    """Heavy packages that a fresh interpreter has loaded after `statement`."""
    code = f"import json, sys\n{statement}\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import edge_mtl") == []


def test_importing_engine_loads_opencv_and_no_runtime():
    assert loaded_after("from edge_mtl import Engine") == ["cv2"]


def test_the_command_line_answers_help_without_opencv_or_a_runtime():
    code = "from edge_mtl.cli import main\nsys.argv = ['edge-mtl', '--help']\ntry: main()\nexcept SystemExit: pass"
    assert loaded_after(code) == []


def test_the_control_sees_what_is_loaded():
    assert loaded_after("import cv2") == ["cv2"]


def test_the_public_names_are_pinned():
    assert edge_mtl.__all__ == [
        "AccuracyError",
        "BackendUnavailable",
        "BuildError",
        "BundleError",
        "CalibrationError",
        "EdgeMtlError",
        "Engine",
        "EngineClosed",
        "EngineMismatch",
        "FrameError",
        "InferenceError",
        "Prediction",
        "Timing",
        "__version__",
    ]
    for name in edge_mtl.__all__:
        assert getattr(edge_mtl, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = edge_mtl.Motor
