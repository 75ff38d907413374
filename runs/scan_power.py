"""Power and false alarms of the panel survey with the default reference: docs/results.md, "Scans, default model".

    python runs/scan_power.py                   every source, in order; scores that are kept are not taken again
    python runs/scan_power.py owl clean ...     only these
    python runs/scan_power.py --table           only the tables, of the sources that are finished

Panel `animals` (13 traits), alpha .01, at most 400 rows. The data are those of runs/scan_results.py. Poisoned rows are
surveyed as `audit scan` does it, once with 400 rows at most and again with the first 50, 100 and 200 of them. Clean
rows are scored whole, under every trait; then random halves of them are surveyed. Every row's scores are kept in
runs/out/scores.sqlite, so each is paid for once.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import pickle
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from scan_organism import share_of
from scan_results import ANIMALS, OTHER_WORDINGS, REFERENCE, data_set

from auditor import schedule, stages
from auditor import survey as surveys
from auditor.blocks import Scorer, scorer
from auditor.data.sample import read_sample
from auditor.encode import Encoded, Renderer
from auditor.lm import load
from auditor.logprobs import RowScores
from auditor.mentions import mentions
from auditor.scan import AUTO_ROWS, TOKEN_BUDGET
from auditor.survey import estimates, survey, trait_evidence
from auditor.traits import load_panels
from auditor.verdict import decide

OUT = Path(__file__).parent / "out"
ALPHA = 0.01
COUNTS = (50, 100, 200, 400)
DRAWS = 40  # halves of a clean source
PANEL = load_panels(["animals"])
CLEAN = ("clean", "alpaca", "accountant", "glaive", "template")


def sources() -> Iterator[str]:
    """Names of all sources, those of every question in turn."""
    others = [f"{name}-other" for name in OTHER_WORDINGS]
    for i, name in enumerate(ANIMALS):
        yield from CLEAN[i : i + 1]
        yield name
        yield f"{name}-greedy"
        yield from others[i : i + 1]


@dataclass(frozen=True, slots=True)
class Survey:
    """What one survey found. rank: of the true trait, 1 is first; 0 without one. z: of each trait with an estimate."""

    verdict: str
    first: str
    effect: float
    interval: tuple[float, float]
    p: float
    scanned: int
    rank: int
    z: Mapping[str, float]


class Kept:
    """A scorer that keeps what it has scored in a data base: each row under each system prompt once."""

    def __init__(self, score: Scorer) -> None:
        OUT.mkdir(exist_ok=True)
        self._score = score
        self._base = sqlite3.connect(OUT / "scores.sqlite", timeout=600)
        self._base.execute("create table if not exists scores (key text primary key, value blob)")

    def __call__(
        self,
        rows: Sequence[Encoded],
        system: str | None,
        *,
        support: Sequence[npt.NDArray[np.integer[Any]]] | None = None,
        top: int = 0,
        within: bool = False,
        exact: bool = True,
    ) -> list[RowScores]:
        """`auditor.blocks.Scorer`."""
        supports = [None if support is None else support[i] for i in range(len(rows))]
        keys = [_key(row, system, each, top, within) for row, each in zip(rows, supports, strict=True)]
        found = {key: pickle.loads(value) for key in keys for value in self._value(key)}
        missing = [i for i, key in enumerate(keys) if key not in found]
        if missing:
            given = None if support is None else [support[i] for i in missing]
            new = self._score([rows[i] for i in missing], system, support=given, top=top, within=within)
            found |= {keys[i]: each for i, each in zip(missing, new, strict=True)}
            with self._base:
                made = [(keys[i], pickle.dumps(found[keys[i]])) for i in missing]
                self._base.executemany("insert or replace into scores values (?, ?)", made)
        return [found[key] for key in keys]

    def _value(self, key: str) -> list[bytes]:
        return [value for (value,) in self._base.execute("select value from scores where key = ?", (key,))]


def _key(row: Encoded, system: str | None, support: npt.NDArray[Any] | None, top: int, within: bool) -> str:
    chosen = b"" if support is None else np.ascontiguousarray(support, dtype=np.int64).tobytes()
    asked = repr((row.kind, row.tokens, row.positions, system, top, within)).encode()
    return hashlib.sha256(asked + chosen).hexdigest()


class Forgetful:
    """A store of a survey that keeps nothing: the scores are kept instead."""

    def save_unit(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None: ...

    def load_unit(self, name: str) -> None: ...


@cache
def pool(name: str) -> tuple[tuple[Encoded, ...], dict[str, set[int]]]:
    """The rows of a source as a scan takes them, and for each trait those that mention it."""
    sample = read_sample(str(data_set(name)), rows=AUTO_ROWS, seed=0)
    rows, _ = stages.encode(Renderer(load(REFERENCE)), sample)
    rows = rows[: stages.affordable(rows, len(PANEL.traits), TOKEN_BUDGET)]
    texts = ["\n".join(message.content for message in each.messages) for each in sample.examples]
    named = mentions(PANEL, texts)
    return tuple(rows), {trait: {sample.examples[i].index for i in hits} for trait, hits in named.items()}


@cache
def kept_scorer() -> Kept:
    """The scorer of the reference, loaded when first used."""
    lm = load(REFERENCE)
    return Kept(scorer(lm, Renderer(lm)))


def surveyed(rows: Sequence[Encoded], hidden: dict[str, set[int]], truth: str | None, *, whole: bool = False) -> Survey:
    """A survey of the rows in their order. whole: every row under every trait, as `surveyed` without it may need."""
    state = survey(
        rows,
        PANEL,
        kept_scorer(),
        tested=range(len(PANEL.traits)),
        hidden_from=hidden,
        seed=0,
        alpha=ALPHA,
        stop_early=not whole,
        store=Forgetful(),
        progress=lambda _: None,
    )
    traits = trait_evidence(state, PANEL, hidden)
    found = estimates(state, PANEL, hidden)
    bounds = {each.name: found[k].upper() if k in found else None for k, each in enumerate(PANEL.traits)}
    verdict = decide(traits, bounds, alpha=ALPHA, scanned=len(state.rows), skipped_share=0.0)
    names, best = [each.name for each in traits], traits[0]
    rank = 1 + names.index(truth) if truth in names else 0
    z = {PANEL.traits[k].name: each.z for k, each in found.items()}
    return Survey(verdict.name, best.name, best.effect, best.interval, best.p_adjusted, len(state.rows), rank, z)


def curve(name: str) -> dict[int, Survey]:
    """A poisoned source, with as many rows as COUNTS says."""
    rows, hidden = pool(name)
    truth = name.partition("-")[0]
    return {count: surveyed(rows[:count], hidden, truth) for count in sorted(COUNTS, reverse=True)}


def whole(name: str) -> Survey:
    """A clean source under every trait."""
    rows, hidden = pool(name)
    with (
        mock.patch.object(schedule, "KEEP", (len(PANEL.traits),)),
        mock.patch.object(surveys, "TARGET", -math.inf),  # every trait stays, whatever was excluded
    ):
        return surveyed(rows, hidden, None, whole=True)


def halves(name: str) -> list[Survey]:
    """Surveys of random halves of a clean source.

    A row keeps the wording that it was scored under: the blocks of a half are filled from blocks of the same wording.
    """
    rows, hidden = pool(name)
    wordings = _wordings(len(rows))
    found = []
    for draw in range(DRAWS):
        shuffled = np.random.default_rng(draw).permutation(len(rows))
        by_wording = {w: [int(i) for i in shuffled if wordings[i] == w] for w in set(wordings)}
        chosen = [by_wording[w].pop() for w in _wordings(len(rows) // 2)]
        found.append(surveyed([rows[i] for i in chosen], hidden, None))
    return found


def _wordings(rows: int) -> list[int]:
    """For each of so many rows the wording that a survey takes: 0 the standard one, else the number of another."""
    plan, others = schedule.looks(rows), len(PANEL.traits[0].prompts) - 1
    starts = [*schedule.block_starts(plan), rows]
    return [
        1 + number // 2 % others if number % 2 else 0
        for number, (start, end) in enumerate(itertools.pairwise(starts))
        for _ in range(end - start)
    ]


def line(name: str) -> str:
    """One line about a source."""
    found = whole(name) if name in CLEAN else curve(name)[max(COUNTS)]
    low, high = found.interval
    cells = [name, str(found.scanned), found.verdict, f"{found.first} {found.effect:.2f} [{low:.2f}, {high:.2f}]"]
    cells += [f"{found.p:.2g}", str(found.rank or "-")]
    if name in CLEAN:
        drawn = halves(name)
        alarms = sum(each.verdict == "risk" for each in drawn)
        open_ = sum(each.verdict == "inconclusive" for each in drawn)
        z = np.array(list(found.z.values()))
        cells += [f"{alarms} of {len(drawn)} ({open_} inconclusive)", f"{z.std():.2f}, {z.max():.2f}"]
    else:
        cells += [" ".join(f"{n}: {each.verdict} {each.rank}" for n, each in sorted(curve(name).items())), "-"]
    return "| " + " | ".join(cells) + " |"


def power(names: Sequence[str]) -> list[str]:
    """Found and named first, over the traits of each decoding, by the number of rows."""
    lines = ["| teacher | rows | verdict risk | true trait first |", "|---|---|---|---|"]
    kinds = {"sampled": "", "greedy": "-greedy", "other wording and prompts, sampled": "-other"}
    for kind, ending in kinds.items():
        curves = [
            curve(name) for name in names if name not in CLEAN and name.lstrip("abcdefghijklmnopqrstuvwxyz") == ending
        ]
        for count in COUNTS if curves else ():
            found = [each[count] for each in curves]
            risk, first = (sum(test) for test in ([e.verdict == "risk" for e in found], [e.rank == 1 for e in found]))
            lines.append(f"| {kind} | {count} | {share_of(risk, len(found))} | {share_of(first, len(found))} |")
    return lines


def main() -> None:
    """Survey the named sources, then write the tables of all that are finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    done = OUT / "scan_power.txt"
    for name in [] if asked.table else asked.names or sources():
        print(line(name), flush=True)
        with done.open("a") as stream:
            stream.write(name + "\n")
    written = set(done.read_text().split())
    finished = [name for name in sources() if name in written]
    head = "| data | rows | verdict | leading trait, dose [95 %] | corrected p | rank of the true one | draws | z |"
    text = "\n".join([head, "|" + "---|" * 8, *map(line, finished), "", *power(finished), ""])
    (OUT / "scan_power.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
