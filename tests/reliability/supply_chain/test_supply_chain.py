"""The quick part of the gate `supply-chain`: the bill of materials of a small wheel, and how a report of pip-audit is read."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cyclonedx", reason="needs cyclonedx-python-lib: pip install -e '.[dev]'")

from edge_mtl.bundle import DEMO_BUNDLE
from tests.reliability.record import GateRun
from tests.reliability.supply_chain import __main__ as command
from tests.reliability.supply_chain import audit as auditing
from tests.reliability.supply_chain.audit import Audit, read_report
from tests.reliability.supply_chain.dependencies import PROJECT, Resolved, direct, extras, resolve
from tests.reliability.supply_chain.sbom import bill_of, missing, problems_of_schema


@pytest.fixture(scope="module")
def resolved() -> Resolved:
    return resolve(("cpu",))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with the metadata of this one, one module and the manifest of the demo bundle."""
    files = {
        "edge_mtl/__init__.py": b"",
        f"edge_mtl/bundles/{DEMO_BUNDLE.name}/manifest.json": (DEMO_BUNDLE / "manifest.json").read_bytes(),
        "edge_mtl-9.dist-info/METADATA": "\n".join(
            [
                "Metadata-Version: 2.4",
                "Name: edge-mtl",
                "Version: 9",
                "License-Expression: Apache-2.0",
                *(f"Requires-Dist: {requirement}" for requirement in direct()),
                "",
                "",
            ]
        ).encode(),
    }
    path = tmp_path_factory.mktemp("wheel") / "edge_mtl-9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, payload in files.items():
            archive.writestr(name, payload)
        lines = [
            f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(payload).digest()).decode().rstrip('=')},{len(payload)}"
            for name, payload in files.items()
        ]
        archive.writestr("edge_mtl-9.dist-info/RECORD", "\n".join([*lines, "edge_mtl-9.dist-info/RECORD,,", ""]))
    return path


@pytest.fixture(scope="module")
def bill(wheel: Path, resolved: Resolved) -> dict[str, Any]:
    return bill_of(wheel, resolved)


def test_every_requirement_is_followed_to_its_end(resolved: Resolved) -> None:
    assert {"numpy", "rich", "typer", "onnxruntime", "flatbuffers"} <= set(resolved.versions)
    assert "flatbuffers" in resolved.needs["onnxruntime"]
    assert "pytest" not in resolved.versions
    assert {"demo", "cpu", "train"} <= set(extras())
    assert "dev" not in extras()


def test_the_bill_has_all_that_is_in_the_wheel_and_all_that_it_needs(
    bill: dict[str, Any], wheel: Path, resolved: Resolved
) -> None:
    assert problems_of_schema(bill) == ""
    assert missing(bill, wheel, resolved) == []
    (model,) = [each for each in bill["components"] if each["type"] == "machine-learning-model"]
    assert model["name"] == DEMO_BUNDLE.name
    (manifest,) = model["components"]
    assert manifest["hashes"][0]["content"] == hashlib.sha256((DEMO_BUNDLE / "manifest.json").read_bytes()).hexdigest()
    assert any("NYU" in str(each) or "Silberman" in str(each) for each in model["licenses"])


@pytest.mark.parametrize("part", ["numpy", "flatbuffers", DEMO_BUNDLE.name])
def test_a_bill_that_lacks_something_is_seen(bill: dict[str, Any], wheel: Path, resolved: Resolved, part: str) -> None:
    less = copy.deepcopy(bill)
    less["components"] = [each for each in less["components"] if each["name"] != part]
    assert any(part in each for each in missing(less, wheel, resolved))


def test_a_bill_that_lacks_a_file_a_hash_a_licence_or_an_edge_is_seen(
    bill: dict[str, Any], wheel: Path, resolved: Resolved
) -> None:
    def seen(change: Any) -> list[str]:
        less = copy.deepcopy(bill)
        change(less)
        return missing(less, wheel, resolved)

    assert seen(lambda less: less["metadata"]["component"]["components"].pop())
    assert seen(lambda less: less["metadata"]["component"]["components"][0]["hashes"][0].update(content="0" * 64))
    assert seen(lambda less: less["components"][0].pop("licenses"))
    assert seen(lambda less: [each.update(dependsOn=[]) for each in less["dependencies"] if each["ref"] == PROJECT])
    assert seen(lambda less: less["components"][0].update(version="0"))
    broken = copy.deepcopy(bill)
    del broken["bomFormat"]
    assert "bomFormat" in problems_of_schema(broken)


def report(*entries: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(entries), "fixes": []})


def test_a_vulnerability_is_read_and_silence_is_not_taken_for_safety() -> None:
    bad = {"name": "urllib3", "version": "1.26.4", "vulns": [{"id": "PYSEC-2021-108", "fix_versions": ["1.26.5"]}]}
    fine = {"name": "numpy", "version": "2.0", "vulns": []}
    both = {"urllib3": "1.26.4", "numpy": "2.0"}
    assert read_report("pypi", report(bad, fine), both) == Audit("pypi", {"urllib3 1.26.4": ("PYSEC-2021-108",)}, ())
    assert read_report("pypi", report(bad), both).unknown == ("numpy 2.0: not in the report",)
    skipped = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited"}
    assert "could not be audited" in read_report("pypi", report(bad, skipped), both).unknown[0]
    assert read_report("pypi", report(bad, fine | {"version": "1.0"}), both).unknown
    assert read_report("pypi", "Traceback", both).unknown == ("no report",)


@pytest.mark.parametrize("answers", [{}, {"urllib3": ("PYSEC-2021-108",)}])
def test_a_run_without_an_answer_is_no_pass(answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "audit", lambda versions: Audit("", answers, ("pypi: no answer",)))
    run = GateRun("supply-chain", ["test"])
    command._audit(run, {"numpy": "2.0"})
    assert any("not measured" in each for each in run.violations)
    assert not run.passed


def test_services_are_asked_in_turn_and_what_they_do_not_know_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Done:
        def __init__(self, command: list[str], **_: Any) -> None:
            asked.append(command[command.index("-s") + 1])
            fine = {"name": "numpy", "version": "2.0", "vulns": []}
            self.stdout = report(fine) if asked[-1] == "osv" else report({"name": "numpy", "skip_reason": "not found"})
            self.stderr = ""

    monkeypatch.setattr(auditing.subprocess, "run", Done)
    assert auditing.audit({"numpy": "2.0"}) == Audit("osv", {}, ())
    assert asked == ["pypi", "osv"]
    assert auditing.audit({"numpy": "2.1"}).unknown == ("pypi: numpy 2.1: not found", "osv: numpy 2.1: not in the report")
