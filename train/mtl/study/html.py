"""A report as one HTML file that needs nothing else: figures inside, light and dark, for a phone as for a desk.

Knows the document and HTML; knows nothing about studies.
"""

from __future__ import annotations

import base64
import re
from html import escape

from mtl.study.document import Answers, Block, Document, Facts, Figure, Heading, Items, Text, TextTable

__all__ = ["to_html"]

_STYLE = """
:root{color-scheme:light dark;--ink:#24292f;--soft:#626c77;--paper:#fff;--panel:#f5f6f8;--line:#d9dee4;
--good:#1f7a45;--bad:#b3322f;--mixed:#95650a;--none:#57606a}
@media(prefers-color-scheme:dark){:root{--ink:#d6dbe1;--soft:#98a2ad;--paper:#14171b;--panel:#1d2126;--line:#343b43;
--good:#63c98d;--bad:#f08a86;--mixed:#e3b25a;--none:#a3acb6}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem;max-width:74rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.6rem 0 .3rem}h2{font-size:1.2rem;margin:2.2rem 0 .6rem}
.question{font-size:1.1rem;color:var(--soft);margin:0 0 1.2rem}.small{color:var(--soft);font-size:.9rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:0;font-size:.92rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.answers{display:grid;gap:.8rem}
.answer{background:var(--panel);border-left:4px solid var(--tone);border-radius:4px;padding:.7rem 1rem}
.answer h3{font-size:1rem;margin:0 0 .2rem}.answer p{margin:0}
.tag{color:var(--tone);font-weight:600;white-space:nowrap}
.good{--tone:var(--good)}.bad{--tone:var(--bad)}.mixed{--tone:var(--mixed)}.none,.unknown{--tone:var(--none)}
details{margin-top:.3rem;font-size:.9rem}summary{cursor:pointer;color:var(--soft)}details ul{margin:.3rem 0;padding-left:1.2rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);font-size:.88rem;padding-bottom:.3rem}
th,td{padding:.25rem .4rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper)}
td small{display:block;color:var(--soft);font-weight:400;line-height:1.1}
thead th{color:var(--soft);font-weight:600}
figure{margin:1rem 0}figure svg,figure img{display:block;max-width:100%;height:auto}figure img{width:100%;border-radius:4px}
figcaption{color:var(--soft);font-size:.88rem;margin-top:.3rem}
.columns{display:grid;grid-auto-flow:column;grid-auto-columns:1fr;font-size:.8rem;color:var(--soft);text-align:center;line-height:1.2}
.sheet{min-width:36rem}
pre{background:var(--panel);padding:.7rem 1rem;border-radius:4px;overflow-x:auto;font-size:.88rem}
@media(max-width:40rem){th:first-child,td:first-child{white-space:normal;min-width:7rem}}
"""


def to_html(document: Document) -> str:
    """The page."""
    body = "\n".join(_block(one) for one in document.blocks)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(document.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(document.title)}</h1>
<p class="question">{escape(document.question)}</p>
{body}
</body>
</html>
"""


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Text(text, small):
            return f"<p{' class=small' if small else ''}>{escape(text)}</p>"
        case Items(items, code):
            if code:
                return "<pre><code>" + "\n".join(escape(item) for item in items) + "</code></pre>"
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
        case Facts(pairs):
            return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs) + "</dl>"
        case Answers():
            return _answers(block)
        case TextTable():
            return _table(block)
        case Figure():
            return _figure(block)


def _answers(block: Answers) -> str:
    parts = []
    for one in block.answers:
        lines = "".join(f"<li>{escape(line)}</li>" for line in one.details)
        more = f"<details><summary>numbers</summary><ul>{lines}</ul></details>" if lines else ""
        parts.append(
            f'<section class="answer {one.sign}"><h3>{escape(one.question)} <span class="tag">{escape(one.label)}</span></h3>'
            f"<p>{escape(one.sentence)}</p>{more}</section>"
        )
    return f'<div class="answers">{"".join(parts)}</div>'


def _table(table: TextTable) -> str:
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in table.headings)
    lines = []
    for row, cells in enumerate(table.rows):
        written = []
        for column, text in enumerate(cells):
            mean, plus_minus, spread = escape(text).partition(" ± ")
            inner = f"<strong>{mean}</strong>" if (row, column) in table.strong else mean
            inner += f" <small>± {spread}</small>" if plus_minus else ""
            written.append(f'<th scope="row">{inner}</th>' if column == 0 else f"<td>{inner}</td>")
        lines.append(f"<tr>{''.join(written)}</tr>")
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _figure(figure: Figure) -> str:
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>"
    if isinstance(figure.content, str):
        image = figure.content.replace("<svg", f'<svg role="img" aria-label="{escape(figure.caption)}"', 1)
        image = re.sub(r"<style>svg\{.*?</style>", "", image, count=1)  # the page has its own colours
        image = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", image, count=1)
        return f'<figure><div class="wide">{image}</div>{caption}</figure>'
    coded = base64.b64encode(figure.content).decode()
    heads = "".join(f"<span>{escape(one)}</span>" for one in figure.columns)
    columns = f'<div class="columns">{heads}</div>' if heads else ""
    image = f'<img src="data:image/jpeg;base64,{coded}" alt="{escape(figure.caption)}">'
    return f'<figure><div class="wide"><div class="sheet">{columns}{image}</div></div>{caption}</figure>'
