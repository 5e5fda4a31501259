"""Colours of the card, light and dark, as CSS. Knows colours only."""

from __future__ import annotations

__all__ = ["COLOURS", "VARIABLES", "shapes", "standing_alone"]

_LIGHT = ("#2563c9", "#c2570c", "#18794e", "#9333a8", "#b3261e", "#0e7490", "#7a5c00", "#52525b")
_DARK = ("#7cacff", "#ffa45c", "#5fcf97", "#d59bf0", "#ff8f85", "#5ecfe3", "#dfc04f", "#b4b4bf")
COLOURS = len(_LIGHT)


def _declared(colours: tuple[str, ...]) -> str:
    return ";".join(f"--c{number}:{colour}" for number, colour in enumerate(colours))


VARIABLES = (
    ":root{color-scheme:light dark;--page:#fbfbfa;--card:#fff;--ink:#1c1e21;--faint:#5f6670;--line:#e3e4e6;--warn:#8a4b00;"
    f"{_declared(_LIGHT)}}}"
    "@media (prefers-color-scheme:dark){:root{--page:#11141b;--card:#191d26;--ink:#e8ebf0;--faint:#98a1b0;--line:#2c323f;"
    f"--warn:#f0b060;{_declared(_DARK)}}}}}"
)
"""Custom properties that everything else refers to."""


def shapes() -> str:
    """How the classes of `edge_mtl.bench.card.svg` look."""
    fills = "".join(f".c{number}{{fill:var(--c{number})}}" for number in range(COLOURS))
    return (
        "svg text{font:12px system-ui,sans-serif}.label{fill:var(--ink)}.faint{fill:var(--faint)}.grid{stroke:var(--line)}"
        ".tick{stroke:var(--ink);stroke-width:1.4}.mark{stroke:var(--faint);stroke-dasharray:4 4}.soft{opacity:.38}"
        f"{fills}"
    )


def standing_alone() -> str:
    """For an image in a file of its own."""
    return VARIABLES + shapes() + "svg{background:var(--card)}"
