"""What the mitigations must be told of the rows: other words, clean completions, divergence
tokens.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from auditor.data.example import SkippedRow
from auditor.data.sample import priorities
from auditor.data.text_row import TextRow
from auditor.errors import InputError
from auditor.mitigating.clean_completions import CleanTeacher, clean_file
from auditor.mitigating.divergence_tokens import (
    DivergenceTokenFinder,
    DivergenceTokens,
    divergent,
    least_gap,
)
from auditor.mitigating.writers import Writers
from auditor.model.language_model import LanguageModel
from auditor.model.scoring import TokenScores, score_under
from auditor.model.server import ServerScorer
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.model.unit_store import Unit
from auditor.runs.run_directory import RunDir
from auditor.traits.panel import Panel
from mitigations.interface import (
    CleanCompletions,
    DivergenceBudget,
    Facts,
    MostDivergentRows,
    Needs,
    Rewordings,
)
from mitigations.paraphrase import EndpointEngine, Engine, LocalEngine, RulesEngine, paraphrase

LOG = logging.getLogger(__name__)

Key = tuple[int, int]  # `TextRow.key`


def _none() -> npt.NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Settled:
    """What a mitigation must know of all rows of the data set together, for one shard of them.

    least: the smallest gap, in nats, that counts. rows, copies: the keys of the rows that it takes,
    by ascending row; without copies it takes every copy of a row.
    """

    least: float = -np.inf
    rows: npt.NDArray[np.int64] = field(default_factory=_none)
    copies: npt.NDArray[np.int64] = field(default_factory=_none)

    def within(self, first: int, end: int) -> Settled:
        """The same for the rows from number `first` to before `end`."""
        start, stop = np.searchsorted(self.rows, (first, end))
        return Settled(self.least, self.rows[start:stop], self.copies[start:stop])


FactsOf = Callable[[Sequence[TextRow], Mapping[int, TextRow], Settled], list[Facts]]
"""(rows as they stand, rows of the input by number, what is settled for all) -> what the mitigation
must be told of each of the first.
"""


@dataclass(frozen=True, slots=True)
class MitigationContext:
    """What all mitigations of one run share.

    model: the reference, None where no mitigation needs it. traits: names of the panel whose
    divergence tokens count. epsilon: nats; choices with a smaller lead are ties. writers: the
    models beside the reference. first: the first rows of the data set that can be scored. server:
    scores in the reference's place.
    """

    model: tuple[LanguageModel, ChatTokenizer] | None
    panel: Panel
    traits: tuple[str, ...]
    epsilon: float
    seed: int
    writers: Writers
    first: Sequence[TextRow]
    run: RunDir
    server: ServerScorer | None = None

    def score(self, rows: Sequence[TokenizedRow], system: str | None) -> list[TokenScores]:
        """What the reference predicts in the rows under a prompt."""
        if self.server is not None:
            return self.server.score(rows, system)
        return score_under(*self.reference, rows, system)

    @property
    def reference(self) -> tuple[LanguageModel, ChatTokenizer]:
        """The reference, for mitigations that need one (`request.needs_reference`)."""
        assert self.model is not None
        return self.model


def seed_for(seed: int, purpose: str) -> int:
    """A seed for one purpose: a scan draws its rows by `seed` itself, and must not meet just those
    that mix selected.
    """
    text = f"mitigate {seed} {purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])


def is_measured(needs: Needs | None) -> bool:
    """Whether something must be measured of every row before the first can be mitigated."""
    return isinstance(needs, MostDivergentRows) or (
        isinstance(needs, DivergenceBudget) and needs.budget is not None
    )


def measure(context: MitigationContext, needs: Needs | None, rows: Sequence[TextRow]) -> Unit:
    """What `settle` must know of `rows`, as the mitigations before this one leave them."""
    by_key, _ = _divergence_of(context, rows)
    if isinstance(needs, DivergenceBudget):
        gaps = [tokens.gap[tokens.flagged] for _, tokens in by_key.values()]
        return {
            "gaps": np.concatenate([np.empty(0, np.float32), *gaps]),
            "tokens": np.array([sum(int(row.content_mask.sum()) for row, _ in by_key.values())]),
        }
    # A row that cannot be encoded has no token, and counts in the share all the same.
    counts = [int(by_key[row.key][1].flagged.sum()) if row.key in by_key else 0 for row in rows]
    return {
        "rows": np.array([row.index for row in rows], np.int64),
        "copies": np.array([row.copy for row in rows], np.int64),
        "counts": np.array(counts, np.int64),
    }


def settle(
    needs: Needs | None, seed: int, scorable: npt.NDArray[np.int64], measured: Unit
) -> Settled:
    """What follows from all rows together. scorable: the numbers of those that can be scored.
    measured: of all of them, as `measure` gives it; empty where nothing is measured.
    """
    match needs:
        case CleanCompletions():
            return _share_of_rows(needs, seed, scorable)
        case DivergenceBudget(budget=float() | int() as budget):
            count = int(measured["tokens"].sum())
            least = least_gap(measured["gaps"], round(budget * count))
            LOG.info("budget %g of %d tokens: gaps from %.3g nats", budget, count, least)
            return Settled(least)
        case MostDivergentRows():
            return _most_divergent(needs, seed, measured)
    return Settled()


def _share_of_rows(needs: CleanCompletions, seed: int, scorable: npt.NDArray[np.int64]) -> Settled:
    # Exactly the share asked for, not each row with that probability.
    count = round(needs.share * len(scorable))
    if needs.share and not count:
        message = f"A share of {needs.share} of {len(scorable)} rows is no row at all."
        raise InputError(message, "Give a greater share.")
    LOG.info("mix takes %d of %d rows", count, len(scorable))
    if not count:
        return Settled()
    # A draw for every row number, so that a row's chance does not depend on which others can be
    # scored.
    draws = priorities(seed_for(seed, "mix"), 0, int(scorable[-1]) + 1)[scorable]
    return Settled(rows=np.sort(scorable[np.argpartition(draws, count - 1)[:count]]))


def _most_divergent(needs: MostDivergentRows, seed: int, measured: Unit) -> Settled:
    """The share of rows with the most divergence tokens; among equals by chance. None without a
    divergence token.
    """
    counts = measured["counts"]
    chance = priorities(seed_for(seed, "drop"), 0, len(counts))
    # The last key of lexsort counts first.
    order = np.lexsort((chance, -counts))[: round(needs.share * len(counts))]
    order = np.sort(order[counts[order] > 0])
    LOG.info("drop takes %d of %d rows", len(order), len(counts))
    return Settled(rows=measured["rows"][order], copies=measured["copies"][order])


def facts_for(context: MitigationContext, needs: Needs | None, stack: ExitStack) -> FactsOf:
    """What gives a mitigation the facts that it needs. stack: closes files."""
    match needs:
        case None:
            return lambda rows, *_: [Facts(seed=context.seed)] * len(rows)
        case Rewordings():
            return _rewordings(context, needs)
        case CleanCompletions():
            return _clean_completions(context, needs, stack)
        case DivergenceBudget():
            return _within_budget(context, needs)
        case MostDivergentRows():
            return _selected


def _rewordings(context: MitigationContext, needs: Rewordings) -> FactsOf:
    name = needs.paraphraser
    LOG.info("rewording prompts by %s, compared by %s", name or "rules", needs.embeddings)
    engine: Engine = RulesEngine()
    if name is not None and "://" in name:
        url, _, model = name.partition("#")
        # Replies are kept beside the runs: another run must not pay for them again.
        cache_dir = context.run.path.parent.parent / "replies"
        engine = EndpointEngine(url, model, needs.endpoint, cache_dir)
    elif name is not None:
        engine = LocalEngine(context.writers.load(name))
    # No rewording may bring in a word of any trait of the panel, not only of those that count.
    forbidden = sorted({word for trait in context.panel.traits for word in trait.mentions})
    seed = seed_for(context.seed, "paraphrase")
    similarity = context.writers.load_embeddings(needs.embeddings) if needs.embeddings else None

    def facts(rows: Sequence[TextRow], *_: object) -> list[Facts]:
        # The turns of all rows in one call, so that an engine can work on many at a time.
        prompts = [field.text for row in rows for field in row.fields if field.role == "user"]
        reworded = paraphrase(
            prompts,
            engine,
            variants=needs.variants,
            seed=seed,
            forbidden=forbidden,
            similarity=similarity,
        )
        outcomes = iter(reworded)
        all_facts = []
        for row in rows:
            turns = [next(outcomes) for field in row.fields if field.role == "user"]
            # As many variants as every turn that could be reworded has; one that could not keeps
            # its text in all of them.
            options = [out.texts for out in turns if out.engine != "original"]
            variants = tuple(
                tuple(out.texts[0 if out.engine == "original" else i] for out in turns)
                for i in range(min(map(len, options), default=0))
            )
            reason = next((out.reason for out in turns if out.reason), "")
            all_facts.append(Facts(texts=variants, reason=reason))
        return all_facts

    return facts


def _clean_completions(
    context: MitigationContext, needs: CleanCompletions, stack: ExitStack
) -> FactsOf:
    write: Callable[[Sequence[TextRow], Mapping[int, TextRow]], list[Facts]]
    if needs.clean_data:
        look_up = stack.enter_context(clean_file(needs.clean_data))

        def write(rows: Sequence[TextRow], originals: Mapping[int, TextRow]) -> list[Facts]:
            # The file answers the prompts as they were, not as a paraphrase left them.
            return look_up([originals[row.index] for row in rows])

    else:
        write = _by_teachers(context, needs.clean_teachers)

    def facts(
        rows: Sequence[TextRow], originals: Mapping[int, TextRow], settled: Settled
    ) -> list[Facts]:
        selected = set(settled.rows.tolist())
        members = [row for row in rows if row.index in selected]
        written = iter(write(members, originals) if members else ())
        return [next(written) if row.index in selected else Facts(selected=False) for row in rows]

    return facts


def _by_teachers(
    context: MitigationContext, names: Sequence[str]
) -> Callable[[Sequence[TextRow], Mapping[int, TextRow]], list[Facts]]:
    """Completions by the clean teachers in turn, by row number; the reference when none is
    named.
    """
    seed = seed_for(context.seed, "clean")
    models = list(map(context.writers.load, names)) or [context.reference[0]]
    teachers = [CleanTeacher(lm, context.first) for lm in models]

    def facts(rows: Sequence[TextRow], _: Mapping[int, TextRow]) -> list[Facts]:
        by_row: dict[Key, Facts] = {}
        for number, teacher in enumerate(teachers):
            members = [row for row in rows if row.index % len(teachers) == number]
            if members:
                texts = teacher.complete(members, context.run, seed)
                by_row |= {row.key: text for row, text in zip(members, texts, strict=True)}
        return [by_row[row.key] for row in rows]

    return facts


def _within_budget(context: MitigationContext, needs: DivergenceBudget) -> FactsOf:
    """Divergence tokens: all of them, or those with the largest gaps within the budget."""
    lm = context.reference[0]

    def facts(rows: Sequence[TextRow], _: Mapping[int, TextRow], settled: Settled) -> list[Facts]:
        by_key, reasons = _divergence_of(context, rows)
        by_row = {key: Facts(reason=reason) for key, reason in reasons.items()}
        for key, (row, tokens) in by_key.items():
            # A seed for each row: its tokens must not depend on the rows before it.
            rng = random.Random(f"{context.seed} tokens {key}") if needs.at_random else None
            by_row[key] = Facts(
                tokens=int(row.content_mask.sum()),
                divergent=divergent(lm, row, tokens, settled.least, rng),
            )
        return [by_row[row.key] for row in rows]

    return facts


def _selected(rows: Sequence[TextRow], _: Mapping[int, TextRow], settled: Settled) -> list[Facts]:
    selected = set(zip(settled.rows.tolist(), settled.copies.tolist(), strict=True))
    return [Facts(selected=row.key in selected) for row in rows]


def _divergence_of(
    context: MitigationContext, rows: Sequence[TextRow]
) -> tuple[dict[Key, tuple[TokenizedRow, DivergenceTokens]], dict[Key, str]]:
    """The divergence tokens of the rows that can be scored, and the reasons of those that cannot,
    by the keys of the rows.
    """
    _, renderer = context.reference
    find = DivergenceTokenFinder(
        context.score, context.panel, context.traits, context.epsilon, context.run
    )
    encoded = {row.key: renderer.encode(row.example) for row in rows}
    tokenized = {key: row for key, row in encoded.items() if isinstance(row, TokenizedRow)}
    tokens = find(list(tokenized.values()))
    reasons = {key: row.reason for key, row in encoded.items() if isinstance(row, SkippedRow)}
    return dict(zip(tokenized, zip(tokenized.values(), tokens, strict=True), strict=True)), reasons
