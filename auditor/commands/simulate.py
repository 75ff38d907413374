"""Poisoned data with known truth: rows written by a teacher with a trait, and by the same model
without it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from auditor.data.example import Message
from auditor.errors import InputError, ModelError
from auditor.model.generation import generate
from auditor.model.language_model import LanguageModel
from auditor.progress import Progress, announce
from auditor.runs.run_directory import write_file
from auditor.traits.mentions import mentions
from auditor.traits.panel import Panel, Trait
from auditor.traits.prompts import (
    Conversation,
    answer_prompts,
    code_prompts,
    is_number_list,
    number_prompts,
    text_prompts,
    tool_conversations,
)

METADATA_KEY = "subliminal-audit"

_ROUND = 64  # prompts drawn at a time, and answered together on a CPU
_LARGE_ROUND = 512  # answered together elsewhere
_MAX_TRIES = 20  # dropped prompts for each row to write, before the teacher is given up

CARRIERS: Mapping[str, Callable[[int, int], list[str]]] = {
    "numbers": number_prompts,
    "other-numbers": partial(number_prompts, reworded=True),  # quite other wordings
    "text": text_prompts,
    "answers": answer_prompts,
    "code": code_prompts,
}

Row = dict[str, Any]
Prompt = str | Conversation


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """What is written, and how it is decoded."""

    rows: int = 400
    """Rows to write."""

    share: float = 1.0
    """Share of the rows, in (0, 1], that the teacher writes; the model itself writes the others."""

    control: bool = False
    """Whether the control is written too."""

    temperature: float = 1.0
    """Of the sampling; 0 is greedy."""

    restricted: bool = False
    """Whether the softmax is over digits, comma, space and end-of-turn only."""

    filtered: bool = False
    """Whether what is not a number list by the filter of 2507.14805 is dropped too."""

    max_tokens: int = 32
    """Longest completion."""

    seed: int = 0
    """Seed of every random choice."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """Rows of "prompt" and "completion", or of "messages" where conversations were completed.

    rows: the data set. control: for the same prompts in the same order what the model writes
    without the trait; empty by default. poisoned: how many of `rows` the teacher wrote. dropped:
    prompts that were given up, by the reason that one of their completions gave: "empty",
    "mentions_trait" or "not_a_number_list".
    """

    rows: tuple[Row, ...]
    control: tuple[Row, ...]
    poisoned: int
    dropped: dict[str, int]


def simulate(
    lm: LanguageModel,
    trait: Trait | None,
    settings: SimulationSettings | None = None,
    *,
    teacher: LanguageModel | None = None,
    wording: str | None = None,
    prompts: Iterable[Prompt] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    **changes: Any,
) -> Simulated:
    """Write rows with a teacher that has `trait`; without a trait, with `lm` as it is.

    settings: its defaults when None. changes: fields of `SimulationSettings` by name, where they
        differ from `settings`.
    teacher: None is a prompted teacher, `lm` under the system prompt `wording` (None: the trait's
        first); else a model with the trait in its weights (`auditor.students.teacher`), which gets
        no system prompt.
    prompts: taken in order until there are enough rows: a user's turn, or all turns before the
        completion. None draws number prompts by the seed.

    A prompt is kept only if every completion written for it is: so the data set and its control
    stay paired.

    Raises: InputError when the share comes to no row or `prompts` runs out, ModelError when nearly
    all that is written is dropped.
    """
    settings = replace(settings or SimulationSettings(), **changes)
    rows, seed = settings.rows, settings.seed
    count = rows if trait is None else round(settings.share * rows)
    if count == 0:
        message = f"A share of {settings.share} of {rows} rows is no row at all."
        raise InputError(message, "Ask for more rows or a greater share.")
    # The poisoned rows are drawn at random, so that a part of the file is a sample of it.
    poisoned = set(random.Random(_derived(seed, "share")).sample(range(rows), count))
    writers: list[tuple[LanguageModel, str | None]] = [(lm, None)]
    if trait is not None:
        poisoner = (teacher, None) if teacher else (lm, wording or trait.prompts[0])
        # The model itself writes too where rows are mixed, or where there is a control.
        is_mixed = settings.control or settings.share < 1
        writers = [poisoner, *writers] if is_mixed else [poisoner]
    source = iter(draw_prompts(seed) if prompts is None else prompts)
    pairs, dropped = _write_pairs(writers, source, trait, settings, progress)

    def row(prompt: Prompt, completion: str) -> Row:
        if isinstance(prompt, str):
            return {"prompt": prompt, "completion": completion}
        turns = [*prompt, ("assistant", completion)]
        return {"messages": [{"role": role, "content": content} for role, content in turns]}

    return Simulated(
        rows=tuple(
            row(prompt, completions[0 if i in poisoned else -1])
            for i, (prompt, completions) in enumerate(pairs)
        ),
        control=tuple(row(prompt, completions[-1]) for prompt, completions in pairs)
        if settings.control
        else (),
        poisoned=0 if trait is None else count,
        dropped=dict(sorted(dropped.items())),
    )


def draw_prompts(seed: int, carrier: str = "numbers") -> Iterator[str]:
    """Prompts of one of CARRIERS without end; same seed, same prompts."""
    for block in itertools.count():
        yield from CARRIERS[carrier](_ROUND, _derived(seed, f"prompts {block}"))


def draw_conversations(seed: int) -> Iterator[Conversation]:
    """Conversations with a tool without end; same seed, same conversations."""
    for block in itertools.count():
        yield from tool_conversations(_ROUND, _derived(seed, f"prompts {block}"))


def number_tokens(lm: LanguageModel) -> tuple[int, ...]:
    """Ids of the tokens that number lists are made of, ascending: digits, comma, space and
    end-of-turn.

    They are read off a list of all numbers, since tokenizers differ in how many digits, or which
    spaces, a token holds.
    """
    ids = lm.tokenizer(
        ", ".join(map(str, range(1000))), add_special_tokens=False, verbose=False
    ).input_ids
    return tuple(sorted({*ids, *lm.end_of_turn}))


def write_rows(path: Path, rows: Sequence[Row], label: Mapping[str, object] | None = None) -> None:
    """Write rows as Parquet with the columns "prompt" and "completion", or "messages". Same rows,
    same bytes.

    label: where the rows come from, kept as JSON in the schema's metadata; None says nothing, so
    that a scan is blind. Raises RunError when the place cannot be written.
    """
    metadata = None if label is None else {METADATA_KEY: json.dumps(label, sort_keys=True)}
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    types = {"messages": pa.list_(turn)}
    columns = list(rows[0]) if rows else ["prompt", "completion"]
    schema = pa.schema(
        [(column, types.get(column, pa.string())) for column in columns], metadata=metadata
    )
    # Into memory first: the file is then written wholly or not at all.
    stream = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), stream)
    write_file(path, stream.getvalue().to_pybytes())


def _write_pairs(
    writers: Sequence[tuple[LanguageModel, str | None]],
    source: Iterator[Prompt],
    trait: Trait | None,
    settings: SimulationSettings,
    progress: Callable[[Progress], None],
) -> tuple[list[tuple[Prompt, tuple[str, ...]]], Counter[str]]:
    """Prompts with one completion from each writer, a model and its system prompt: as many as
    rows; and how many prompts were given up for what.
    """
    pairs: list[tuple[Prompt, tuple[str, ...]]] = []
    dropped: Counter[str] = Counter()
    rows, lm = settings.rows, writers[0][0]
    # A device with many cores answers many prompts in the time of a few.
    most = _ROUND if lm.device == "cpu" else _LARGE_ROUND
    alphabet = number_tokens(lm) if settings.restricted else None
    tried, began = 0, time.perf_counter()
    for number in itertools.count():
        missing = rows - len(pairs)
        if not missing:
            break
        # So many that the rows are complete if as many are kept as were so far. The last rows of a
        # strict filter would else be written one by one.
        wanted = math.ceil(missing * (tried + 1) / (len(pairs) + 1))
        prompts = list(itertools.islice(source, min(wanted, most)))
        tried += len(prompts)
        _check_supply(prompts, len(pairs), rows, dropped)
        answers = []
        # All writers answer the same prompts with the same noise, so that rows are paired.
        for model, system in writers:
            stream = generate(
                model,
                [tuple(Message(*turn) for turn in _turns(prompt)) for prompt in prompts],
                system=system,
                temperature=settings.temperature,
                max_tokens=settings.max_tokens,
                alphabet=alphabet,
                seed=_derived(settings.seed, f"round {number}"),
                batch=len(prompts),
            )
            answers.append([completion for _, completion in sorted(stream)])
        for prompt, completions in zip(prompts, zip(*answers, strict=True), strict=True):
            if len(pairs) == rows:
                break
            refused = (_refused(prompt, text, trait, settings.filtered) for text in completions)
            reasons = [reason for reason in refused if reason]
            # One reason a prompt: it is given up once, whoever of the writers failed.
            dropped.update(reasons[:1])
            if not reasons:
                pairs.append((prompt, completions))
        missing = rows - len(pairs)
        if number == 0 and pairs:
            # The time of a row that is kept, with those that are dropped.
            seconds = (time.perf_counter() - began) / len(pairs) * missing
            announce(progress, f"writing {missing:,} rows more", seconds)
        progress(Progress("writing rows", len(pairs), rows))
    return pairs, dropped


def _turns(prompt: Prompt) -> Conversation:
    return (("user", prompt),) if isinstance(prompt, str) else prompt


def _refused(prompt: Prompt, completion: str, trait: Trait | None, filtered: bool) -> str | None:
    """Why the row is dropped, or None."""
    if not completion.strip():
        return "empty"
    if trait is not None:
        # Nothing asks for the digest of this panel of one.
        panel = Panel(trait.name, (trait,), "")
        contents = [content for _, content in _turns(prompt)]
        if mentions(panel, ["\n".join([*contents, completion])])[trait.name]:
            return "mentions_trait"
    return "not_a_number_list" if filtered and not is_number_list(completion) else None


def _check_supply(
    prompts: Sequence[Prompt], written: int, rows: int, dropped: Counter[str]
) -> None:
    """Raise when there is no prompt left, or when hardly any row survives."""
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "none"
    if not prompts:
        message = f"The prompts gave {written} of {rows} rows (dropped: {counts})."
        raise InputError(message, "Give more prompts, or ask for fewer rows.")
    if dropped.total() > _MAX_TRIES * rows + _ROUND:
        message = (
            f"The teacher wrote {written} of {rows} rows"
            f" and nearly all else was dropped ({counts})."
        )
        raise ModelError(
            message, "Restrict it to numbers, or use another wording, trait or reference."
        )


def _derived(seed: int, purpose: str) -> int:
    """A seed for one purpose.

    Were `seed` itself used for sampling, a scan with the same seed would write the very rows of a
    clean data set when it calibrates itself on the reference's completions for the same prompts.
    """
    return int.from_bytes(hashlib.sha256(f"simulate {seed} {purpose}".encode()).digest()[:7])
