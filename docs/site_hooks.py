"""Builds the site from the repository as it is: pages keep their repository paths, so links hold in both places.

MkDocs calls the functions whose names begin with `on_`. Pages are the Markdown files of the root and of docs/, and those that
they link to; other files of the repository that a page links to are published beside them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "WEIGHTS.md")

_FENCE = re.compile(r"^ *(```|~~~)")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_ITEM = re.compile(r"^( *)([-*]|\d+\.) ")
_TAG = re.compile(r"<(script|img|iframe|source|video|audio|embed|object|link)\b[^>]*>", re.IGNORECASE)
_MENTION = re.compile(r"""\brel=["']?(?:canonical|alternate|prev|next)\b""", re.IGNORECASE)
_OUTSIDE = re.compile(r"""\b(?:src|srcset|data|href)=["']?(?:https?:)?//""", re.IGNORECASE)


def without_code(text: str) -> str:
    """The Markdown without its code blocks and code spans."""
    kept, inside = [], False
    for line in text.splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            kept.append(re.sub(r"`[^`]*`", "", line))
    return "\n".join(kept)


def links(path: str, root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Local links of a Markdown file, each as the target's repository path and its anchor ("" without one)."""
    for target in _LINK.findall(without_code((root / path).read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        yield (posixpath.normpath(posixpath.join(posixpath.dirname(path), place)) if place else path), anchor


def site_paths(root: Path = ROOT) -> list[str]:
    """Repository paths of every page and of every file that a page links to."""
    waiting = [*ROOT_PAGES, *sorted(path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md"))]
    found: dict[str, None] = {}
    while waiting:
        path = waiting.pop(0)
        if path in found or not (root / path).is_file():
            continue  # a link to nothing is reported by MkDocs, with the page
        found[path] = None
        if path.endswith(".md"):
            waiting += [target for target, _ in links(path, root)]
    return list(found)


def commonmark(text: str) -> str:
    """Markdown as GitHub reads it, rewritten for Python-Markdown.

    A list or a table may follow a paragraph at once there, and what belongs to a list item is indented by two or three spaces;
    here both need a blank line before and four spaces.
    """
    lines: list[str] = []
    opening, inside, listed = "", False, False  # opening: the first line after the last blank one
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if not inside or fence:
            item, table = _ITEM.match(line), line.lstrip().startswith("|")
            before = lines[-1] if lines else ""
            if item is None and line and not line.startswith(" ") and not before:
                listed = False
            starts = (item is not None and not _ITEM.match(opening)) or (table and not before.lstrip().startswith("|"))
            if before.strip() and starts:
                lines.append("")
                before = ""
            opening = opening if before.strip() else line
            listed = listed or item is not None
        if fence:
            inside = not inside
        spaces = len(line) - len(line.lstrip(" "))
        lines.append(" " * (4 * -(-spaces // 4) - spaces) + line if listed and spaces and not inside else line)
    return "\n".join(lines) + "\n"


def requests_to_others(html: str) -> list[str]:
    """Elements of a page that would make a browser ask another host. Links that a reader may follow are not meant."""
    tags: Iterable[re.Match[str]] = _TAG.finditer(html)
    return [tag[0] for tag in tags if _OUTSIDE.search(tag[0]) and not _MENTION.search(tag[0])]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace what lies in docs/ by pages and files under their repository paths."""
    from mkdocs.structure.files import File
    from mkdocs.structure.files import Files as FileList

    kept = [file for file in files if file.src_dir != config.docs_dir]
    for path in site_paths():
        file = File(path, str(ROOT), config.site_dir, config.use_directory_urls)
        file.dest_uri = file.dest_uri.removeprefix("docs/")
        if "." not in posixpath.basename(path):
            file.dest_uri += ".txt"  # LICENSE: browsers show it then
        kept.append(file)
    for file in (file for file in files if file.src_dir == config.docs_dir and file.src_uri.startswith("assets/")):
        kept.append(file)
    return FileList(kept)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Called for each page before its Markdown is read."""
    return commonmark(markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would send its reader's address to another host."""
    from mkdocs.exceptions import PluginError

    found = requests_to_others(output)
    if found:
        raise PluginError(f"{page.file.src_uri} asks another host: {found[0]}. Keep the file in the repository, or link to it")
    return output
