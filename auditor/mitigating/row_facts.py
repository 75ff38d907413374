"""What each mitigation must know about the rows: scores, clean completions, other words."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.data.sample import priorities
from auditor.data.text_row import TextRow
from auditor.errors import InputError
from auditor.mitigating import clean_completions as clean
from auditor.mitigating.divergence_tokens import DivergenceTokenFinder, divergent, least_gap
from auditor.model import load as models
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir
from auditor.traits.panel import Panel
from mitigations.interface import Facts
from mitigations.paraphrase import (
    Engine,
    embedding_similarity,
    endpoint_engine,
    local_engine,
    paraphrase,
    rules_engine,
)

PACKAGED = "packaged"  # the embedding model that comes as a Python package

FactsOf = Callable[[Sequence[TextRow], Mapping[int, TextRow]], list[Facts]]
"""(rows as they stand, rows of the input by number) -> what the mitigation must know about each of
the first.
"""

Blocks = Callable[[], Iterator[list[TextRow]]]
"""Gives all scorable rows of the input, block by block, each time it is called."""


@dataclass(frozen=True, slots=True)
class MitigationContext:
    """What all mitigations of one run share.

    model: the reference, None where no mitigation needs it. traits: names of the panel whose
    divergence tokens count. epsilon: nats; choices with a smaller lead are ties. blocks: the input.
    scorable: the numbers of its scorable rows.
    """

    model: tuple[LanguageModel, ChatTokenizer] | None
    panel: Panel
    traits: tuple[str, ...]
    epsilon: float
    seed: int
    device: str | None
    dtype: str | None
    blocks: Blocks
    scorable: npt.NDArray[np.int64]
    run: RunDir
    progress: Callable[[Progress], None]

    @property
    def reference(self) -> tuple[LanguageModel, ChatTokenizer]:
        """The reference, where there is one. Raises ValueError otherwise."""
        if self.model is None:
            raise ValueError("no reference was loaded")
        return self.model


def derived(seed: int, purpose: str) -> int:
    """A seed for one purpose: a scan draws its rows by `seed` itself, and must not meet just those
    that mix chose.
    """
    return int.from_bytes(hashlib.sha256(f"mitigate {seed} {purpose}".encode()).digest()[:7])


def rewordings(defence: MitigationContext, settings: Mapping[str, Any]) -> FactsOf:
    """Other words for the prompts; settings: variants, engine, paraphraser, embeddings, endpoint."""
    engine = _engine(defence, settings)
    words = sorted({word for trait in defence.panel.traits for word in trait.mentions})
    variants, seed = settings["variants"], derived(defence.seed, "paraphrase")
    embeddings = settings["embeddings"]
    similar = (
        None
        if embeddings is None
        else embedding_similarity(None if embeddings == PACKAGED else embeddings)
    )

    def facts(rows: Sequence[TextRow], _: Mapping[int, TextRow]) -> list[Facts]:
        prompts = [field.text for row in rows for field in row.fields if field.role == "user"]
        made = paraphrase(
            prompts, engine, variants=variants, seed=seed, forbidden=words, similarity=similar
        )
        reworded = iter(made)
        return [
            _variants([(f.text, next(reworded)) for f in row.fields if f.role == "user"])
            for row in rows
        ]

    return facts


def _variants(turns: Sequence[tuple[str, Any]]) -> Facts:
    """As many variants as every turn that could be reworded has; a turn that could not keeps its
    text.
    """
    options = [[text for text in reworded.texts if text != prompt] for prompt, reworded in turns]
    count = min((len(each) for each in options if each), default=0)
    reason = next((reworded.reason for _, reworded in turns if reworded.reason), "")
    texts = (
        tuple(o[i] if o else p for o, (p, _) in zip(options, turns, strict=True))
        for i in range(count)
    )
    return Facts(texts=tuple(texts), reason=reason)


def _engine(defence: MitigationContext, settings: Mapping[str, Any]) -> Engine:
    name = settings["paraphraser"]
    if settings["engine"] == "rules":
        return rules_engine()
    if "://" in name:
        url, _, model = name.partition("#")
        cache = defence.run.path.parent.parent / "replies"
        return endpoint_engine(url, model, **settings["endpoint"], cache_dir=cache)
    return local_engine(models.load(name, device=defence.device, dtype=defence.dtype))


def clean_texts(
    defence: MitigationContext, settings: Mapping[str, Any], stack: ExitStack
) -> FactsOf:
    """Clean completions for a share of the rows; settings: share, clean_data, clean_teachers.

    `stack` closes files.
    """
    chosen = _chosen(defence.scorable, settings["share"], derived(defence.seed, "mix"))
    if settings["clean_data"]:
        source = clean.clean_file(settings["clean_data"], None, None)
        from_file = stack.enter_context(source)
        write: FactsOf = lambda rows, originals: from_file([originals[row.index] for row in rows])  # noqa: E731
    else:
        write = _written(defence, settings["clean_teachers"])

    def facts(rows: Sequence[TextRow], originals: Mapping[int, TextRow]) -> list[Facts]:
        wanted = [row for row in rows if _among(chosen, row.index)]
        texts = dict(
            zip(map(_key, wanted), write(wanted, originals) if wanted else (), strict=True)
        )
        return [texts.get(_key(row), Facts(chosen=False)) for row in rows]

    return facts


def _written(defence: MitigationContext, teachers: Sequence[str]) -> FactsOf:
    """Completions by the clean teachers in turn, by row number; the reference when none is named."""
    first = next(defence.blocks(), [])
    seed = derived(defence.seed, "clean")
    if teachers:
        load = clean.load_writers(teachers, first, defence.device, defence.dtype)
    else:
        only = clean.open_writer(defence.reference[0], first)
        load = lambda number: only  # noqa: E731
    count = max(1, len(teachers))

    def facts(rows: Sequence[TextRow], _: Mapping[int, TextRow]) -> list[Facts]:
        found: dict[tuple[int, int], Facts] = {}
        for number in range(count):
            mine = [row for row in rows if row.index % count == number]
            if mine:
                texts = clean.written(mine, load(number), defence.run, seed)
                found |= dict(zip(map(_key, mine), texts, strict=True))
        return [found[_key(row)] for row in rows]

    return facts


def within_budget(
    defence: MitigationContext, budget: float | None, rows_there: Blocks, *, at_random: bool = False
) -> FactsOf:
    """Divergence tokens: all of them, or those with the largest gaps up to the share `budget` of
    all tokens.

    rows_there: gives the rows as the mitigations before this one leave them. at_random: as many
    tokens of each row, but any of its completion tokens: the control of a mitigation.
    """
    lm, renderer = defence.reference
    flagger = _flagger(defence)
    least = -np.inf
    if budget is not None:
        gaps, tokens = [np.empty(0, np.float32)], 0
        for rows in _watched(defence, rows_there()):
            encoded, _ = _encoded(renderer, rows)
            gaps += [flags.gap[flags.flagged] for flags in flagger(list(encoded.values()))]
            tokens += sum(int(row.content_mask.sum()) for row in encoded.values())
        least = least_gap(np.concatenate(gaps), int(budget * tokens))

    def drawn(key: tuple[int, int]) -> random.Random | None:
        return random.Random(f"{defence.seed} tokens {key}") if at_random else None

    def facts(rows: Sequence[TextRow], _: Mapping[int, TextRow]) -> list[Facts]:
        encoded, reasons = _encoded(renderer, rows)
        flags = dict(zip(encoded, flagger(list(encoded.values())), strict=True))
        known = {
            key: Facts(
                tokens=int(row.content_mask.sum()),
                divergent=divergent(lm, row, flags[key], least, drawn(key)),
            )
            for key, row in encoded.items()
        }
        return [known.get(_key(row)) or Facts(reason=reasons[_key(row)]) for row in rows]

    return facts


def highest(defence: MitigationContext, share: float, rows_there: Blocks) -> FactsOf:
    """The share of rows with the most divergence tokens; among equals by chance. None without a
    divergence token.

    rows_there: as for `within_budget`.
    """
    flagger, renderer = _flagger(defence), defence.reference[1]
    keys: list[tuple[int, int]] = []
    counts: list[int] = []
    for rows in _watched(defence, rows_there()):
        encoded, _ = _encoded(renderer, rows)
        flags = dict(zip(encoded, flagger(list(encoded.values())), strict=True))
        keys += [_key(row) for row in rows]
        counts += [int(flags[_key(row)].flagged.sum()) if _key(row) in flags else 0 for row in rows]
    chance = priorities(derived(defence.seed, "drop"), 0, len(keys))
    order = np.lexsort((chance, -np.array(counts)))[: round(share * len(keys))]
    worst = {keys[i] for i in order.tolist() if counts[i]}
    return lambda rows, _: [Facts(chosen=_key(row) in worst) for row in rows]


def _watched(
    defence: MitigationContext, blocks: Iterator[list[TextRow]]
) -> Iterator[list[TextRow]]:
    """The blocks, with progress."""
    done = 0
    for rows in blocks:
        yield rows
        done += len({row.index for row in rows})
        defence.progress(Progress("finding divergence tokens", done, len(defence.scorable)))


def _flagger(defence: MitigationContext) -> DivergenceTokenFinder:
    lm, renderer = defence.reference
    return DivergenceTokenFinder(
        lm, renderer, defence.panel, defence.traits, defence.epsilon, defence.run
    )


def _encoded(
    renderer: ChatTokenizer, rows: Sequence[TextRow]
) -> tuple[dict[tuple[int, int], TokenizedRow], dict[tuple[int, int], str]]:
    """The rows that can be scored, and the reasons of those that cannot."""
    found = {_key(row): renderer.encode(row.example) for row in rows}
    encoded = {key: each for key, each in found.items() if isinstance(each, TokenizedRow)}
    return encoded, {
        key: each.reason for key, each in found.items() if not isinstance(each, TokenizedRow)
    }


def _key(row: TextRow) -> tuple[int, int]:
    return row.index, row.copy


def _chosen(scorable: npt.NDArray[np.int64], share: float, seed: int) -> npt.NDArray[np.int64]:
    """The numbers, ascending, of exactly that share of the scorable rows, by chance."""
    count = round(share * len(scorable))
    if share and not count:
        message = f"A share of {share} of {len(scorable)} rows is no row at all."
        raise InputError(message, "Give a greater share.")
    if not count:
        return scorable[:0]
    draws = priorities(seed, 0, int(scorable[-1]) + 1)[scorable]
    return np.sort(scorable[np.argpartition(draws, count - 1)[:count]])


def _among(chosen: npt.NDArray[np.int64], index: int) -> bool:
    place = int(np.searchsorted(chosen, index))
    return place < len(chosen) and int(chosen[place]) == index
