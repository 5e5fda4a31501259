"""Whether this Python itself has the modules that extras of edge-mtl declare: `check_environment.py dev`.

pip counts what lies on PYTHONPATH, as of a sourced ROS, as installed. An environment that was made so lacks packages as soon as
it is used without, so the Makefile asks here before it calls an environment ready.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import site
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

PROJECT = "edge-mtl"


def main(extras: Sequence[str]) -> int:
    """Print what is wrong, a line each; the exit code."""
    found = problems(declared(extras), [Path(folder).resolve() for folder in site.getsitepackages()])
    for problem in found:
        print(f"environment: {problem}", file=sys.stderr)
    if found:
        print(f"environment: {sys.prefix} is not ready. Remove it and run the command again", file=sys.stderr)
    return 1 if found else 0


def declared(extras: Sequence[str]) -> list[Requirement]:
    """What the project requires here, with these extras."""
    every = [Requirement(line) for line in importlib.metadata.requires(PROJECT) or ()]
    return [one for one in every if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras))]


def problems(requirements: Iterable[Requirement], own: Sequence[Path]) -> list[str]:
    """What is wrong with each requirement, a sentence each.

    Args:
        own: folders of this environment that packages may be in.
    """
    found = []
    for requirement in requirements:
        try:
            distribution = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{requirement} is declared and not installed")
            continue
        folder = Path(str(distribution.locate_file(""))).resolve()
        if folder not in own:
            found.append(f"{requirement} is taken from {folder}, which is not of this environment: unset PYTHONPATH")
        elif not requirement.specifier.contains(distribution.version, prereleases=True):
            found.append(f"{requirement} is declared, and {distribution.version} is installed")
        else:
            gone = [module for module in modules(distribution) if not has(module, own)]
            found += [f"{requirement} is installed, and its module {module} is not whole here" for module in gone]
    return found


def modules(distribution: importlib.metadata.Distribution) -> list[str]:
    """The public modules that a distribution puts beside others: folders with an __init__.py, and single files."""
    names = set()
    for file in distribution.files or ():
        name, _, ending = file.parts[0].partition(".")
        package = len(file.parts) == 2 and file.name == "__init__.py" and not ending
        if package or (len(file.parts) == 1 and file.suffix in (".py", ".so")):
            names.add(name)
    return sorted(name for name in names if name.isidentifier() and not name.startswith("_"))


def has(module: str, own: Sequence[Path]) -> bool:
    """Whether `module` would be imported from one of the folders `own`. A folder that is left of a package has no origin."""
    found = importlib.util.find_spec(module)
    return (
        found is not None and found.origin is not None and any(Path(found.origin).resolve().is_relative_to(one) for one in own)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
