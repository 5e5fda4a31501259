"""The bill of materials of a wheel, in CycloneDX: files with hashes, bundles with terms, dependencies."""

from __future__ import annotations

import base64
import csv
import importlib.metadata
import io
import json
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.reliability.supply_chain.dependencies import PROJECT, Resolved

__all__ = ["bill_of", "missing", "problems_of_schema"]

_BUNDLES = "edge_mtl/bundles/"


def bill_of(wheel: Path, resolved: Resolved) -> dict[str, Any]:
    """The bill of materials of `wheel` where these versions are installed with it."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = _metadata(archive)
        whole = HashType(alg=HashAlgorithm.SHA_256, content=_hex_of(wheel.read_bytes()))
        root = Component(
            type=ComponentType.LIBRARY,
            name=PROJECT,
            version=metadata["Version"],
            bom_ref=PROJECT,
            purl=PackageURL("pypi", None, PROJECT, metadata["Version"]),
            licenses=[DisjunctiveLicense(name=metadata["License-Expression"])],
            hashes=[whole],
        )
        by_name = {PROJECT: root, **{name: _library(name, version) for name, version in resolved.versions.items()}}
        bundles = {name.split("/")[2] for name in archive.namelist() if name.startswith(_BUNDLES)}
        parts = {f"{_BUNDLES}{name}/": _bundle(archive, name) for name in sorted(bundles)}
        for name, digest in _recorded(archive):
            part = Component(
                type=ComponentType.FILE,
                name=name,
                bom_ref=f"file:{name}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
            )
            owner = next((bundle for prefix, bundle in parts.items() if name.startswith(prefix)), root)
            owner.components.add(part)
    bill = Bom(components=[*(by_name[name] for name in resolved.versions), *parts.values()])
    bill.metadata.component = root
    for name, needs in resolved.needs.items():
        bill.register_dependency(by_name[name], [by_name[other] for other in needs])
    content: dict[str, Any] = json.loads(JsonV1Dot6(bill).output_as_string())
    return content


def missing(bill: dict[str, Any], wheel: Path, resolved: Resolved) -> list[str]:
    """What is in the wheel, or what it needs, and not in the bill, or not as it is; a sentence each."""
    found = []
    listed = {each["name"]: each for each in bill["components"] if each["type"] == "library"}
    for name, version in resolved.versions.items():
        if name not in listed or listed[name].get("version") != version:
            found.append(f"{name} {version} is installed and not in the bill")
        elif not listed[name].get("licenses"):
            found.append(f"{name} has no licence in the bill")
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill.get("dependencies", [])}
    told = {ref.partition("==")[0] for ref in needs.get(PROJECT, ())}
    with zipfile.ZipFile(wheel) as archive:
        for line in _metadata(archive).get_all("Requires-Dist") or ():
            requirement = Requirement(line)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and canonicalize_name(requirement.name) not in told:
                found.append(f"the wheel needs {requirement} and the bill does not say so")
        hashes = {
            part["name"]: part["hashes"][0]["content"]
            for owner in (bill["metadata"]["component"], *bill["components"])
            for part in owner.get("components", ())
        }
        for name, digest in _recorded(archive):
            if hashes.get(name) != digest or _hex_of(archive.read(name)) != digest:
                found.append(f"{name} is in the wheel and not in the bill, or not as it is")
        models = {each["name"]: each for each in bill["components"] if each["type"] == "machine-learning-model"}
        for name in {name.split("/")[2] for name in archive.namelist() if name.startswith(_BUNDLES)}:
            if not models.get(name, {}).get("licenses"):
                found.append(f"the bundle {name} has no terms in the bill")
    return found


def problems_of_schema(bill: dict[str, Any]) -> str:
    """What the schema of CycloneDX 1.6 says against it; empty if nothing."""
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill))
    return "" if error is None else str(error).partition("\n")[0][:300]


def _metadata(archive: zipfile.ZipFile) -> Message:
    (place,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(archive.read(place))


def _library(name: str, version: str) -> Component:
    metadata = importlib.metadata.metadata(name)
    stated = metadata["License-Expression"] or next(
        (each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier") or () if each.startswith("License :: ")), ""
    )
    text = stated or (metadata["License"] or "").strip().partition("\n")[0] or "not stated"
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=f"{name}=={version}",
        purl=PackageURL("pypi", None, name, version),
        licenses=[DisjunctiveLicense(name=text)],
    )


def _bundle(archive: zipfile.ZipFile, name: str) -> Component:
    manifest = json.loads(archive.read(f"{_BUNDLES}{name}/manifest.json"))
    provenance = manifest["provenance"]
    terms = {each["licence"] for each in provenance.get("data_sets", ())} or {provenance["dataset_licence"]}
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=name,
        version=str(manifest["revision"]),
        bom_ref=f"bundle:{name}",
        description="weights and graphs: see WEIGHTS.md; the licences are those of the data it was trained on",
        licenses=[DisjunctiveLicense(name=text) for text in sorted(terms)],
    )


def _recorded(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Files of the wheel with their SHA-256 in hexadecimal, but RECORD itself."""
    (record,) = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
    for name, digest, _ in csv.reader(io.StringIO(archive.read(record).decode())):
        if digest:
            value = digest.removeprefix("sha256=")
            yield name, base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()


def _hex_of(payload: bytes) -> str:
    from edge_mtl.files import sha256_bytes

    return sha256_bytes(payload)
