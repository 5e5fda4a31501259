"""Known vulnerabilities, by pip-audit. What it could not look up is said, never taken for safe."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

__all__ = ["KNOWN_BAD", "SERVICES", "Audit", "audit", "read_report"]

SERVICES = ("pypi", "osv")
KNOWN_BAD = {"urllib3": "1.26.4", "pillow": "9.0.0"}
"""Versions with vulnerabilities that every service knows of: CVE-2021-33503, CVE-2022-22817 and others."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What a service says.

    Attributes:
        service: "pypi" or "osv"; empty where none answered.
        vulnerable: ids by name and version of the distribution.
        unknown: what was not looked up, each with the reason.
    """

    service: str
    vulnerable: dict[str, tuple[str, ...]]
    unknown: tuple[str, ...]


def audit(versions: Mapping[str, str], *, timeout_s: float = 600.0) -> Audit:
    """Ask the services in turn until one knows of everything that is asked about."""
    failures: list[str] = []
    for service in SERVICES:
        with tempfile.TemporaryDirectory() as folder:
            wanted = Path(folder, "requirements.txt")
            wanted.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
            command = [sys.executable, "-m", "pip_audit", "-r", str(wanted), "--no-deps", "--disable-pip", "-s", service]
            try:
                done = subprocess.run(
                    [*command, "-f", "json", "--progress-spinner", "off", "--timeout", "20"],
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=timeout_s,
                )
            except subprocess.TimeoutExpired:
                failures.append(f"{service}: no answer in {timeout_s:g} s")
                continue
        found = read_report(service, done.stdout, versions)
        if not found.unknown:
            return found
        last = (done.stderr.strip().splitlines() or [""])[-1] if not done.stdout.strip() else ""
        failures.append(f"{service}: {last or '; '.join(found.unknown[:3])}"[:400])
        if found.vulnerable:
            return Audit(service, found.vulnerable, tuple(failures))
    return Audit("", {}, tuple(failures))


def read_report(service: str, text: str, versions: Mapping[str, str]) -> Audit:
    """What `pip-audit -f json` printed about `versions`; what it is silent about, or skipped, is unknown."""
    try:
        listed: list[dict[str, Any]] = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Audit(service, {}, ("no report",))
    told = {canonicalize_name(each["name"]): each for each in listed}
    vulnerable: dict[str, tuple[str, ...]] = {}
    unknown = []
    for name, version in versions.items():
        entry = told.get(canonicalize_name(name), {})
        if "skip_reason" in entry or entry.get("version") != version:
            unknown.append(f"{name} {version}: {entry.get('skip_reason', 'not in the report')}")
        elif entry["vulns"]:
            vulnerable[f"{name} {version}"] = tuple(each["id"] for each in entry["vulns"])
    return Audit(service, vulnerable, tuple(unknown))
