"""Package metadata and extras; tool settings are in pyproject.toml."""

import json
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

VERSION = next(
    line.split('"')[1]
    for line in (HERE / "edge_mtl" / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

BUNDLES = ("bundles/indoor-lite0", "bundles/indoor-b0", "bundles/rooms-b0")
"""The bundles that are installed, those of `edge_mtl.bundle.BUNDLED`: the files that their manifests list, and no engine or
other file that lies beside them."""


def bundle_files() -> list[str]:
    """Files of the bundles as package data."""
    found = []
    for bundle in BUNDLES:
        manifest = json.loads((HERE / "edge_mtl" / bundle / "manifest.json").read_text(encoding="utf-8"))
        found += [f"{bundle}/{name}" for name in ("manifest.json", *manifest["files"])]
    return found


def description() -> str:
    """The README without what only a checkout can show: images and links with a relative address, of which the text stays.

    Once the project has a public address, that can be put before the relative ones instead.
    """
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^\]]*\]\((?!https?://)[^)]*\)\n*", "", text)
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?://|#)[^)]*\)", r"\1", text)


# One of these two, or a cv2 of ROS, JetPack or conda: see docs/decisions/0014. Extras that are whole jobs bring HEADLESS.
HEADLESS = ["opencv-python-headless>=4.10.0.84"]
GUI = ["opencv-python>=4.10.0.84"]
CPU = ["onnxruntime>=1.20"]
OPENVINO = ["openvino>=2024.6"]
BUILD = ["onnx>=1.17"]
DEMO = [*HEADLESS, *CPU, *OPENVINO, *BUILD, "scikit-image>=0.24"]
TRAIN = [
    *HEADLESS,
    *BUILD,
    *CPU,
    "torch>=2.7",
    "timm>=1.0.15",
    "safetensors>=0.4",
    "onnxscript>=0.7",
    "torchjd[quadprog-projector,cagrad]>=0.18",  # gradient methods of loss weighting
    "h5py>=3.11",  # NYUv2: the official file,
    "pyarrow>=16",  # and the parquet copy
    "matplotlib>=3.9",  # the study's plots
    "tensorboard>=2.16",
]
EXR = ["OpenEXR>=3.3"]  # depth of one's own as .exr: OpenCV's packages are built without it
TFLITE = ["tflite>=2.10"]  # pretrained weights from .tflite files
BAGS = ["rosbags>=0.11.9"]  # with apsw and ruamel.yaml, which edge_mtl/sources/bag_view.py imports
VIEW = ["rerun-sdk>=0.24"]
SIGN = ["cryptography>=42"]  # Ed25519, of signed bundles
PEERS = ["nncf>=2.14"]  # a rival in benchmarks/peers.py
ROS_TEST = [  # ROS 2 Jazzy as wheels, for tests without an installation of ROS
    *HEADLESS,
    "ros-jazzy-rclpy[fastrtps]==7.1.6",
    "ros-jazzy-sensor-msgs==5.3.6",
    "ros-jazzy-nav-msgs==5.3.6",
    "ros-jazzy-std-msgs==5.3.6",
    "ros-jazzy-diagnostic-msgs==5.3.6",
    "ros-jazzy-lifecycle-msgs==2.0.3",
    "ros-jazzy-std-srvs==5.3.6",
    "ros-jazzy-ament-index-python==1.8.1",
    "colcon-core==0.21.3",
    "colcon-ros==0.5.0",
    "colcon-bash==0.5.0",
    "colcon-metadata==0.3.1",
    "pytest>=8",
    "hypothesis>=6.100",
]
DOCS = [  # the documentation site
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.6",
    "mkdocstrings[python]>=0.30",
    "mkdocstrings-python>=1.16",
    'pymdown-extensions<12; python_version < "3.11"',  # what mkdocstrings can use there
]
EXTRAS = {
    "headless": HEADLESS,
    "gui": GUI,
    "cpu": CPU,
    "openvino": OPENVINO,
    "gpu": ["onnxruntime-gpu>=1.20", "nvidia-ml-py>=12"],
    "cuda": ["cuda-bindings>=12.6"],  # in place of pycuda, where no CUDA toolkit is there to compile that
    "gpu-test": [*HEADLESS, "pytest>=8"],
    "tensorrt": ["tensorrt>=10.3,<12", "pycuda>=2024.1", "nvidia-ml-py>=12"],
    "jetson": ["pycuda>=2024.1"],
    "rtx": ["tensorrt-rtx>=1.2"],
    "build": BUILD,
    "demo": DEMO,
    "train": TRAIN,
    "exr": EXR,
    "tflite": TFLITE,
    "bags": BAGS,
    "view": VIEW,
    "sign": SIGN,
    "peers": PEERS,
    "ros-test": ROS_TEST,
    "docs": DOCS,
    "dev": [
        *TRAIN,
        *EXR,
        *TFLITE,
        *OPENVINO,
        *BAGS,
        *VIEW,
        *SIGN,
        *DOCS,
        'tensorrt-rtx>=1.2; sys_platform == "linux" and platform_machine == "x86_64"',  # its builder needs no GPU
        "scikit-image>=0.24",
        "torchmetrics>=1.4",
        "scipy>=1.13",  # writes MATLAB's files; slopes with their intervals
        "build>=1.2",
        "setuptools>=77",  # builds the wheel for the tests
        "pytest>=8",
        "pytest-xdist>=3.5",
        "hypothesis>=6.100",
        # guides the mutations of tests/reliability/fuzz
        'atheris>=2.3; python_version < "3.14" and sys_platform == "linux" and platform_machine == "x86_64"',
        "uv>=0.5",  # environments of the lowest and the highest versions
        "coverage>=7.10",  # measures processes that tests start without a .pth file of ours
        "cosmic-ray>=8.4",  # mutants of bundle, engine store and frames
        "ruff>=0.9",
        "mypy>=1.14",
        "pre-commit>=4",
        "pip-audit>=2.7",  # make audit: known vulnerabilities,
        "cyclonedx-python-lib[json-validation]>=8",  # and the bill of materials
    ],
}

# setuptools adds what an earlier sdist held, whatever is asked for now.
(HERE / "edge_mtl.egg-info" / "SOURCES.txt").unlink(missing_ok=True)

setup(
    name="edge-mtl",
    version=VERSION,
    description="Segmentation, metric depth and surface normals from one RGB frame, deployed on the edge and measured",
    long_description=description(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE", "WEIGHTS.md"],
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["edge_mtl", "edge_mtl.*"]),
    package_data={"edge_mtl": ["py.typed", "quantization/recipes/*.toml", "cuda/*.ptx", "cuda/*.cu", *bundle_files()]},
    install_requires=[
        "numpy>=1.26",
        "typer>=0.15.4",
        "rich>=13",
        'tomli>=2; python_version < "3.11"',
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["edge-mtl = edge_mtl.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
