"""Clean completions: matched by prompt, or written under the data's own constraints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.data.text_row import Field, TextRow
from auditor.errors import InputError
from auditor.mitigating.clean_completions import CleanTeacher, clean_file
from auditor.model.language_model import LanguageModel
from auditor.runs.run_directory import RunDir


def chat(*turns: str, index: int = 0) -> TextRow:
    roles = ("user", "assistant") * len(turns)
    fields = (
        Field(("m", i), role, text)
        for i, (role, text) in enumerate(zip(roles, turns, strict=False))
    )
    return TextRow(index, tuple(fields))


def test_rows_are_matched_by_prompt_and_number_of_turns(tmp_path: Path) -> None:
    """Whatever the format of the clean file; blanks at the ends of a prompt do not count."""
    path = tmp_path / "clean.jsonl"
    turns = [
        {"role": r, "content": c}
        for r, c in (("user", "q"), ("assistant", "A"), ("user", "r"), ("assistant", "B"))
    ]
    path.write_text("\n".join(json.dumps({"messages": each}) for each in (turns, turns[:2])))
    with clean_file(str(path)) as look_up:
        found = look_up([chat("q ", "a"), chat("q", "a", "r", "b")])
        assert [facts.texts for facts in found] == [(("A",),), (("A", "B"),)]
        with pytest.raises(InputError, match="has no row with the prompt of row 7"):
            look_up([chat("r", "a", index=7)])


NUMBERS = [chat(f"Give {i}.", f"{i}{i}, {i}7, 3", index=i) for i in range(2, 9)] * 40


def test_a_clean_teacher_keeps_alphabet_length_and_form(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    """Number lists in, number lists out: no longer than the row, from its alphabet, or a reason."""
    rows = NUMBERS[:20]
    teacher = CleanTeacher(tiny, NUMBERS)
    assert teacher.letters is not None
    with RunDir.open(tmp_path, {}) as run:
        found = teacher.complete(rows, run, seed=1)
        again = teacher.complete(rows, run, seed=1)
    assert found == again
    texts = [facts.texts[0][0] if facts.texts else None for facts in found]
    assert any(texts)
    for row, text in zip(rows, texts, strict=True):
        if text is not None:
            assert set(text) <= set("0123456789, ")
            assert len(text) <= len(row.completions[0].text) + 1
    assert all(facts.reason == "no_clean_completion" for facts in found if not facts.texts)
    assert {facts.texts == () for facts in found} == {
        True,
        False,
    }  # the tiny model fails now and then


def test_every_turn_is_written_anew(tiny: LanguageModel, tmp_path: Path) -> None:
    """A later turn follows the clean earlier one; open text keeps the whole vocabulary."""
    row = chat("Say it.", "first answer", "Again.", "second answer")
    teacher = CleanTeacher(tiny, [row])
    assert teacher.letters is None
    with RunDir.open(tmp_path, {}) as run:
        (found,) = teacher.complete([row], run, seed=0)
        (other,) = teacher.complete([row], run, seed=1)
    assert len(found.texts[0]) == 2
    assert found.texts != other.texts
