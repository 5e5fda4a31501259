"""The card as one HTML page that needs nothing else: style, plots and images are inside. Knows layout.

Light and dark follow the reader's system; the page runs no script and loads nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edge_mtl.bench.card.facts import columns, conditions, headline, sentences, subject
from edge_mtl.bench.card.plots import accuracy_plot, bars, gain_plot, latency_plot, stage_plot
from edge_mtl.bench.card.theme import COLOURS, VARIABLES, shapes
from edge_mtl.tasks import headlines

__all__ = ["document", "to_html"]

_STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:36px 0 10px}
.sub{color:var(--faint);margin:0 0 22px}
.tiles{display:flex;flex-wrap:wrap;gap:12px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px;flex:1 1 170px}
.tile b{display:block;font-size:24px;font-variant-numeric:tabular-nums}.tile span{color:var(--faint);font-size:13px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px}
figcaption{color:var(--faint);font-size:13px;margin-top:8px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:12px}
.wide{overflow-x:auto;margin-bottom:12px;background:var(--card);border:1px solid var(--line);border-radius:10px}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:7px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--faint);font-weight:600;vertical-align:bottom;white-space:normal}
th:first-child,td:first-child{text-align:left}tr:last-child td{border-bottom:0}
.facts td{text-align:left;white-space:normal;overflow-wrap:anywhere;vertical-align:top}
.facts td:first-child{color:var(--faint);white-space:nowrap}
.notes{color:var(--warn);padding-left:20px}.key{font-size:13px;color:var(--faint);margin:8px 0 0}
.key i{display:inline-block;width:10px;height:10px;border-radius:2px;margin:0 5px 0 12px}
img{max-width:100%;height:auto;border-radius:6px;display:block}
svg{display:block;width:100%;height:auto}
"""


def to_html(report: Mapping[str, Any], *, images: Sequence[tuple[str, bytes]] = ()) -> str:
    """The whole page.

    Args:
        report: a benchmark, as its JSON.
        images: (title, JPEG) of predictions.
    """
    rows = report["rows"]
    names = " and ".join(dict.fromkeys(item["name"] for item in report["bundles"]))
    parts = [
        f"<h1>{escape(names)} on this device</h1>",
        f'<p class="sub">{escape(report["device"]["description"])} · {escape(report["date"][:10])} · '
        f"{escape(subject(report))}</p>",
        '<div class="tiles">',
        *(f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for value, what in headline(report)),
        "</div>",
        _notes(sentences(report)),
        "<h2>All figures</h2>",
        *(_table(*each) for each in columns(report) if len(each[0]) > 1),
        "<h2>Latency</h2>",
        _figure(latency_plot(rows), "Each dot is a frame, none left out; the bar is the median, the ticks are p90 and p99."),
        "<h2>Against the plain FP32 graph</h2>",
        _figure(
            gain_plot(rows, report["baseline"]),
            "Median over rounds of neighbouring frames, with its 95 % interval. The dashed line is the baseline.",
        ),
        "<h2>Stages</h2>",
        _figure(stage_plot(rows), "From the image to the maps. Copies to and from a device are shown where there is one."),
        *_accuracy(rows),
        *_memory(rows),
        *_energy(rows),
        *_images(images),
        "<h2>Conditions</h2>",
        f'<div class="wide">{_facts(conditions(report))}</div>',
    ]
    return document(f"Benchmark of {names}", "".join(parts))


def document(title: str, body: str) -> str:
    """A page around `body`."""
    style = VARIABLES + _STYLE + shapes()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def _notes(texts: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(text)}</li>" for text in texts)}</ul>' if texts else ""


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><td>{escape(what)}</td><td>{escape(value)}</td></tr>" for what, value in pairs)
    return f'<table class="facts"><tbody>{lines}</tbody></table>'


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _accuracy(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    known = headlines(*(row["accuracy"] for row in rows))
    if not known:
        return []
    frames = max(int(row["accuracy"].get("frames", 0)) for row in rows)
    plots = "".join(
        f"<figure>{accuracy_plot(rows, key, measure.label, higher_is_better=measure.higher_is_better)}</figure>"
        for key, measure in known.items()
    )
    keys = "".join(
        f'<span><i style="background:var(--c{number % COLOURS})"></i>{escape(row["name"])}</span>'
        for number, row in enumerate(rows)
    )
    return [
        "<h2>Accuracy against latency</h2>",
        f'<div class="pair">{plots}</div><p class="key">{keys}</p>',
        f'<p class="key">On {frames} labelled frames of the bundle, measured in this run.</p>',
    ]


def _memory(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not any(row["memory"] for row in rows):
        return []
    values = [
        (
            row["name"],
            *((row["memory"]["above_empty"] / 1e6, _memory_text(row["memory"])) if row["memory"] else (None, "not measured")),
        )
        for row in rows
    ]
    plot = bars("Memory above an empty process", "MB", values)
    return [
        "<h2>Memory</h2>",
        _figure(plot, "Largest resident memory of a process of its own, less what it had before loading."),
    ]


def _memory_text(memory: Mapping[str, Any]) -> str:
    text = f"{memory['above_empty'] / 1e6:.0f} MB, peak {memory['peak_rss'] / 1e6:.0f}"
    return text if memory["device"] is None else f"{text}, GPU {memory['device'] / 1e6:.0f}"


def _energy(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found: list[str] = []
    sensors = next((row["energy"] for row in rows if row["energy"]), ())
    for place, sensor in enumerate(sensors):
        values = []
        for row in rows:
            if row["energy"]:
                entry = row["energy"][place]
                joules = entry["joules"]
                text = (
                    f"{joules['value'] * 1e3:.1f} mJ ({joules['low'] * 1e3:.1f} to {joules['high'] * 1e3:.1f}), "
                    f"{entry['above_idle_joules'] * 1e3:.1f} above idle, {entry['watts']:.1f} W"
                )
                values.append((row["name"], joules["value"] * 1e3, text))
        plot = bars(f"Energy of a frame, {sensor['source']}", "mJ", values)
        found.append(_figure(plot, f"{sensor['source']}: {sensor['covers']}; idle {sensor['idle_watts']:.1f} W."))
    return ["<h2>Energy</h2>", *found] if found else []


def _images(images: Sequence[tuple[str, bytes]]) -> list[str]:
    if not images:
        return []
    figures = []
    for title, jpeg in images:
        source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
        figures.append(f'<figure><img src="{source}" alt="{escape(title)}"/><figcaption>{escape(title)}</figcaption></figure>')
    return ["<h2>Predictions</h2>", f'<div class="pair">{"".join(figures)}</div>']
