"""How often `audit verify` says "transfer shown" of a trait that the data carry, and of those that
they do not, by two rules: the interval of the effect lies above 0; and the trait also stands out
from the other answers of its group, the negative controls.

    python runs/verify_draws.py

That takes the organism, 52 data sets, some 35 minutes of one core. A prompted or a tuned teacher
writes 3,072 number lists, greedily or at T = 1, and the organism the control for the same prompts;
students are those of `audit verify`, six blocks of 32 updates. Each data set is read out for all 13
animals, 12 of which it does not carry. Draws 0 to 12 are for trials; finished ones are kept in
runs/out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from hazard_table import TEACHERS
from scan_draws import OUT, Settings, make, of_draws
from scan_sources import ANIMALS, LONGEST, Source, name
from scan_tables import share_of
from transfer_results import arm

from auditor.commands.simulate import simulate
from auditor.inference.paired import transferred
from auditor.model.load import load
from auditor.students.experiment import run_transfer
from auditor.students.settings import StudentSettings
from auditor.students.summary import SIGNIFICANT
from auditor.students.teacher import tune_teacher
from auditor.traits.panel import load_panels

ROWS = 3072
KINDS = ("poisoned", "finetuned")


def measure(source: Source, draw: int, settings: Settings) -> list[dict[str, Any]]:
    """One data set: of every animal, the effect on students, its interval and its p-value."""
    lm, panel = load(settings.reference), load_panels(["animals"])
    trait = panel.trait(source.trait or "")
    tuned = tune_teacher(lm, trait, panel, seed=draw).lm if source.kind == "finetuned" else None
    made = simulate(
        lm,
        trait,
        rows=ROWS,
        teacher=tuned,
        control=True,
        temperature=float(not source.greedy),
        max_tokens=LONGEST[settings.reference],
        seed=draw,
    )
    result = run_transfer(
        lm,
        [arm("original", made.rows)],
        arm("control", made.control),
        panel,
        trait.name,
        StudentSettings(reference=settings.reference, panels=("animals",), seed=draw).resolved(lm),
        stop_early=False,
    )
    traits = {
        each.name: {
            "effect": each.effect.value,
            "transferred": transferred(each.effect),
            "p": each.p_value,
        }
        for each in result.arms[0].traits
    }
    return [{"key": f"{name(source, draw)}|{ROWS}", "truth": trait.name, "traits": traits}]


def table(found: Sequence[dict[str, Any]]) -> str:
    """The share of traits shown, by teacher and decoding, that the data carry and do not; the
    latter over data sets, since the answers of one are not independent.
    """
    rules = ("interval above 0", f"and p at most {SIGNIFICANT}")
    heads = [f"{which}: {rule}" for which in ("carried", "not carried") for rule in rules]
    lines = ["| teacher | decoding | sets | " + " | ".join(heads) + " |", "|" + "---|" * 7]
    kinds = {tuple(each["key"].split("|")[0:3:2]) for each in found}
    for kind, decoding in [*sorted(kinds), ("all", "all")]:
        sets = [
            each
            for each in found
            if kind == "all" or tuple(each["key"].split("|")[0:3:2]) == (kind, decoding)
        ]
        own, others = [], []
        for bound in (1.0, SIGNIFICANT):
            shown = [
                {
                    trait: one["transferred"] and (1.0 if one["p"] is None else one["p"]) <= bound
                    for trait, one in each["traits"].items()
                }
                for each in sets
            ]
            carried = [
                by_trait.pop(each["truth"]) for by_trait, each in zip(shown, sets, strict=True)
            ]
            own.append(share_of(sum(carried), len(sets)))
            others.append(_over_sets([np.mean([*one.values()]) for one in shown]))
        cells = [TEACHERS.get(kind, kind), decoding, str(len(sets)), *own, *others]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _over_sets(shares: Sequence[float]) -> str:
    """The mean share and two standard errors over the data sets."""
    mean, error = np.mean(shares), np.std(shares, ddof=1) / np.sqrt(len(shares))
    return f"{mean:.1%} [{max(0.0, mean - 2 * error):.1%}, {mean + 2 * error:.1%}]"


def main() -> None:
    """Make the draws that are missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=13)
    parser.add_argument("--first", type=int, default=13)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    wanted = [
        (Source(kind, ANIMALS[draw % len(ANIMALS)], greedy, counts=(ROWS,)), draw)
        for draw in range(asked.first, asked.first + asked.draws)
        for kind in KINDS
        for greedy in (True, False)
    ]
    settings = Settings("organism", ("animals",), ())
    out = OUT / "verify_draws.jsonl"
    text = table(of_draws(make(measure, wanted, settings, out, asked.processes), wanted))
    out.with_suffix(".md").write_text(text)
    print(json.dumps(vars(asked)), text, sep="\n")


if __name__ == "__main__":
    main()
