"""The seventeen gates: what each asks, the command of its long run, and the tests that are its quick part."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GATES", "Gate"]


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate.

    Attributes:
        name: as in the records' file names and `GateRun`.
        promise: what holds while the gate is green.
        command: of the long run.
        quick: file of tests that `make check` runs, the positive control among them.
    """

    name: str
    promise: str
    command: str
    quick: str


_ANY = "no exception outside EdgeMtlError, no native death, no hang over 20 s"

GATES = {
    gate.name: gate
    for gate in (
        Gate(
            "fuzz-texts",
            f"manifests, sidecars, plans' headers, TOML and JSON of any content: {_ANY}",
            "make fuzz",
            "tests/reliability/fuzz/test_fuzz.py",
        ),
        Gate(
            "fuzz-graphs",
            f"ONNX graphs, safetensors and checkpoints, altered by their structure: {_ANY}",
            "make fuzz",
            "tests/reliability/fuzz/test_fuzz.py",
        ),
        Gate(
            "fuzz-media",
            f"images, videos, masks, truth files and bags: {_ANY}",
            "make fuzz",
            "tests/reliability/fuzz/test_fuzz.py",
        ),
        Gate(
            "fuzz-commands",
            f"command lines and ROS messages: {_ANY}, no traceback, only documented exit codes",
            "make fuzz",
            "tests/reliability/fuzz/test_fuzz.py",
        ),
        Gate(
            "kills",
            "SIGKILL at every write step and at random moments: the old artefact or the new one, nothing left",
            "python -m tests.reliability.kills --kills 200",
            "tests/reliability/kills/test_kills.py",
        ),
        Gate(
            "errors",
            "ENOSPC, EDQUOT, EIO, EROFS and no inodes at every step: a typed error, the old artefact, nothing left",
            "python -m tests.reliability.system_errors",
            "tests/reliability/system_errors/test_system_errors.py",
        ),
        Gate(
            "starvation",
            "little memory, few descriptors, one core, no HOME, no /dev/shm, a clock set back: it works or is a typed error",
            "python -m tests.reliability.starvation",
            "tests/reliability/starvation/test_starvation.py",
        ),
        Gate(
            "soak-frames",
            "memory, descriptors, threads and shared memory stay flat over a million frames",
            "make soak",
            "tests/reliability/soak/test_soak.py",
        ),
        Gate(
            "soak-cycles",
            "the same over a thousand times load and close, with threads, forks and streams left half-way",
            "make soak",
            "tests/reliability/soak/test_soak.py",
        ),
        Gate(
            "soak-node",
            "a thousand lifecycle cycles under a camera, and minutes at 30 Hz: flat, and every frame accounted for",
            "make soak",
            "tests/ros/test_lifecycle.py",
        ),
        Gate(
            "races",
            "builders, readers, swaps, sweeps and reloads at once, in many random schedules: one build, only whole engines",
            "python -m tests.reliability.races --schedules 500",
            "tests/reliability/races/test_races.py",
        ),
        Gate(
            "threats",
            "every row of SECURITY.md has tests, and they fail with its defence taken away",
            "python -m tests.reliability.threats",
            "tests/reliability/threats/test_threats.py",
        ),
        Gate(
            "signatures",
            "a bundle verifies with its signer's key only while every byte is what was signed",
            "python -m tests.reliability.signatures",
            "tests/reliability/signatures/test_signatures.py",
        ),
        Gate(
            "supply-chain",
            "no dependency with a known vulnerability, and the wheel's bill of materials is complete",
            "make audit",
            "tests/reliability/supply_chain/test_supply_chain.py",
        ),
        Gate(
            "versions",
            "the oldest and the newest allowed versions of every dependency, Python 3.10 to 3.13",
            "make test-versions",
            "tests/reliability/versions/test_versions.py",
        ),
        Gate(
            "arm64",
            "the SDK's marked tests on 64-bit ARM, and the answers of x86-64",
            "make test-arm64",
            "tests/reliability/arm64/test_arm64.py",
        ),
        Gate(
            "coverage",
            "90 % of the SDK's lines, every branch of bundle, store and frame validation, every surviving mutant explained",
            "make coverage",
            "tests/reliability/coverage/test_coverage.py",
        ),
    )
}
