"""What an environment must do; each check yields what it counted, and what is wrong, a line each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edge_mtl.cli import app
from tests.bag_files import write_bag
from tests.bundles import make_bundle, make_image
from tests.packaging.distributions import ROOT
from tests.reliability.installed import PYTEST, TESTS, counts, failures
from tests.reliability.versions.environment import Environment, Said

__all__ = ["CHECKS", "COMMANDS", "Found", "train_check"]

COMMANDS = tuple(command.name or str(command.callback.__name__) for command in app.registered_commands if command.callback)
HELP = """
import sys
from edge_mtl.cli import main
for words in (["--help"], *([name, "--help"] for name in sys.argv[1:])):
    code = main(words)
    print(f"@@{' '.join(words)}: {code}", flush=True)
"""
SHORT = """
name = "short"
model = { backbone = "pvt_v2_b0", width = 32 }
data = { root = "rooms", height = 64, width = 96, train = 8, validation = 4, test = 4, workers = 1 }
stages = [{ height = 64, width = 96, steps = 2, batch = 4 }]
loop = { threads = 1, loader_workers = 0, pictures = 0 }
"""


@dataclass(slots=True)
class Found:
    """What a check found."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def expect(self, done: Said, what: str) -> bool:
        """Count a command that ended well; else say how it ended."""
        if done.returncode == 0:
            self.counts["commands"] += 1
            return True
        self.wrong.append(f"{what}: exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}")
        return False


def every_command_explains_itself(environment: Environment) -> Found:
    """`edge-mtl --help` and that of every command, in one process."""
    found = Found()
    done = environment.run("-c", HELP, *COMMANDS)
    if done.returncode != 0:
        found.wrong.append(f"edge-mtl --help: exit code {done.returncode}: {done.stderr.strip()[-600:]}")
        return found
    said, text = {}, []
    for line in done.stdout.splitlines():
        if line.startswith("@@"):
            words, _, code = line[2:].partition(": ")
            said[words] = (code, any("Usage" in each for each in text))
            text = []
        else:
            text.append(line)
    for words in ("--help", *(f"{name} --help" for name in COMMANDS)):
        if said.get(words) == ("0", True):
            found.counts["commands"] += 1
        else:
            found.wrong.append(f"edge-mtl {words}: exit code and whether it says its usage: {said.get(words, 'nothing')}")
    return found


def doctor_finds_two_runtimes(environment: Environment) -> Found:
    """Both runtimes of the extra "demo", with right sums of bytes."""
    found = Found()
    done = environment.edge_mtl("doctor", "--json")
    if found.expect(done, "edge-mtl doctor --json"):
        said = json.loads(done.stdout)
        if missing := {"onnxruntime", "openvino"} - set(said["usable"]):
            found.wrong.append(f"doctor: not usable: {', '.join(sorted(missing))}")
        found.wrong += [f"doctor: {name}: {text}" for name, text in said["int8_sums"].items() if not text.startswith("right")]
    return found


def the_demo_runs(environment: Environment) -> Found:
    """INT8 engines of a tiny bundle are built on every runtime; `edge-mtl demo` predicts, draws and times."""
    found = Found()
    make_bundle(environment.empty / "tiny")
    build = ("build-engine", "tiny", "--int8", "--max-drop", "none")
    found.expect(environment.edge_mtl(*build), "edge-mtl build-engine tiny --int8")
    if found.expect(environment.edge_mtl("demo", "--bundle", "tiny", "--save", "demo.png"), "edge-mtl demo --bundle tiny"):
        image = environment.empty / "demo.png"
        if not (image.is_file() and image.read_bytes().startswith(b"\x89PNG")):
            found.wrong.append("edge-mtl demo --save wrote no PNG")
    return found


def a_bag_is_read_and_written(environment: Environment) -> Found:
    """A bag of two images, predicted into arrays and into a bag, and where the viewer is installed into its recordings."""
    found = Found()
    bag = write_bag(environment.empty / "tour", [make_image(0), make_image(1)])
    viewer = bool(environment.versions("rerun-sdk"))
    for files in ("npz", "bag"):
        recording = environment.empty / f"{files}.rrd"
        arguments = ["predict", str(bag), "--out", files, "--files", files, "--json"]
        arguments += ["--save", recording.name] if viewer else []
        found.expect(environment.edge_mtl(*arguments), f"edge-mtl predict BAG --files {files}")
        if viewer and not (recording.is_file() and recording.stat().st_size):
            found.wrong.append(f"edge-mtl predict BAG --save {recording.name} wrote nothing")
    if (arrays := len(list((environment.empty / "npz").rglob("*.npz")))) != 2:
        found.wrong.append(f"edge-mtl predict BAG --files npz wrote {arrays} files of 2 images")
    return found


def the_tests_pass(environment: Environment) -> Found:
    """The SDK's tests of `installed.TESTS`."""
    found = Found()
    checkout = environment.folder / "checkout"
    done = environment.run(*PYTEST, *TESTS, cwd=checkout)
    counted = counts(done.stdout)
    found.counts.update({f"tests {name}": count for name, count in counted.items()})
    if done.returncode != 0 or not counted["passed"]:
        found.wrong += failures(done.stdout) or [f"pytest: exit code {done.returncode}: {(done.stdout + done.stderr)[-600:]}"]
    return found


def train_check(environment: Environment) -> Found:
    """A network is trained, exported and predicts. The code of training is the checkout's: it is not in the wheel."""
    found = Found()
    (environment.empty / "short.toml").write_text(SHORT)
    done = environment.run(str(ROOT / "train" / "train.py"), "--config", "short.toml")
    if found.expect(done, "python train/train.py"):
        arguments = ("predict", "bundles/short/golden", "--bundle", "bundles/short", "--out", "maps", "--json")
        found.expect(environment.edge_mtl(*arguments), "edge-mtl predict --bundle bundles/short")
    return found


CHECKS: Mapping[str, Callable[[Environment], Found]] = {
    check.__name__: check
    for check in (
        every_command_explains_itself,
        doctor_finds_two_runtimes,
        the_demo_runs,
        a_bag_is_read_and_written,
        the_tests_pass,
    )
}
