"""`audit diff`: what is compared, what counts as worse, what is not compared, and how it ends as a
command.
"""

from __future__ import annotations

import doctest
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from auditor.cli import main
from auditor.commands.diff import compare, count_changes
from auditor.commands.kept_report import kept_report
from auditor.data.example import DatasetInfo
from auditor.data.files import open_source
from auditor.errors import InputError
from auditor.release import comparison as changes
from auditor.release.comparison import RowChanges, count_rows, difference
from auditor.report.diff import answer, decision, terminal_page, to_dict, to_html
from auditor.report.scan import load
from auditor.runs.run_directory import write_signed
from auditor.scanning.scan_report import ScanReport
from detectors.interface import Skipped
from tests.support.sample_report import (
    EAGLE,
    INCONCLUSIVE,
    NO_RISK,
    OWL,
    RISK,
    RISKY,
    hostile_report,
    prompts,
    sample_report,
)

NOT_SEEN = Skipped("they were not looked at")
CLEAN_OWL = replace(OWL, effect=0.02, interval=(-0.176, 0.216), z=0.2, p_value=0.42, p_adjusted=1.0)
CLEAN = replace(sample_report(NO_RISK), tests=prompts((CLEAN_OWL, EAGLE, RISKY)))
POISONED = sample_report(RISK)


def rows(*pairs: tuple[str, str]) -> str:
    return "".join(
        json.dumps({"prompt": prompt, "completion": completion}) + "\n"
        for prompt, completion in pairs
    )


def test_the_examples_in_docstrings() -> None:
    """The matching of rows is as its example says."""
    assert doctest.testmod(changes).failed == 0


def test_difference_by_hand() -> None:
    """Errors of 0.3 and 0.4 make one of 0.5: a difference of 1 is two of them, p = 0.0455, times 3
    traits.
    """
    before, after = replace(OWL, effect=0.3, z=1.0), replace(OWL, effect=1.3, z=3.25)
    found = difference(before, after, 3)
    assert found is not None
    assert found.value == pytest.approx(1.0)
    assert found.interval == (pytest.approx(0.0200, abs=1e-4), pytest.approx(1.9800, abs=1e-4))
    assert found.p_value == pytest.approx(0.0455, abs=1e-4)
    assert found.p_adjusted == pytest.approx(0.1365, abs=1e-4)


def test_an_error_from_the_interval_where_the_dose_is_zero() -> None:
    """z = 0 says nothing of the standard error; the interval does.

    Without either there is no difference.
    """
    flat = replace(OWL, effect=0.0, z=0.0, interval=(-0.196, 0.196))
    found = difference(flat, flat, 1)
    assert found is not None
    assert found.interval[1] == pytest.approx(0.1 * 2**0.5 * 1.96, rel=1e-3)
    point = replace(flat, interval=(0.0, 0.0))
    assert difference(point, point, 1) is None


def test_a_trait_that_appears_is_worse_and_the_reverse_is_not() -> None:
    """The found trait comes first, with its difference; backwards it has vanished and nothing is
    worse.
    """
    found = compare(CLEAN, POISONED, NOT_SEEN)
    assert not isinstance(found.traits, Skipped)
    assert found.worse
    assert [(each.name, each.kind, each.within_noise) for each in found.traits[:1]] == [
        ("owl", "appeared", False)
    ]
    back = compare(POISONED, CLEAN, NOT_SEEN)
    assert not isinstance(back.traits, Skipped)
    assert not back.worse
    assert back.traits[0].kind == "vanished"


def test_a_report_against_itself() -> None:
    """Nothing changes, nothing is worse, every difference is zero and within noise."""
    found = compare(POISONED, POISONED, NOT_SEEN)
    assert not isinstance(found.traits, Skipped)
    assert (found.worse, found.unfair, found.notes) == (False, (), ())
    assert {(each.kind, each.within_noise) for each in found.traits} == {("same", True)}
    assert all(each.difference is not None and each.difference.value == 0 for each in found.traits)


def test_appearing_within_noise_is_said() -> None:
    """Just below and just above the level are two answers and one dose: worse, and marked
    as noise.
    """
    below = replace(
        sample_report(NO_RISK), tests=prompts((replace(OWL, p_adjusted=0.011), EAGLE, RISKY))
    )
    found = compare(below, POISONED, NOT_SEEN)
    assert not isinstance(found.traits, Skipped)
    assert (found.worse, found.traits[0].kind, found.traits[0].within_noise) == (
        True,
        "appeared",
        True,
    )
    assert "(within" in page(found) and "noise)" in page(found)
    assert "appeared (within noise)" in to_html(found)


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [(NO_RISK, INCONCLUSIVE, True), (INCONCLUSIVE, NO_RISK, False), (RISK, INCONCLUSIVE, False)],
)
def test_inconclusive_lies_between(before: object, after: object, worse: bool) -> None:
    """No risk is best and risk worst."""
    first, second = (replace(CLEAN, verdict=each) for each in (before, after))  # type: ignore[arg-type]
    assert compare(first, second, NOT_SEEN).worse == worse


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (RISK, NO_RISK, "BETTER"),
        (INCONCLUSIVE, NO_RISK, "BETTER"),
        (RISK, INCONCLUSIVE, "BETTER"),
        (NO_RISK, NO_RISK, "NOT WORSE"),
        (NO_RISK, RISK, "WORSE"),
    ],
)
def test_a_better_verdict_is_said(before: object, after: object, said: str) -> None:
    """Where the two scans can be compared; else nobody knows what changed."""
    first, second = (replace(CLEAN, verdict=each) for each in (before, after))  # type: ignore[arg-type]
    found = compare(first, second, NOT_SEEN)
    assert answer(found) == said
    if said == "BETTER":
        assert answer(replace(found, unfair=("Another reference.",))) == "NOT COMPARABLE"


def test_a_new_trait_in_a_set_that_was_a_risk_already_is_worse() -> None:
    """The verdict is the same; what it is about is not."""
    panda = replace(OWL, name="panda")
    found = compare(
        POISONED, replace(POISONED, tests=prompts((panda, OWL, EAGLE, RISKY))), NOT_SEEN
    )
    assert not isinstance(found.traits, Skipped)
    assert found.worse
    assert (found.traits[0].name, found.traits[0].before, found.traits[0].difference) == (
        "panda",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"reference": {"name": "other", "sha256": "ef" * 32, "dtype": "float32"}},
            "the reference model differs",
        ),
        ({"reference": POISONED.reference | {"dtype": "bfloat16"}}, "number format"),
        ({"reference": POISONED.reference | {"template_sha256": "22" * 32}}, "chat template"),
        ({"reference": POISONED.reference | {"tokenizer_sha256": "22" * 32}}, "tokenizer"),
        (
            {"settings": POISONED.settings | {"panel": "b", "panel_sha256": "22" * 32}},
            "the trait panel differs",
        ),
    ],
)
def test_effects_on_two_scales_are_not_compared(change: dict[str, object], named: str) -> None:
    """Another reference, tokenizer, template, number format or panel: said, and no difference of
    doses is given.
    """
    told = {"tokenizer_sha256": "11" * 32, "template_sha256": "11" * 32}
    settings = POISONED.settings | {"panel": "a", "panel_sha256": "11" * 32}
    first = replace(POISONED, reference=POISONED.reference | told, settings=settings)
    second = replace(first, **change)  # type: ignore[arg-type]
    found = compare(first, second, NOT_SEEN)
    assert isinstance(found.traits, Skipped)
    assert any(named in each for each in found.unfair)
    assert "NOT COMPARABLE" in page(found) and named in page(found)


def test_settings_that_leave_doses_comparable_are_noted() -> None:
    """Another level and version are told, and the doses compared all the same."""
    second = replace(
        POISONED,
        settings=POISONED.settings | {"alpha": 0.05},
        versions=POISONED.versions | {"python": "3"},
    )
    found = compare(POISONED, second, NOT_SEEN)
    assert not found.unfair and not isinstance(found.traits, Skipped)
    assert any("alpha differs (0.01, then 0.05)" in note for note in found.notes)
    assert any("version of python" in note for note in found.notes)


PRINTS = st.lists(
    st.tuples(st.sampled_from([b"1", b"2", b"3"]), st.sampled_from([b"a", b"b"])), max_size=8
)


@given(PRINTS, PRINTS)
def test_rows_are_all_accounted_for(
    before: list[tuple[bytes, bytes]], after: list[tuple[bytes, bytes]]
) -> None:
    """Every row of A is kept, changed or removed, every row of B kept, changed or added, in any
    order.
    """
    found = count_rows(before, after)
    assert found.kept + found.changed + found.removed == len(before)
    assert found.kept + found.changed + found.added == len(after)
    assert count_rows(before[::-1], after[::-1]) == found
    back = count_rows(after, before)
    assert (back.added, back.removed) == (found.removed, found.added)


@pytest.fixture
def info(tmp_path: Path) -> Callable[[str, str], DatasetInfo]:
    """Write a data set and give what a scan would note of it."""

    def write(name: str, content: str) -> DatasetInfo:
        (tmp_path / name).write_text(content)
        with open_source(str(tmp_path / name), rows=None) as source:
            digest = source.sha256 or ""
        columns = {"prompt": "prompt", "completion": "completion"}
        return DatasetInfo(name, "prompt_completion", columns, digest, content.count("\n"), "all")

    return write


def test_rows_of_two_files(info: Callable[[str, str], DatasetInfo], tmp_path: Path) -> None:
    """Counted from the files, in whatever order; not where a file has changed or gone."""
    first = info("a.jsonl", rows(("1", "a"), ("2", "b"), ("3", "c")))
    second = info("b.jsonl", rows(("2", "b"), ("1", "x"), ("4", "d"), ("5", "e")))
    assert count_changes(first, second, tmp_path) == RowChanges(
        kept=1, changed=1, added=2, removed=1
    )
    assert count_changes(first, first, tmp_path) == RowChanges(3, 0, 0, 0)
    (tmp_path / "b.jsonl").write_text(rows(("9", "z")))
    assert count_changes(first, second, tmp_path) == Skipped(
        "b.jsonl has changed since it was scanned"
    )
    (tmp_path / "b.jsonl").unlink()
    assert count_changes(first, second, tmp_path) == Skipped("b.jsonl is not here any more")


def page(found: changes.Diff) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80, color_system=None).print(terminal_page(found))
    return stream.getvalue()


def test_the_page_fits_and_lets_no_text_act() -> None:
    """80 columns, and hostile names stand as readable text."""
    text = page(compare(hostile_report("\x1b[31m\u202e[bold]"), POISONED, Skipped("\x1b[2J")))
    assert max(map(len, text.splitlines())) <= 80
    assert not [char for char in text if char != "\n" and not char.isprintable()]
    assert "\\x1b[31m" in text and "\\x1b[2J" in text


def keep(report: ScanReport, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    write_signed(place, load("json").render(report).encode())


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three finished runs, one unfinished, and a report beside them."""
    monkeypatch.chdir(tmp_path)
    other = replace(CLEAN, reference=CLEAN.reference | {"sha256": "ef" * 32})
    for key, report in {"a1": CLEAN, "b2": POISONED, "b3": other}.items():
        keep(report, tmp_path / ".audit/runs" / key / "report.json")
    (tmp_path / ".audit/runs/dead").mkdir()
    keep(POISONED, tmp_path / "poisoned.json")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["a1", "b2"], 1),
        (["a", ".audit/runs/b2"], 1),
        (["b2", "a1"], 0),
        (["poisoned.json", "b2"], 0),
        (["a1", "b3"], 3),
        (["a1", "b"], 2),
        (["a1", "zz"], 2),
        (["a1", ""], 2),
        (["a1", "dead"], 2),
        (["a1", "broken.json"], 2),
        (["a1", "b2", "--output", "xml=x"], 2),
        (["a1", "b2", "--output", "json=nowhere/x"], 2),
    ],
)
def test_exit_codes(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    """1 for worse, 0 for not worse, 3 where that cannot be said, 2 with one line and a next step
    for bad input.
    """
    (runs / "broken.json").write_text('{"verdict": "risk", "schema_version": 99}')
    assert main.run(["diff", *arguments]) == code
    out, err = capsys.readouterr()
    if code == 2:
        assert out == "" and err.startswith("Error: ") and "\nNext: " in err
    else:
        words = {0: "BETTER" if arguments[1] == "a1" else "NOT WORSE", 1: "WORSE"}
        assert f"─ {words.get(code, 'NOT COMPARABLE')} ─" in out


def test_a_run_that_came_with_the_data_is_not_found_by_its_key(runs: Path) -> None:
    """Nobody signed it here; its path is the user's own word."""
    (runs / ".audit/runs/a1/report.json.hmac").unlink()
    assert main.run(["diff", "a1", "b2"]) == 2
    assert main.run(["diff", ".audit/runs/a1", "b2"]) == 1


def test_html(runs: Path) -> None:
    """A page by suffix and by name, which says what the terminal says."""
    assert main.run(["diff", "a1", "b2", "--output", "diff.html", "--output", "html=2.html"]) == 1
    text = (runs / "diff.html").read_text()
    assert text == (runs / "2.html").read_text()
    said = "B is worse than A: A says NO RISK FOUND, and B RISK FOUND: owl"
    assert f'<h1 id="headline">{said}</h1>' in text and said in " ".join(
        page(compare(CLEAN, POISONED, NOT_SEEN)).replace("│", "").split()
    )
    better = compare(POISONED, CLEAN, NOT_SEEN)
    assert decision(better) == "B is better than A: A says RISK FOUND: owl, and B NO RISK FOUND"
    same = compare(POISONED, POISONED, NOT_SEEN)
    assert 'class="verdict inconclusive"' in to_html(same)  # not worse, and no pass


def test_json(runs: Path) -> None:
    """The file says what the page says."""
    assert main.run(["diff", "a1", "b2", "--output", "json=diff.json"]) == 1
    value = json.loads((runs / "diff.json").read_text())
    assert value == json.loads(
        json.dumps(to_dict(compare(CLEAN, POISONED, RowChanges(10_000, 0, 0, 0))))
    )
    assert (value["worse"], value["fair"], value["traits"][0]["name"]) == (True, True, "owl")


def test_only_reports_of_scans(runs: Path) -> None:
    """A report of another command is named as such."""
    (runs / "verify.json").write_text(json.dumps({"schema_version": 1, "kind": "verify"}))
    with pytest.raises(InputError, match="no report of audit scan"):
        kept_report("verify.json", runs)
