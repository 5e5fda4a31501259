"""`make audit`: known vulnerabilities of everything that the wheel and its extras need, and the wheel's bill of materials.

python -m tests.reliability.supply_chain --out FILE [--sbom FILE] [--wheel FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from pathlib import Path

from edge_mtl.files import write_atomic
from tests.packaging.distributions import build, copy_of_checkout
from tests.reliability.record import GateRun
from tests.reliability.supply_chain.audit import KNOWN_BAD, audit
from tests.reliability.supply_chain.dependencies import extras, resolve
from tests.reliability.supply_chain.sbom import bill_of, missing, problems_of_schema


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sbom", type=Path, default=Path("out/sbom.json"))
    parser.add_argument("--wheel", type=Path, help="built from this checkout by default")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    run = GateRun("supply-chain")
    every = resolve(extras())
    for absent in every.absent:
        run.note(f"not installed here, so neither audited nor in the bill: {absent}")
    _audit(run, every.versions)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        wheel = asked.wheel or build(copy_of_checkout(place / "checkout"), place / "dist", "--wheel")["whl"]
        bill = bill_of(wheel, every)
        for problem in filter(None, (problems_of_schema(bill), *missing(bill, wheel, every))):
            run.violation(f"bill of materials: {problem}")
        run.count("files in the bill", sum(len(each.get("components", ())) for each in bill["components"]))
        run.count("libraries in the bill", len(every.versions))
        without = copy.deepcopy(bill)
        without["components"] = [each for each in without["components"] if each["name"] != "numpy"]
        run.control("numpy left out of the bill", "; ".join(missing(without, wheel, every)))
        shorter = copy.deepcopy(bill)
        del shorter["version"], shorter["bomFormat"]
        run.control("a bill without its format", problems_of_schema(shorter))
    asked.sbom.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(asked.sbom, (json.dumps(bill, indent=1) + "\n").encode())
    print(f"{asked.sbom}: {len(bill['components'])} components")
    return run.finish(asked.out)


def _audit(run: GateRun, versions: dict[str, str]) -> None:
    """Vulnerabilities are violations, and so is what could not be looked up: silence is no answer."""
    found = audit(versions)
    run.count("libraries audited", len(versions) if found.service and not found.unknown else 0)
    for name, ids in found.vulnerable.items():
        run.violation(f"{name} has known vulnerabilities: {', '.join(ids)}")
    if found.unknown:
        run.violation(f"not measured, for no service of vulnerabilities answered: {' | '.join(found.unknown)}")
    known = audit(KNOWN_BAD)
    run.control(
        f"old versions with vulnerabilities: {KNOWN_BAD}",
        "; ".join(f"{name}: {', '.join(ids[:3])}" for name, ids in known.vulnerable.items()),
    )


if __name__ == "__main__":
    sys.exit(main())
