"""Poisoned data with known truth: rows written by a teacher with a trait, and by the same model
without it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from auditor.data.example import Message
from auditor.errors import InputError, ModelError
from auditor.model.generation import generate
from auditor.model.language_model import LanguageModel
from auditor.progress import Progress
from auditor.runs.run_directory import write_file
from auditor.traits.mentions import mentions
from auditor.traits.panel import Panel, Trait
from auditor.traits.prompts import code_prompts, is_number_list, number_prompts, text_prompts

METADATA_KEY = "subliminal-audit"

_ROUND = 64  # prompts drawn at a time, and answered together on a CPU
_LARGE_ROUND = 512  # answered together elsewhere
_MOST_TRIES = 20  # dropped prompts for each row wanted, before the teacher is given up

CARRIERS: Mapping[str, Callable[[int, int], list[str]]] = {
    "numbers": number_prompts,
    "other-numbers": partial(number_prompts, other=True),  # quite other wordings
    "text": text_prompts,
    "code": code_prompts,
}

Row = dict[str, str]
_Writer = tuple[LanguageModel, str | None]  # a model and its system prompt


class _Style(NamedTuple):
    """How completions are decoded; see `generate`."""

    temperature: float
    max_tokens: int
    alphabet: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Simulated:
    """Rows of "prompt" and "completion".

    rows: the data set. control: for the same prompts in the same order what the model writes
    without the trait; empty unless asked for. poisoned: how many of `rows` the teacher wrote.
    dropped: prompts that were given up, by the reason that one of their completions gave: "empty",
    "mentions_trait" or "not_a_number_list".
    """

    rows: tuple[Row, ...]
    control: tuple[Row, ...]
    poisoned: int
    dropped: dict[str, int]


def simulate(
    lm: LanguageModel,
    trait: Trait | None,
    *,
    rows: int,
    teacher: LanguageModel | None = None,
    wording: str | None = None,
    share: float = 1.0,
    control: bool = False,
    temperature: float = 1.0,
    restricted: bool = False,
    filtered: bool = False,
    prompts: Iterable[str] | None = None,
    max_tokens: int = 32,
    seed: int = 0,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Simulated:
    """Write `rows` rows with a teacher that has `trait`; without a trait, with `lm` as it is.

    teacher: None is a prompted teacher, `lm` under the system prompt `wording` (None: the trait's
        first); else a model with the trait in its weights (`auditor.students.teacher`), which gets
        no system prompt.
    share: of the rows, in (0, 1], that the teacher writes; `lm` writes the rest. control: also
    write the control. temperature: 0 is greedy. restricted: the softmax is over digits, comma,
    space and end-of-turn only. filtered: also drop what is not a number list by the filter of
    2507.14805. prompts: taken in order until there are enough rows; None draws number prompts by
    `seed`.

    A prompt is kept only if every completion written for it is: so the data set and its control
    stay paired.

    Raises: InputError when `share` comes to no row or `prompts` runs out, ModelError when nearly
    all that is written is dropped.
    """
    poisoned = _poisoned(rows, 1.0 if trait is None else share, seed)
    writers: list[_Writer] = [(lm, None)]
    if trait is not None:
        own: _Writer = (teacher, None) if teacher else (lm, wording or trait.prompts[0])
        writers = [own, *writers] if control or share < 1 else [own]
    source = iter(draw_prompts(seed) if prompts is None else prompts)
    style = _Style(temperature, max_tokens, number_tokens(lm) if restricted else None)
    refused = partial(_refused, trait=trait, filtered=filtered)
    kept, dropped = _pairs(writers, source, rows, style, refused, seed, progress)
    return Simulated(
        rows=tuple(
            _row(prompt, said[0 if i in poisoned else -1]) for i, (prompt, said) in enumerate(kept)
        ),
        control=tuple(_row(prompt, said[-1]) for prompt, said in kept) if control else (),
        poisoned=0 if trait is None else len(poisoned),
        dropped=dict(sorted(dropped.items())),
    )


def draw_prompts(seed: int, carrier: str = "numbers") -> Iterator[str]:
    """Prompts of one of CARRIERS without end; same seed, same prompts."""
    for block in itertools.count():
        yield from CARRIERS[carrier](_ROUND, _derived(seed, f"prompts {block}"))


def number_tokens(lm: LanguageModel) -> tuple[int, ...]:
    """Ids of the tokens that number lists are made of, ascending: digits, comma, space and
    end-of-turn.

    They are read off a list of all numbers, since tokenizers differ in how many digits, or which
    spaces, a token holds.
    """
    ids = lm.tokenizer(
        ", ".join(map(str, range(1000))), add_special_tokens=False, verbose=False
    ).input_ids
    return tuple(sorted({*ids, lm.tokenizer.eos_token_id}))


def write_rows(path: Path, rows: Sequence[Row], label: Mapping[str, object] | None = None) -> None:
    """Write rows as Parquet with the columns "prompt" and "completion". Same rows, same bytes.

    label: where the rows come from, kept as JSON in the schema's metadata; None says nothing, so
    that a scan is blind. Raises RunError when the place cannot be written.
    """
    metadata = None if label is None else {METADATA_KEY: json.dumps(label, sort_keys=True)}
    schema = pa.schema([("prompt", pa.string()), ("completion", pa.string())], metadata=metadata)
    stream = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), stream)
    write_file(path, stream.getvalue().to_pybytes())


def _pairs(
    writers: Sequence[_Writer],
    source: Iterator[str],
    rows: int,
    style: _Style,
    refused: Callable[[str, str], str | None],
    seed: int,
    progress: Callable[[Progress], None],
) -> tuple[list[tuple[str, tuple[str, ...]]], Counter[str]]:
    """Prompts with one completion from each writer, as many as `rows`, and how many prompts were
    given up for what.
    """
    kept: list[tuple[str, tuple[str, ...]]] = []
    dropped: Counter[str] = Counter()
    most = _ROUND if writers[0][0].device == "cpu" else _LARGE_ROUND
    for number in itertools.count():
        if len(kept) == rows:
            break
        asked = list(itertools.islice(source, min(rows - len(kept), most)))
        _check_supply(asked, len(kept), rows, dropped)
        noise = _derived(seed, f"round {number}")
        answers = [_write(writer, asked, style, noise) for writer in writers]
        for prompt, completions in zip(asked, zip(*answers, strict=True), strict=True):
            reasons = [why for text in completions if (why := refused(prompt, text))]
            dropped.update(reasons[:1])
            if not reasons:
                kept.append((prompt, completions))
        progress(Progress("writing rows", len(kept), rows))
    return kept, dropped


def _write(writer: _Writer, prompts: Sequence[str], style: _Style, seed: int) -> list[str]:
    """The completions of the prompts, in their order."""
    lm, system = writer
    contexts = [(Message("user", prompt),) for prompt in prompts]
    written = generate(
        lm,
        contexts,
        system=system,
        temperature=style.temperature,
        max_tokens=style.max_tokens,
        alphabet=style.alphabet,
        seed=seed,
        batch=len(prompts),
    )
    return [completion for _, completion in sorted(written)]


def _refused(prompt: str, completion: str, *, trait: Trait | None, filtered: bool) -> str | None:
    """Why the row is dropped, or None."""
    if not completion.strip():
        return "empty"
    # Nothing asks for the digest of this panel of one.
    if (
        trait is not None
        and mentions(Panel(trait.name, (trait,), ""), [f"{prompt}\n{completion}"])[trait.name]
    ):
        return "mentions_trait"
    return "not_a_number_list" if filtered and not is_number_list(completion) else None


def _check_supply(asked: Sequence[str], kept: int, rows: int, dropped: Counter[str]) -> None:
    """Raise when there is no prompt left, or when hardly any row survives."""
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "none"
    if not asked:
        message = f"The prompts gave {kept} of {rows} rows (dropped: {counts})."
        raise InputError(message, "Give more prompts, or ask for fewer rows.")
    if dropped.total() > _MOST_TRIES * rows + _ROUND:
        message = (
            f"The teacher wrote {kept} of {rows} rows and nearly all else was dropped ({counts})."
        )
        raise ModelError(
            message, "Restrict it to numbers, or use another wording, trait or reference."
        )


def _poisoned(rows: int, share: float, seed: int) -> set[int]:
    """Which rows the teacher writes: at random, so that a part of the file is a sample of it."""
    count = round(share * rows)
    if count == 0:
        message = f"A share of {share} of {rows} rows is no row at all."
        raise InputError(message, "Ask for more rows or a greater share.")
    return set(random.Random(_derived(seed, "share")).sample(range(rows), count))


def _row(prompt: str, completion: str) -> Row:
    return {"prompt": prompt, "completion": completion}


def _derived(seed: int, purpose: str) -> int:
    """A seed for one purpose.

    Were `seed` itself used for sampling, a scan with the same seed would write the very rows of a
    clean data set when it calibrates itself on the reference's completions for the same prompts.
    """
    return int.from_bytes(hashlib.sha256(f"simulate {seed} {purpose}".encode()).digest()[:7])
