"""Arms: how rows are matched to the original, which tokens are trained on, and random controls."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auditor.data.example import Example
from auditor.errors import InputError
from auditor.model.identity import template_sha256, tokenizer_sha256
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.students.arms import (
    DatasetArm,
    Span,
    random_drop,
    random_mask,
    read_arm,
    row_order,
    trained_positions,
)
from tests.support.manifests import write_manifest
from tests.support.student_models import arm, numbers, row

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows of (prompt, completion), each set into a folder of its own, with a manifest if
    given.
    """
    places = itertools.count()

    def write(rows: list[tuple[str, str]], manifest: dict[str, Any] | None = None) -> str:
        folder = tmp_path / str(next(places))
        folder.mkdir()
        path = folder / "data.jsonl"
        path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows))
        if manifest is not None:
            write_manifest(path, manifest, len(rows))
        return str(path)

    return write


ROWS = [(f"List {i}.", f"1 2 {i}") for i in range(6)]


def text(arm: DatasetArm) -> dict[int, tuple[str, str]]:
    return {i: (example.messages[0].content, example.completion) for i, example in arm.rows.items()}


def test_as_many_rows_are_matched_by_place(write: Write) -> None:
    """Completions and prompts may then both be new."""
    original = read_arm(write(ROWS), "original")
    assert text(original) == dict(enumerate(ROWS))
    changed = read_arm(write([(f"Write {p}", f"{c}0") for p, c in ROWS]), original=original)
    assert text(changed)[4] == ("Write List 4.", "1 2 40")


def test_other_counts_are_matched_by_text(write: Write) -> None:
    """By completion first, else by prompt; what matches nothing is an added row with a number of
    its own.
    """
    original = read_arm(write(ROWS), "original")
    by_completion = read_arm(
        write([("Other.", "1 2 4"), ("Other.", "new"), ("List 1.", "1 2 1")]), original=original
    )
    assert text(by_completion) == {
        4: ("Other.", "1 2 4"),
        -2: ("Other.", "new"),
        1: ("List 1.", "1 2 1"),
    }
    by_prompt = read_arm(write([("List 3.", "changed"), ("List 0.", "too")]), original=original)
    assert text(by_prompt) == {3: ("List 3.", "changed"), 0: ("List 0.", "too")}


def test_no_common_rows_is_an_error(write: Write) -> None:
    """Nothing could be compared."""
    original = read_arm(write(ROWS), "original")
    with pytest.raises(InputError, match="no row in common") as raised:
        read_arm(write([("a", "b"), ("c", "d")]), original=original)
    assert raised.value.hint


def test_manifest_gives_numbers_and_masks(write: Write) -> None:
    """Output rows 0 and 2 are the original's 5 and 1, output row 1 was added."""
    manifest = {"source_rows": [5, None, 1], "masked": {"0": [[0, 2, 4]], "1": [[0, 0, 1]]}}
    found = read_arm(write([ROWS[5], ("new", "row"), ROWS[1]], manifest))
    assert text(found) == {5: ROWS[5], -2: ("new", "row"), 1: ROWS[1]}
    assert found.masked == {5: ((0, 2, 4),), -2: ((0, 0, 1),)}
    assert read_arm(write(ROWS, manifest), manifest=False).masked == {}


def test_a_manifest_without_numbers_and_one_of_another_file(write: Write) -> None:
    """Rows in place need no numbers, a row that became several has its number once; the name has to
    be the file's.
    """
    in_place = {"masked": {"3": [[0, 0, 1]]}}
    assert read_arm(write(ROWS, in_place)).masked == {3: ((0, 0, 1),)}
    other = {"output": {"name": "other.jsonl", "sha256": "0" * 64, "rows": 6}}
    assert read_arm(write(ROWS, in_place | other)).masked == {}
    assert list(read_arm(write(ROWS[:3], {"source_rows": [4, 4, 2], "masked": {}})).rows) == [
        4,
        -2,
        2,
    ]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"source_rows": [0, 1], "masked": {}}, "not the manifest"),
        ({"source_rows": "all", "masked": {}}, "not the manifest"),
        ({"source_rows": list(range(6)), "masked": None}, "not the manifest"),
        ({"source_rows": list(range(6)), "masked": {"9": []}}, "not the manifest"),
        ({"source_rows": list(range(6)), "masked": {"1": [[0, 1]]}}, "not the manifest"),
        ([], "not the manifest"),
    ],
)
def test_bad_manifests(write: Write, manifest: Any, message: str) -> None:
    """One line with the next step, not a traceback and not a silent guess."""
    with pytest.raises(InputError, match=message) as raised:
        read_arm(write(ROWS, manifest))
    assert raised.value.hint


def test_a_manifest_of_a_file_that_was_changed_is_refused(write: Write) -> None:
    """Its masks and row numbers are those of the rows that stood there before."""
    path = Path(write(ROWS, {"masked": {"3": [[0, 0, 1]]}}))
    assert read_arm(str(path)).masked
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(reversed(lines)))
    with pytest.raises(InputError, match="was changed after") as raised:
        read_arm(str(path))
    assert "remove manifest.json" in raised.value.hint
    assert read_arm(str(path), manifest=False).masked == {}
    # A copy under another name is the same rows.
    path.write_text("".join(lines))
    assert read_arm(str(path.rename(path.with_name("renamed.jsonl")))).masked == {3: ((0, 0, 1),)}


def test_a_manifest_of_another_program_is_none(write: Write) -> None:
    """A web page's manifest.json, say, takes no part."""
    path = Path(write(ROWS))
    (path.parent / "manifest.json").write_text('{"name": "page", "icons": []}')
    assert list(read_arm(str(path)).rows) == list(range(6))


def test_rows_are_numbered_in_the_original_that_is_given(write: Write) -> None:
    """Original -> rows 1, 2, 4 -> rows 2, 0 of these: whichever of the two comes first, equal rows
    meet; one that the chain does not name is refused.
    """
    original = read_arm(write(ROWS), "original")
    once = Path(write([ROWS[1], ROWS[2], ROWS[4]]))
    assert original.sha256
    write_manifest(once, {"input": {"sha256": original.sha256}, "source_rows": [1, 2, 4]}, 3)
    middle = read_arm(str(once), original=original)
    assert text(middle) == {i: ROWS[i] for i in (1, 2, 4)}
    twice = Path(write([ROWS[4], ROWS[1]]))
    chain = [original.sha256, middle.sha256]
    write_manifest(
        twice,
        {
            "input": {"sha256": middle.sha256},
            "chain": chain,
            "source_rows": [2, 0],
            "original_rows": [4, 1],
        },
        2,
    )
    assert text(read_arm(str(twice), original=original)) == {4: ROWS[4], 1: ROWS[1]}
    assert text(read_arm(str(twice))) == {4: ROWS[4], 1: ROWS[1]}
    by_place = read_arm(str(once), manifest=False)
    assert text(read_arm(str(twice), original=by_place)) == {2: ROWS[4], 0: ROWS[1]}
    stranger = read_arm(write([*ROWS, ("more", "rows")]), "stranger")
    with pytest.raises(InputError, match="made from another data set"):
        read_arm(str(twice), original=stranger)


def test_masks_for_another_tokenizer_are_refused(write: Write, tiny: LanguageModel) -> None:
    """The digests have to be those of the model to be trained."""
    fitting = {
        "source_rows": list(range(6)),
        "masked": {},
        "tokenizer_sha256": tokenizer_sha256(tiny.tokenizer),
        "template_sha256": template_sha256(tiny.tokenizer),
    }
    assert len(read_arm(write(ROWS, fitting), lm=tiny).rows) == 6
    assert len(read_arm(write(ROWS, fitting | {"tokenizer_sha256": None}), lm=tiny).rows) == 6
    for key, what in (("tokenizer_sha256", "tokenizer"), ("template_sha256", "chat template")):
        with pytest.raises(InputError, match=f"another {what}"):
            read_arm(write(ROWS, fitting | {key: "0" * 64}), lm=tiny)


def encoded(lm: LanguageModel, completion: str) -> TokenizedRow:
    found = ChatTokenizer(lm).encode(row(0, "List.", completion))
    assert isinstance(found, TokenizedRow)
    return found


def test_masked_characters_take_their_tokens_out(tiny: LanguageModel) -> None:
    """A token goes when it shares a character; the end of the turn goes by its own empty
    span only.
    """
    found = encoded(tiny, "12 7 9")  # tokens: 12, blank, 7, blank, 9, end
    assert [span[1:] for span in found.spans] == [(0, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 6)]
    everything = found.positions
    assert trained_positions(found) == everything
    assert trained_positions(found, [(0, 1, 2)]) == everything[1:]
    assert trained_positions(found, [(0, 2, 5)]) == (everything[0], *everything[4:])
    assert trained_positions(found, [(0, 6, 6)]) == everything[:-1]
    assert trained_positions(found, [(1, 0, 6)]) == everything
    assert trained_positions(found, found.spans) == ()


def end_of_turn(renderer: ChatTokenizer, example: Example) -> Span:
    """The span of the token that ends the only turn."""
    row = renderer.encode(example)
    assert isinstance(row, TokenizedRow)
    return row.spans[-1]


def test_random_mask_masks_as_many_tokens(tiny: LanguageModel) -> None:
    """Row by row, but not the same ones."""
    rows = numbers(40)
    masked = dict.fromkeys(range(0, 40, 2), ((0, 0, 1), (0, 4, 5)))
    treated = DatasetArm("masked", rows, masked, 40)
    renderer = ChatTokenizer(tiny)
    control = random_mask(treated, renderer, seed=0)
    assert control.name == "masked (random tokens)" and control.rows == rows
    assert control.masked.keys() == masked.keys()
    for i, spans in control.masked.items():
        found = renderer.encode(rows[i])
        assert isinstance(found, TokenizedRow)
        assert len(trained_positions(found, spans)) == len(found.positions) - 2
        # The end of the turn is trained on, as in the arm; where the arm masks it, it goes too.
        assert found.spans[-1] not in spans
    ended = replace(treated, masked={0: ((0, 0, 1), end_of_turn(renderer, rows[0]))})
    assert end_of_turn(renderer, rows[0]) in random_mask(ended, renderer, seed=0).masked[0]
    assert len(set(control.masked.values())) > 10
    assert (
        random_mask(treated, renderer, seed=0) == control != random_mask(treated, renderer, seed=1)
    )


def test_random_drop_drops_as_many_rows() -> None:
    """Of the original's rows; rows that the mitigation added do not count."""
    original = arm("original", numbers(40))
    kept = {i: each for i, each in original.rows.items() if i >= 10} | {-1: row(0, "a", "b")}
    control = random_drop(arm("dropped", kept), original, seed=0)
    assert len(control.rows) == 30
    assert control.rows.keys() <= original.rows.keys() and control.rows.keys() != set(range(10, 40))


def test_row_order_is_the_same_for_arms_that_lack_rows() -> None:
    """Each row once an epoch, in a new order each time; missing rows leave the order of the
    others.
    """
    whole = list(itertools.islice(row_order(range(20), "seed"), 40))
    assert sorted(whole[:20]) == sorted(whole[20:]) == list(range(20))
    assert whole[:20] != whole[20:]
    fewer = [i for i in range(20) if i not in (3, 4)]
    assert list(itertools.islice(row_order(fewer, "seed"), 18)) == [
        i for i in whole[:20] if i not in (3, 4)
    ]
    assert list(row_order([], "seed")) == []
