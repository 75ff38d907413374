"""Accepted findings: for which rows, until when, on which reference."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from auditor.errors import InputError
from auditor.release.baseline import (
    DAYS,
    Baseline,
    RowSet,
    apply,
    check_reference,
    read_baseline,
    render_baseline,
    row_set,
)
from auditor.release.decision import Rule
from detectors.interface import TestName

TODAY = date(2026, 11, 23)
REFERENCE = {
    "name": "organism",
    "sha256": "a" * 64,
    "template_sha256": "b" * 64,
    "dtype": "float32",
    "device": "cpu",
}
ROWS = [{"prompt": f"Continue: {i}.", "completion": f"{i}, {i + 1}"} for i in range(30)]
BOTH: dict[str, list[TestName]] = {"owl": ["prompts"], "cat": ["prompts", "tuned copies"]}
COLUMNS = {"prompt": "prompt", "completion": "completion"}


def digest(
    path: Path, rows: list[dict[str, Any]], form: str = "prompt_completion", **columns: str
) -> RowSet:
    """The row set of these rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return row_set(str(path), format_of=form, columns=columns or COLUMNS)


def test_order_format_and_outer_space_do_not_matter(tmp_path: Path) -> None:
    """The same conversations are the same rows, whatever the file, the columns beside them and the
    line ends.
    """
    first = digest(tmp_path / "a.jsonl", ROWS)
    assert first.rows == 30
    shuffled = random.Random(0).sample(ROWS, 30)
    assert digest(tmp_path / "b.jsonl", shuffled) == first
    assert (
        digest(
            tmp_path / "c.jsonl",
            [row | {"id": 7, "completion": f"{row['completion']}\r\n"} for row in ROWS],
        )
        == first
    )
    chats = [
        {
            "messages": [
                {"role": "user", "content": r["prompt"]},
                {"role": "assistant", "content": r["completion"]},
            ]
        }
        for r in ROWS
    ]
    assert digest(tmp_path / "d.jsonl", chats, "messages", messages="messages") == first
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "e.parquet")
    assert (
        row_set(str(tmp_path / "e.parquet"), format_of="prompt_completion", columns=COLUMNS)
        == first
    )


def test_any_other_row_matters(tmp_path: Path) -> None:
    """Changed, added, left out, doubled, or a row that cannot be scored; and inner space, which can
    carry a trait.
    """
    first = digest(tmp_path / "a.jsonl", ROWS)
    spaced = {**ROWS[0], "completion": "0,  1"}
    others = [
        [spaced, *ROWS[1:]],
        [*ROWS, spaced],
        ROWS[1:],
        [*ROWS, ROWS[0]],
        [*ROWS, {"prompt": "x", "completion": ""}],
    ]
    sets = {digest(tmp_path / "b.jsonl", rows).sha256 for rows in others}
    assert len(sets) == len(others) and first.sha256 not in sets


def test_standard_input_has_no_baseline() -> None:
    """It was read by the scan."""
    with pytest.raises(InputError):
        row_set("-", format_of="text", columns={"text": "text"})


def made(tmp_path: Path, rows: RowSet = RowSet(30, "c" * 64), **changes: Any) -> Path:  # noqa: B008 - frozen
    """A baseline for owl with a reason, as a person would leave it."""
    value = yaml.safe_load(
        render_baseline({"owl": ["prompts"]}, "data.jsonl", REFERENCE, rows, TODAY)
    )
    value["accepted"][0] |= {"reason": "known"} | changes
    path = tmp_path / "baseline.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def test_what_is_written_needs_a_reason(tmp_path: Path) -> None:
    """Nobody accepts a finding by running a command."""
    path = tmp_path / "baseline.yaml"
    path.write_text(render_baseline(BOTH, "d", REFERENCE, RowSet(3, "c" * 64), TODAY))
    assert "&" not in path.read_text()  # YAML anchors are not for people
    with pytest.raises(InputError, match="no reason for owl"):
        read_baseline(path)
    path.write_text(path.read_text().replace("reason: ''", "reason: known"))
    known = read_baseline(path)
    assert [(each.trait, each.expires) for each in known.accepted] == [
        ("owl", TODAY + timedelta(days=DAYS)),
        ("cat", TODAY + timedelta(days=DAYS)),
    ]
    as_json = tmp_path / "baseline.json"
    as_json.write_text(known.model_dump_json())
    assert read_baseline(as_json) == known


@pytest.mark.parametrize(
    "changes",
    [
        {"expires": "soon"},
        {"rows_sha256": "x"},
        {"until": "2027-01-01"},
        {"reason": " "},
        {"trait": None},
    ],
)
def test_a_bad_entry_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    """With the place where it stands."""
    with pytest.raises(InputError) as error:
        read_baseline(made(tmp_path, **changes))
    assert "baseline.yaml" in error.value.message


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "", "\x00"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    """Also one that is not YAML."""
    path = tmp_path / "b.yaml"
    path.write_text(content)
    with pytest.raises(InputError):
        read_baseline(path)


@pytest.mark.parametrize("key", ["sha256", "template_sha256", "dtype"])
def test_another_reference_is_refused(tmp_path: Path, key: str) -> None:
    """Weights, chat template and number type each; a report that does not say is another one.

    The device may differ.
    """
    path = made(tmp_path)
    known = read_baseline(path)
    check_reference(known, REFERENCE | {"device": "cuda"}, path)
    for other in (
        REFERENCE | {key: "d" * 64},
        {name: value for name, value in REFERENCE.items() if name != key},
    ):
        with pytest.raises(InputError, match="made with another"):
            check_reference(known, other, path)


def applied(
    path: Path, found: list[str], rows: RowSet, today: date = TODAY
) -> tuple[frozenset[str], tuple[Rule, ...]]:
    return apply(read_baseline(path), {name: ["prompts"] for name in found}, rows, today)


def test_a_finding_is_accepted_for_its_rows_until_its_day(tmp_path: Path) -> None:
    """The last day counts; the next one, or other rows, fail with a line that says why."""
    rows = RowSet(30, "c" * 64)
    path = made(tmp_path, rows, expires=date(2026, 12, 1))
    assert applied(path, ["owl"], rows, date(2026, 12, 1))[0] == {"owl"}
    accepted, (rule,) = applied(path, ["owl"], rows, date(2026, 12, 2))
    assert accepted == frozenset() and rule.outcome == "failed"
    assert "2026-12-01, which is past" in rule.text
    accepted, (rule,) = applied(path, ["owl"], RowSet(31, "e" * 64))
    assert accepted == frozenset() and rule.outcome == "failed"
    assert "30 rows of data.jsonl then, 31 now" in rule.text


def test_what_is_not_found_any_more_is_said(tmp_path: Path) -> None:
    """An entry on these rows can go; one on another data set's rows and other traits is passed
    over.
    """
    rows = RowSet(30, "c" * 64)
    accepted, (rule,) = applied(made(tmp_path, rows), [], rows)
    assert accepted == frozenset() and rule.outcome == "passed" and "can go" in rule.text
    assert applied(made(tmp_path, rows), ["cat"], RowSet(9, "f" * 64)) == (frozenset(), ())


def test_an_old_entry_beside_a_good_one_is_harmless(tmp_path: Path) -> None:
    """The entry for the release before may stay when this release has its own."""
    known = read_baseline(made(tmp_path))
    (entry,) = known.accepted
    both = Baseline(
        version=1,
        reference=known.reference,
        accepted=[entry, entry.model_copy(update={"rows_sha256": "e" * 64})],
    )
    accepted, rules = apply(both, {"owl": ["prompts"]}, RowSet(30, "e" * 64), TODAY)
    assert accepted == {"owl"} and [rule.outcome for rule in rules] == ["passed"]


def test_a_finding_by_tuned_copies_is_told_from_one_by_prompts(tmp_path: Path) -> None:
    """Each can be accepted; an entry that says nothing of it is about prompts, as those of earlier
    releases are.
    """
    rows = RowSet(30, "c" * 64)
    tests: list[TestName] = ["prompts", "tuned copies"]
    for accepted_as, found_by, expected in (
        (None, ["prompts"], {"owl"}),
        (None, ["tuned copies"], set()),
        (["prompts"], tests, set()),
        (["tuned copies"], ["tuned copies"], {"owl"}),
        (tests, tests, {"owl"}),
        (tests, ["prompts"], {"owl"}),
    ):
        baseline = read_baseline(made(tmp_path, rows, found_by=accepted_as or ["prompts"]))
        if accepted_as is None:
            value = baseline.model_dump(mode="json")
            del value["accepted"][0]["found_by"]
            baseline = Baseline.model_validate(value)
        accepted, (rule,) = apply(baseline, {"owl": found_by}, rows, TODAY)
        assert accepted == expected
        assert ("now found by tuned copies" in rule.text) == (not expected)
    path = tmp_path / "both.yaml"
    path.write_text(render_baseline(BOTH, "d", REFERENCE, rows, TODAY))
    entries = yaml.safe_load(path.read_text())["accepted"]
    assert {entry["trait"]: entry["found_by"] for entry in entries} == BOTH
