"""What `other_cameras.py` measured, as a Markdown page. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["less", "markdown"]

Figures = Mapping[str, Any]


def less(own: Figures, first: Figures) -> dict[str, float]:
    """How much smaller the relative error is than that of the first bundle, as a share of it: below 0 where it is larger."""
    return {
        "depth_rel": 1.0 - own["depth_rel"] / first["depth_rel"],
        "scaled_depth_rel": 1.0 - own["scaled"]["depth_rel"] / first["scaled"]["depth_rel"],
    }


def markdown(content: Mapping[str, Any]) -> str:
    """A page of what `other_cameras.py` wrote as JSON."""
    names = [f"`{one['name']}` revision {one['revision']}" for one in content["bundles"]]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    near, far = content["range_m"]
    first = _called(content["bundles"][0], content)
    lines = [
        f"# Other cameras: {', '.join(names)}",
        "",
        f"{content['date']}, commit {content['commit']}, {content['device']['description']}; FP32 through Engine, "
        f"{content['threads']['runtime']} threads, depth from {near:g} to {far:g} m. {versions}.",
        "",
        f"| frames | bundle | relative error | δ1 | RMSE m | relative error, scaled | less error than {first} | scaled |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"].values():
        for number, own in enumerate(row["bundles"]):
            shares = own["less_error"]
            compared = [f"{100 * shares[key]:.0f} %" if number else "" for key in ("depth_rel", "scaled_depth_rel")]
            figures = (own["depth_rel"], own["depth_delta1"], own["depth_rmse_m"], own["scaled"]["depth_rel"])
            cells = [f"{row['title']}, {row['frames']}", _called(own, content), *(f"{one:.3f}" for one in figures), *compared]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Scaled: after median scaling of each frame. Less error: a share of that of the first bundle, below 0 if it is more.",
        "",
        "Frames:",
        "",
    ]
    for row in content["rows"].values():
        for origin in row["origins"]:
            at = f"{origin['commit'][:7]}" if origin["commit"] else "files as they lay there"
            lines.append(f"- {row['title']}: {origin['device']}; {origin['address']}, {at}")
    return "\n".join([*lines, "", f"`{content['command']}`", ""])


def _called(one: Figures, content: Mapping[str, Any]) -> str:
    """The name of a bundle, with its revision where several have that name."""
    several = sum(one["name"] == other["name"] for other in content["bundles"]) > 1
    return f"`{one['name']}`" + (f" revision {one['revision']}" if several else "")
