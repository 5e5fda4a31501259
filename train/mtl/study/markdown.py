"""A report as Markdown with its figures as files beside it. Knows the document and Markdown; knows nothing about studies."""

from __future__ import annotations

from mtl.study.answers import Answer
from mtl.study.document import Answers, Block, Document, Facts, Figure, Heading, Items, Text, TextTable

__all__ = ["to_markdown"]


def to_markdown(document: Document) -> str:
    """The text; figures are linked by name."""
    parts = [f"# {_plain(document.title)}", f"*{_plain(document.question)}*", *(_block(one) for one in document.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {_plain(text)}"
        case Text(text):
            return _plain(text)
        case Items(items, code):
            return "```bash\n" + "\n".join(items) + "\n```" if code else "\n".join(f"- {_plain(item)}" for item in items)
        case Facts(pairs):
            return "\n".join(f"- **{_plain(name)}**: {_plain(value)}" for name, value in pairs)
        case Answers(answers):
            return "\n\n".join(_answer(one) for one in answers)
        case TextTable():
            return _table(block)
        case Figure(name, _, caption, columns):
            heads = f"\n\nLeft to right: {', '.join(_plain(one) for one in columns)}." if columns else ""
            return f"![{_plain(caption)}]({name})\n\n{_plain(caption)}{heads}"


def _answer(answer: Answer) -> str:
    lines = [f"**{_plain(answer.question)}** {_plain(answer.sentence)}", ""]
    return "\n".join([*lines, *(f"- {_plain(line)}" for line in answer.details)]).rstrip()


def _table(table: TextTable) -> str:
    lines = [f"{_plain(table.caption)}\n"] if table.caption else []
    lines.append("| " + " | ".join(_cell(heading) for heading in table.headings) + " |")
    lines.append("|---" + "|---:" * (len(table.headings) - 1) + "|")
    for row, cells in enumerate(table.rows):
        written = [f"**{_cell(text)}**" if (row, column) in table.strong else _cell(text) for column, text in enumerate(cells)]
        lines.append("| " + " | ".join(written) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return text.replace("\\", "\\\\").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_").replace("`", "\\`")
