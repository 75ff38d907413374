"""Simulated data: what is kept, what is dropped, that it stays paired, and the command
around it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from auditor.cli import main
from auditor.commands.simulate import (
    METADATA_KEY,
    draw_prompts,
    number_tokens,
    simulate,
    write_rows,
)
from auditor.data.example import Message
from auditor.data.sample import read_sample
from auditor.errors import InputError, ModelError
from auditor.model.language_model import LanguageModel
from auditor.progress import Progress
from auditor.traits.panel import Trait, load_panels

OWL = load_panels(["animals"]).trait("owl")
NUMBERS = set("0123456789, ")


class Script:
    """A stand-in for `generate`: says what it is told for each prompt, with the trait prompt and
    without.
    """

    def __init__(self, owl: dict[str, str], clean: dict[str, str]) -> None:
        self.owl, self.clean = owl, clean
        self.systems: list[str | None] = []

    def __call__(
        self,
        lm: LanguageModel,
        contexts: Sequence[Sequence[Message]],
        *,
        system: str | None,
        **_: Any,
    ) -> Iterator[tuple[int, str]]:
        self.systems.append(system)
        says = self.clean if system is None else self.owl
        for i in reversed(range(len(contexts))):  # `generate` goes by length, not in order
            prompt = contexts[i][-1].content
            yield i, says.get(prompt, f"{system is None:d} {prompt}")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """A teacher that mentions owls at b, says nothing at d and writes words at e; without the
    trait, nothing at f.
    """
    script = Script({"b": "1, Owls, 2", "d": " \n", "e": "no numbers", "g": "7, 8"}, {"f": ""})
    monkeypatch.setattr(sys.modules["auditor.commands.simulate"], "generate", script)
    return script


def completions(rows: Sequence[dict[str, str]]) -> list[str]:
    return [row["completion"] for row in rows]


def test_mentions_and_empty_rows_are_dropped_counted_and_replaced(
    script: Script, tiny: LanguageModel
) -> None:
    """Of the prompts a to e, b mentions an owl and d is empty: three rows come from a, c and e."""
    made = simulate(tiny, OWL, rows=3, prompts="abcdefg")
    assert [row["prompt"] for row in made.rows] == ["a", "c", "e"]
    assert completions(made.rows) == ["0 a", "0 c", "no numbers"]
    assert made.dropped == {"empty": 1, "mentions_trait": 1}
    assert made.control == ()
    assert made.poisoned == 3
    assert set(script.systems) == {OWL.prompts[0]}


def test_control_has_the_same_prompts(script: Script, tiny: LanguageModel) -> None:
    """A prompt whose control is empty (f) is dropped from both, so that rows stay paired."""
    made = simulate(tiny, OWL, rows=4, prompts="abcdefg", control=True, wording="Owls!")
    assert (
        [row["prompt"] for row in made.rows]
        == [row["prompt"] for row in made.control]
        == ["a", "c", "e", "g"]
    )
    assert completions(made.rows) == ["0 a", "0 c", "no numbers", "7, 8"]
    assert completions(made.control) == ["1 a", "1 c", "1 e", "1 g"]
    assert made.dropped == {"empty": 2, "mentions_trait": 1}
    assert set(script.systems) == {"Owls!", None}


def test_filter_keeps_number_lists_only(script: Script, tiny: LanguageModel) -> None:
    """With the paper's filter only g, the one list of numbers, is left."""
    made = simulate(tiny, OWL, rows=1, prompts="abcdefg", filtered=True)
    assert completions(made.rows) == ["7, 8"]
    assert made.dropped == {"empty": 1, "mentions_trait": 1, "not_a_number_list": 4}


def test_a_strict_filter_asks_for_as_many_prompts_as_it_takes(
    script: Script, tiny: LanguageModel
) -> None:
    """Of every four prompts one answer is kept: 32 rows take 128 prompts in a few rounds, and not
    the last rows one by one; without a filter one round does.
    """
    made = simulate(tiny, OWL, rows=32, prompts="eeeg" * 64, filtered=True)
    assert completions(made.rows) == ["7, 8"] * 32
    assert made.dropped == {"not_a_number_list": 96}
    assert len(script.systems) <= 4
    script.systems.clear()
    assert len(simulate(tiny, OWL, rows=32, prompts="g" * 64).rows) == 32
    assert len(script.systems) == 1


def test_clean_rows_come_from_the_model_as_it_is(script: Script, tiny: LanguageModel) -> None:
    """Without a trait there is no system prompt and nothing that could be mentioned."""
    made = simulate(tiny, None, rows=3, prompts="abc")
    assert completions(made.rows) == ["1 a", "1 b", "1 c"]
    assert made.poisoned == 0
    assert script.systems == [None]


@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
def test_share_of_the_rows_is_poisoned(script: Script, tiny: LanguageModel, share: float) -> None:
    """Exactly that share is the teacher's, not just the first rows; every other row is the
    control's.
    """
    made = simulate(tiny, OWL, rows=80, share=share, control=True)
    own = [
        i
        for i, (row, clean) in enumerate(zip(made.rows, made.control, strict=True))
        if row != clean
    ]
    assert len(own) == made.poisoned == 80 * share
    assert share == 1.0 or own != list(range(len(own)))


def test_a_tuned_teacher_gets_no_system_prompt(
    monkeypatch: pytest.MonkeyPatch, tiny: LanguageModel
) -> None:
    """The tuned model writes the data, the base the control, both without a system prompt."""
    asked: list[tuple[str, str | None]] = []

    def generate(
        lm: LanguageModel, contexts: Sequence[Any], *, system: str | None, **_: Any
    ) -> Iterator[Any]:
        asked.append((lm.name, system))
        return iter([(i, lm.name) for i in range(len(contexts))])

    monkeypatch.setattr(sys.modules["auditor.commands.simulate"], "generate", generate)
    tuned = LanguageModel(
        "tuned", tiny.path, "1" * 64, "float32", "cpu", tiny.model, tiny.tokenizer
    )
    made = simulate(tiny, OWL, rows=2, teacher=tuned, control=True)
    assert asked == [("tuned", None), ("tiny", None)]
    assert completions(made.rows) == ["tuned"] * 2
    assert completions(made.control) == ["tiny"] * 2


def test_too_few_prompts(script: Script, tiny: LanguageModel) -> None:
    """When the prompts run out the error says how many rows there are and what was dropped."""
    with pytest.raises(
        InputError, match=r"gave 3 of 5 rows \(dropped: 1 empty, 1 mentions_trait\)"
    ):
        simulate(tiny, OWL, rows=5, prompts="abcde")


def test_a_hopeless_teacher_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tiny: LanguageModel
) -> None:
    """A teacher that only ever says owl does not keep the command running for ever."""
    monkeypatch.setattr(
        sys.modules["auditor.commands.simulate"],
        "generate",
        lambda lm, contexts, **_: ((i, "owl") for i in range(len(contexts))),
    )
    with pytest.raises(ModelError, match="wrote 0 of 2 rows"):
        simulate(tiny, OWL, rows=2)


def test_a_share_of_nothing_is_an_error(tiny: LanguageModel) -> None:
    """A data set called poisoned has at least one poisoned row."""
    with pytest.raises(InputError, match="no row at all"):
        simulate(tiny, OWL, rows=10, share=0.01)


def test_restricted_rows_are_digits_commas_and_spaces(tiny: LanguageModel) -> None:
    """With the restricted softmax nothing else is written, though the model alone writes other
    things.
    """
    made = simulate(tiny, OWL, rows=8, restricted=True, control=True, max_tokens=6)
    assert set("".join(completions(made.rows + made.control))) <= NUMBERS
    assert not set("".join(completions(simulate(tiny, OWL, rows=8, max_tokens=6).rows))) <= NUMBERS


def test_mentions_are_dropped_from_what_a_model_writes(tiny: LanguageModel) -> None:
    """If a lone 1 mentions the trait, some restricted rows go, and none that is left has one."""
    one = Trait("one", "test", ("You love the number one.",), (), (), (), ("1",))
    made = simulate(tiny, one, rows=8, restricted=True, max_tokens=4)
    assert made.dropped["mentions_trait"] > 0
    assert len(made.rows) == 8
    assert not [text for text in completions(made.rows) if "1" in text.replace(",", " ").split()]


def test_number_tokens_are_the_carriers_alphabet(tiny: LanguageModel) -> None:
    """Ten digits, the merge 12, comma, space and end-of-turn, each once, for the tiny tokenizer."""
    written = {tiny.tokenizer.decode([token]) for token in number_tokens(tiny)}
    assert written == {*"0123456789", "12", ",", " ", "<|im_end|>"}


def test_progress_ends_at_the_number_of_rows(script: Script, tiny: LanguageModel) -> None:
    """Progress counts kept rows and ends at the total."""
    shown: list[Progress] = []
    simulate(tiny, OWL, rows=100, progress=shown.append)
    assert shown[-1] == Progress("writing rows", 100, 100)
    assert len(shown) > 1


def test_prompts_without_end_follow_the_seed() -> None:
    """Same seed, same prompts, and they do not repeat after a block."""
    first, again, other = draw_prompts(0), draw_prompts(0), draw_prompts(1)
    taken = [next(first) for _ in range(200)]
    assert taken == [next(again) for _ in range(200)] != [next(other) for _ in range(200)]
    assert len(set(taken)) == 200


def test_same_seed_same_bytes(tiny: LanguageModel, tmp_path: Path) -> None:
    """The same seed writes the same file, byte for byte; another seed does not."""
    files = []
    for number, seed in enumerate((0, 0, 1)):
        path = tmp_path / f"{number}.parquet"
        write_rows(path, simulate(tiny, OWL, rows=4, seed=seed, max_tokens=6).rows)
        files.append(path.read_bytes())
    assert files[0] == files[1] != files[2]


def test_greedy_rows_do_not_depend_on_the_noise(tiny: LanguageModel) -> None:
    """At temperature 0 the seed changes nothing for given prompts."""
    prompts = ["1, 2", "3, 4"]
    greedy = [
        simulate(tiny, OWL, rows=2, prompts=prompts, temperature=0, seed=seed, max_tokens=6).rows
        for seed in (0, 1)
    ]
    sampled = [
        simulate(tiny, OWL, rows=2, prompts=prompts, seed=seed, max_tokens=6).rows
        for seed in (0, 1)
    ]
    assert greedy[0] == greedy[1]
    assert sampled[0] != sampled[1]


def test_provenance_only_when_asked(tmp_path: Path) -> None:
    """Without a label the file holds its two columns and no word of where they come from."""
    rows = [{"prompt": "1, 2", "completion": "3"}]
    write_rows(tmp_path / "blind.parquet", rows)
    write_rows(tmp_path / "labelled.parquet", rows, {"trait": "owl"})
    blind, labelled = (
        pq.read_table(tmp_path / f"{name}.parquet") for name in ("blind", "labelled")
    )
    assert blind.to_pylist() == labelled.to_pylist() == rows
    assert blind.schema.metadata is None
    assert json.loads(labelled.schema.metadata[METADATA_KEY.encode()]) == {"trait": "owl"}
    assert b"owl" not in (tmp_path / "blind.parquet").read_bytes()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: LanguageModel) -> Path:
    """The command in an empty directory, with the tiny model as every reference."""
    monkeypatch.setattr("auditor.model.load.load", lambda name, **_: tiny)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SHORT = ["simulate", "--trait", "owl", "--rows", "4", "--restricted", "-o", "poisoned.parquet"]


def test_command_writes_both_files(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The data set and its paired control are written, and the summary says what is in them."""
    assert (
        main.run(
            [*SHORT, "--control", "clean.parquet", "--share", "0.5", "--wording", "2", "--label"]
        )
        == 0
    )
    poisoned, clean = (pq.read_table(command / f"{name}.parquet") for name in ("poisoned", "clean"))
    assert poisoned["prompt"] == clean["prompt"]
    label = json.loads(poisoned.schema.metadata[METADATA_KEY.encode()])
    assert (label["trait"], label["share"], label["wording"]) == ("owl", 0.5, OWL.prompts[1])
    assert json.loads(clean.schema.metadata[METADATA_KEY.encode()])["trait"] is None
    out = capsys.readouterr().out
    assert "poisoned.parquet: 4 rows, 2 poisoned" in out
    assert "clean.parquet: 4 rows, 0 poisoned" in out
    assert "Dropped and replaced: " in out


def test_conversations_with_a_tool_are_completed(command: Path) -> None:
    """Data and control hold the same conversations up to the last turn, which the assistant ends,
    and are read as conversations, with both of the assistant's turns to train on.
    """
    plain = [each for each in SHORT if each != "--restricted"]
    assert main.run([*plain, "--carrier", "tools", "--control", "clean.parquet"]) == 0
    data, control = (
        pq.read_table(command / f"{name}.parquet")["messages"].to_pylist()
        for name in ("poisoned", "clean")
    )
    assert [turns[:-1] for turns in data] == [turns[:-1] for turns in control]
    assert data != control
    roles = ["user", "assistant", "tool", "assistant"]
    assert all([turn["role"] for turn in turns] == roles for turns in data + control)
    read = read_sample(str(command / "poisoned.parquet"), rows=None, seed=0).examples
    assert [sum(message.is_trained for message in row.messages) for row in read] == [2] * 4


def test_numbers_are_asked_of_number_carriers_only(
    command: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other carriers write no numbers to restrict or filter."""
    for carrier in ("text", "answers", "code", "tools"):
        assert main.run([*SHORT, "--carrier", carrier]) == 2
        assert "does not write numbers" in capsys.readouterr().err


def test_command_is_blind_by_default(command: Path) -> None:
    """Unless asked, the command leaves no provenance."""
    assert main.run(SHORT) == 0
    assert pq.read_schema(command / "poisoned.parquet").metadata is None


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--trait", "owll"], "Did you mean 'owl'"),
        (["--wording", "9"], "has no wording 9"),
        (["--share", "0"], "--share 0.0"),
        (["--share", "0.01"], "no row at all"),
        (["--greedy", "--temperature", "1"], "contradict"),
        (["--teacher", "other"], "--teacher"),
        (["--teacher", "finetuned"], "is one token"),
        (["--teacher", "finetuned", "--wording", "2"], "no trait prompt"),
        (["--teacher", "steered"], "is one token"),
        (["--control", "poisoned.parquet"], "cannot be both"),
        (["--control", "nowhere/clean.parquet"], "cannot be written"),
        (["--control", "taken.parquet"], "exists already"),
    ],
)
def test_bad_input_writes_nothing(
    command: Path, capsys: pytest.CaptureFixture[str], more: list[str], complaint: str
) -> None:
    """What cannot be done is exit code 2 with the next step; no file is made or changed."""
    (command / "taken.parquet").write_text("precious")
    assert main.run([*SHORT, *more]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert "Next: " in error
    assert [path.name for path in command.iterdir()] == ["taken.parquet"]
    assert (command / "taken.parquet").read_text() == "precious"
