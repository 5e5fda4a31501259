# Every command sets itself up: the first run makes a virtual environment, later runs reuse it.
PYTHON ?= python3
VENV ?= .venv
DEMO_VENV ?= .venv-demo
ROS_VENV ?= .venv-ros
PIP_FLAGS ?= --quiet --disable-pip-version-check
# Processes that share the tests, file by file; `make check` runs the slow tests, too, with SLOW empty.
WORKERS ?= 2
SLOW ?= and not slow
PYTEST = $(BIN)/python -m pytest -p xdist -n $(WORKERS) --dist loadfile
BIN := $(VENV)/bin
DEMO_BIN := $(DEMO_VENV)/bin
GPU_VENV ?= .venv-gpu
GPU_EXTRAS ?= gpu,$(if $(shell command -v nvcc),jetson,cuda),build,gpu-test
comma := ,
GPU_READY := $(GPU_VENV)/.ready-$(subst $(comma),-,$(GPU_EXTRAS))
NVCC ?= nvcc
ARM_ROOT ?= out/arm64
LOWEST_PYTHON ?= 3.11
# Without the remark of mkdocs-material on other programs.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
SETUP_FILES := setup.py pyproject.toml constraints.txt tests/packaging/check_environment.py
# Environments are whole by themselves: pip takes what is on PYTHONPATH, as of a sourced ROS, for installed, and pytest takes plugins.
unexport PYTHONPATH PYTHONHOME
export PYTEST_DISABLE_PLUGIN_AUTOLOAD := 1
# What an environment declares is looked for before the environment is called ready.
CHECK := tests/packaging/check_environment.py
# The wheels of ROS find their own packages and libraries, unless those of a sourced one come first.
ROS_PYTHON := env -u AMENT_PREFIX_PATH -u LD_LIBRARY_PATH $(ROS_VENV)/bin/python

.PHONY: demo test test-sdk test-training test-ros test-ros-then-wheel test-wheel test-lowest soak soak-frames soak-cycles soak-node fuzz coverage check \
	lint docs docs-serve train test-gpu bench-gpu ptx clean help audit test-versions test-arm64

help:
	@echo "make demo    an INT8 engine from the demo bundle, an image in out/demo.png, a benchmark table"
	@echo "make test    set up the development environment and run the tests but for the slow ones"
	@echo "make check   ruff, mypy, the documentation, every test but slow ones that train, make test-wheel, and make test-ros where its wheels exist"
	@echo "make docs    the documentation site in site/; make docs-serve shows it at localhost:8000"
	@echo "make test-ros  the ROS 2 node's tests on real rclpy, from wheels, in an environment of its own"
	@echo "make test-wheel  the wheel, installed by pip into an empty environment, runs the demo"
	@echo "make audit   known vulnerabilities of what the package needs, and its bill of materials in out/sbom.json"
	@echo "make test-lowest  every command, the demo, a bag, tests and a training with the lowest versions that setup.py declares"
	@echo "make test-versions  the lowest and the highest versions on every Python that is here (ARGS=\"--python 3.13\")"
	@echo "make test-arm64  the wheel on an emulated 64-bit ARM (root, debootstrap, qemu-user-static), beside x86-64; its Debian is ARM_ROOT"
	@echo "make soak    a million frames, a thousand engines, and the ROS 2 node: 1000 lifecycle cycles and ten minutes at 30 Hz"
	@echo "make fuzz    mutants of everything that is read from outside, MINUTES=30 in all; see docs/reliability.md"
	@echo "make coverage  the SDK's tests under coverage.py: lines of the SDK, every branch of bundle, engine store and frame validation"
	@echo "make test-gpu   the tests of a CUDA GPU, in an environment with onnxruntime-gpu (GPU_EXTRAS=gpu,tensorrt,build,gpu-test: TensorRT too)"
	@echo "make bench-gpu  everything that runs the network on a CUDA GPU, side by side, into out/gpu.json"
	@echo "make train   train a small model on rooms (python train/train.py) in the development environment"

demo: $(DEMO_VENV)/.ready
	$(DEMO_BIN)/edge-mtl demo --save out/demo.png

# Tests that train run in a process of their own, as training does in use.
test: test-sdk test-training

test-sdk: $(VENV)/.ready
	$(PYTEST) -m "not training $(SLOW)" tests

test-training: $(VENV)/.ready
	$(PYTEST) -m "training $(SLOW)" tests/unit/train tests/unit/benchmarks tests/integration

# The wheels of ROS are of Linux on x86_64 only.
HAS_ROS := $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m))

# Of two processors: lint and pip fill what tests leave idle; the node's tests wait more than they work and run beside those that
# train, of which the slow ones are for `make test-training SLOW=`: on old processors they take too long. Make's --output-sync
# shows each thing when it is done. Environments are made one after the other: both write egg-info.
TOGETHER = $(MAKE) --output-sync=target
check: $(VENV)/.ready
	@echo "next: lint, the documentation, and the tests that train nothing; each is shown when it is done, minutes from now"
	$(TOGETHER) --jobs=3 SLOW= lint $(if $(HAS_ROS),$(ROS_VENV)/.ready) test-sdk
	@echo "next: the tests that train, and beside them those of the node and of the wheel; each is shown when it is done"
	$(TOGETHER) --jobs=2 test-training $(if $(HAS_ROS),test-ros-then-wheel,test-wheel)

test-ros-then-wheel: test-ros
	$(MAKE) test-wheel

# pip downloads what the wheel depends on.
test-wheel: $(VENV)/.ready
	EDGE_MTL_INSTALL=1 $(BIN)/python -m pytest tests/packaging/test_wheel.py

coverage: $(VENV)/.ready
	$(BIN)/python -m tests.reliability.coverage --workers $(WORKERS) --out out/coverage/record.json

# The lowest versions that setup.py declares; uv downloads them.
test-lowest: $(VENV)/.ready
	$(BIN)/python -m tests.reliability.versions --python $(LOWEST_PYTHON) --resolution lowest --train $(ARGS)

# The lowest and the highest versions, on every Python that is here.
test-versions: $(VENV)/.ready
	$(BIN)/python -m tests.reliability.versions $(ARGS)

# debootstrap makes the folder; needs root.
test-arm64: $(VENV)/.ready
	$(BIN)/python -m tests.reliability.arm64 --root $(ARM_ROOT) $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MKDOCS) build --strict

docs: $(VENV)/.ready
	$(MKDOCS) build --strict

docs-serve: $(VENV)/.ready
	$(MKDOCS) serve --strict

# Needs a service of vulnerabilities: PyPI's or OSV's. Where neither answers, it fails and says so.
audit: $(VENV)/.ready
	mkdir -p out
	$(BIN)/python -m tests.reliability.supply_chain --sbom out/sbom.json --out out/reliability-supply-chain.json

train: $(VENV)/.ready
	$(BIN)/python train/train.py

$(VENV)/.ready: $(SETUP_FILES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	$(BIN)/python $(CHECK) dev
	touch $@

$(DEMO_VENV)/.ready: $(SETUP_FILES)
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_BIN)/python -m pip install $(PIP_FLAGS) -e ".[demo]"
	$(DEMO_BIN)/python $(CHECK) demo
	touch $@

# An environment of its own: the wheels of ROS change how every Python in it starts.
test-ros: $(ROS_VENV)/.ready
	EDGE_MTL_LIFECYCLE_CYCLES=200 $(ROS_PYTHON) -m pytest tests/ros
	$(ROS_PYTHON) benchmarks/soak_node.py --minutes 1

# Hours: a million frames, a thousand engines, and the node. A run of frames that was ended goes on where it was.
soak: soak-frames soak-cycles $(if $(HAS_ROS),soak-node)

soak-frames: $(VENV)/.ready
	$(BIN)/python -m tests.reliability.soak --frames 1000000 --bundle tiny --state out/soak-tiny --out out/soak-frames-tiny.json
	$(BIN)/python -m tests.reliability.soak --frames 50000 --bundle default --state out/soak-default --out out/soak-frames-default.json

soak-cycles: $(VENV)/.ready
	$(BIN)/python -m tests.reliability.soak --cycles 1000 --out out/soak-cycles.json

soak-node: $(ROS_VENV)/.ready
	EDGE_MTL_SIGNALS=200 $(ROS_PYTHON) -m pytest tests/ros/test_signals.py -k random
	$(ROS_PYTHON) -m tests.reliability.soak.node --cycles 1000 --minutes 10 --out out/soak-node.json

# Runs add up: what coverage found and what was found broken stay in out/fuzz.
MINUTES ?= 30
fuzz: $(VENV)/.ready
	$(BIN)/python -m tests.reliability.fuzz --minutes $(MINUTES)

$(ROS_VENV)/.ready: $(SETUP_FILES)
	$(PYTHON) -m venv $(ROS_VENV)
	$(ROS_PYTHON) -m pip install $(PIP_FLAGS) -c constraints.txt -e ".[cpu,build,bags,ros-test]"
	$(ROS_PYTHON) $(CHECK) cpu build bags ros-test
	touch $@

# An environment of its own: onnxruntime-gpu and onnxruntime overwrite each other. It sees the system's packages, because on
# a Jetson TensorRT and PyTorch are the system's.
$(GPU_READY): $(SETUP_FILES)
	$(PYTHON) -m venv --system-site-packages $(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install $(PIP_FLAGS) -e ".[$(GPU_EXTRAS)]"
	$(GPU_VENV)/bin/python $(CHECK) $(subst $(comma), ,$(GPU_EXTRAS))
	touch $@

test-gpu: $(GPU_READY)
	$(GPU_VENV)/bin/python -m pytest -rs tests/gpu

bench-gpu: $(GPU_READY)
	mkdir -p out
	$(GPU_VENV)/bin/python benchmarks/gpu.py edge_mtl/bundles/rooms-b0 --soak-frames 100000 --out out/gpu.json

# PTX of the kernel that letterboxes frames on the GPU; the version is lowered to the first that sm_75 allows.
ptx:
	$(NVCC) -O3 -ptx -arch=compute_75 edge_mtl/cuda/letterbox.cu -o edge_mtl/cuda/letterbox.ptx
	sed -i -e 's/^\.version .*/.version 6.3/' -e '/^\/\//d' edge_mtl/cuda/letterbox.ptx

clean:
	rm -rf $(VENV) $(DEMO_VENV) $(ROS_VENV) $(GPU_VENV) out site .mypy_cache .ruff_cache
