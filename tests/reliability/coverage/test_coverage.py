"""The gate of coverage and mutants: what it must report is put in, and its list of explained survivors is of this code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.coverage.controls import explain_a_dead_mutant, leave_a_branch_untested, let_a_mutant_live
from tests.reliability.coverage.measuring import gpu_share, line_share, unreached
from tests.reliability.coverage.modules import MODULES, ROOT
from tests.reliability.coverage.mutants import Mutant, mutants_of
from tests.reliability.coverage.results import Results
from tests.reliability.coverage.survivors import Explanation, judge, read_explanations
from tests.reliability.coverage.trials import Reached, Trial, try_mutants

CODE = """\
from __future__ import annotations

LIMIT: int | None = 3


class Box:
    @property
    def small(self) -> bool | None:
        return self.size < LIMIT and not self.open
"""


def test_a_branch_that_no_test_takes_is_reported(tmp_path: Path) -> None:
    _, said = leave_a_branch_untested(tmp_path)
    assert said == "tiny.py:2: the branch to line 4 was never taken"


def test_a_mutant_that_no_test_notices_is_reported_where_nothing_explains_it() -> None:
    _, said = let_a_mutant_live()
    assert said.startswith("edge_mtl/manifest.py:")
    assert (
        "or revision < 1: + if not isinstance(revision, int) and revision < 1:: survived, and survivors.toml does not" in said
    )


def test_a_mutant_that_no_test_reaches_has_survived() -> None:
    mutants = [Mutant("a.py", 3, "f", f"- x\n+ {letter}", letter) for letter in "yz"]
    tried = list(try_mutants([(one, []) for one in mutants], jobs=1, timeout_s=1.0))
    assert tried == [(one, Trial("survived", "", 0)) for one in mutants]


def test_an_explanation_of_a_mutant_that_a_test_kills_is_reported() -> None:
    _, said = explain_a_dead_mutant()
    assert said.endswith("survivors.toml explains it, and it is killed by a test now: take the entry out")


def test_an_explanation_of_no_mutant_is_reported_and_one_of_a_survivor_is_not() -> None:
    alive = Mutant("a.py", 3, "f", "- x\n+ y", "y")
    fitting = Explanation("bundle", "a.py", "f", "- x\n+ y", "both are the same here")
    gone = Explanation("bundle", "a.py", "f", "- x\n+ z", "both are the same here")
    assert judge([alive], [], [fitting]) == []
    assert judge([alive], [], [fitting, gone]) == [
        "a.py f: - x + z: survivors.toml explains it, and it is no mutant of this file any more: take the entry out"
    ]


def test_several_mutants_may_have_one_reason() -> None:
    both = Explanation("bundle", "a.py", "f", "- x\n+ y\n+ z", "all are the same here")
    alive = [Mutant("a.py", 3, "f", f"- x\n+ {letter}", letter) for letter in "yz"]
    assert judge(alive, [], [both]) == []
    assert judge(alive[:1], alive[1:], [both]) == [
        "a.py f: - x + z: survivors.toml explains it, and it is killed by a test now: take the entry out"
    ]


def test_what_is_explained_is_of_this_code() -> None:
    for one in read_explanations():
        assert one.file in MODULES[one.module].mutated
        lines = [line.strip() for line in (ROOT / one.file).read_text(encoding="utf-8").splitlines()]
        taken = [line[2:] for line in one.change.splitlines() if line.startswith("- ")]
        assert taken, one
        assert all(line in lines for line in taken), f"{one}: no such line in {one.file}"
        assert {line[:2] for line in one.change.splitlines()} <= {"- ", "+ "}, one


ENTRY = '[[survivor]]\nmodule = "bundle"\nfile = "a.py"\nwithin = ""\nchange = """\n- x\n+ y\n"""\nwhy = "both are the same"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENTRY.replace("both are the same", "equal"), "should say why in a sentence"),
        (ENTRY.replace('file = "a.py"\n', ""), "an entry should have module, file, within, change, why"),
        (ENTRY + 'note = "more"\n', "an entry should have"),
        (ENTRY * 2, "explained twice"),
    ],
)
def test_a_list_of_survivors_that_is_not_well_formed_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "survivors.toml").write_text(ENTRY)
    assert read_explanations(tmp_path / "survivors.toml")[0].change == "- x\n+ y"
    (tmp_path / "survivors.toml").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_explanations(tmp_path / "survivors.toml")


def test_mutants_are_of_code_and_not_of_annotations() -> None:
    found = list(mutants_of("box.py", CODE))
    assert {(one.line, one.within, one.change.splitlines()[-1][2:]) for one in found} == {
        (3, "", "LIMIT: int | None = 4"),
        (3, "", "LIMIT: int | None = 2"),
        (7, "Box.small", "@property"),
        (9, "Box.small", "return self.size <= LIMIT and not self.open"),
        (9, "Box.small", "return self.size != LIMIT and not self.open"),
        (9, "Box.small", "return self.size < LIMIT or not self.open"),
        (9, "Box.small", "return self.size < LIMIT and  self.open"),
    }
    assert all(one.source.count("\n") in (CODE.count("\n"), CODE.count("\n") - 1) for one in found)


def test_a_mutant_is_tried_with_the_tests_that_run_its_statement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "box.py").write_text(CODE)
    monkeypatch.setattr("tests.reliability.coverage.trials.ROOT", tmp_path)
    reached = Reached({"slow": 9.0, "quick": 0.1, "other": 0.2}, {"box.py": {3: [""], 7: [""], 8: [""], 9: ["slow", "quick"]}})
    by_line = {one.line: reached.by(one) for one in mutants_of("box.py", CODE)}
    assert by_line == {3: ["quick", "other", "slow"], 7: ["quick", "other", "slow"], 9: ["quick", "slow"]}


def test_a_run_goes_on_where_it_was_stopped_and_forgets_what_may_have_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tests.reliability.coverage.results.ROOT", tmp_path)
    tests = tmp_path / "test_it.py"
    tests.write_text("def test_a():\n    assert a\n\n\ndef test_b():\n    assert b\n")
    dead, alive = Mutant("a.py", 1, "", "- x\n+ y", "y"), Mutant("a.py", 1, "", "- x\n+ z", "z")
    killed, survived = Trial("killed", "test_it.py::test_a[1]", 2), Trial("survived", "", 2)
    first = Results(tmp_path / "results", ["test_it.py"])
    first.add(dead, killed)
    first.add(alive, survived)
    again = Results(tmp_path / "results", ["test_it.py"])
    assert (again.get(dead), again.get(alive)) == (killed, survived)
    tests.write_text(tests.read_text() + "\n\ndef test_c():\n    assert c\n")
    more = Results(tmp_path / "results", ["test_it.py"])
    assert (more.get(dead), more.get(alive)) == (killed, None), "a test more may kill what survived"
    tests.write_text(tests.read_text().replace("assert a", "assert True"))
    assert Results(tmp_path / "results", ["test_it.py"]).get(dead) is None, "the test that killed it is another one"


def test_shares_are_of_the_lines_and_a_file_that_nothing_imports_is_reported() -> None:
    def lines(total: int, covered: int) -> dict[str, dict[str, int]]:
        return {"summary": {"num_statements": total, "covered_lines": covered}}

    report = {
        "totals": {"num_statements": 10, "covered_lines": 7},
        "files": {"edge_mtl/cuda/a.py": lines(4, 1), "edge_mtl/b.py": lines(6, 6)},
    }
    assert line_share(report) == 0.7
    assert gpu_share(report, ["edge_mtl/cuda/"]) == (0.4, 0.25)
    assert unreached(report, ["edge_mtl/c.py"]) == ["edge_mtl/c.py: no test imports it"]


def test_nothing_of_the_three_modules_is_left_out_of_the_count_and_their_tests_are_there() -> None:
    for module in MODULES.values():
        assert set(module.mutated) <= set(module.files)
        assert all((ROOT / file).is_file() for file in (*module.files, *module.tests))
        assert not [file for file in module.files if "pragma: no" in (ROOT / file).read_text(encoding="utf-8")]
