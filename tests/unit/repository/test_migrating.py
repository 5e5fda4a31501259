"""What the page on migrating says: new modules are there, old ones are not, and each old command is told."""

from __future__ import annotations

import re

import pytest

from tests.documents import COMMANDS, ROOT

PAGE = (ROOT / "docs/guides/migrating.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)
MODULES = [(old, re.findall(r"`(edge_mtl[\w.]+)`", new)) for old, new in ROWS if re.fullmatch(r"edge_mtl\.[\w.]+", old)]


def there(name: str) -> bool:
    """Whether this repository has the module; one that was installed from elsewhere does not count."""
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


@pytest.mark.parametrize(("old", "new"), MODULES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_is_where_the_page_says_and_no_longer_where_it_was(old: str, new: list[str]) -> None:
    assert new
    assert all(there(name) for name in new)
    assert not there(old)


def test_every_old_command_has_a_row() -> None:
    told = {old.split()[1] for old, _ in ROWS if old.startswith("edge-mtl ")}
    assert {name for name, command in COMMANDS.items() if command.hidden} <= told
