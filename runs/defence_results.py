"""What every defence of `audit mitigate` leaves of the effect, with the organism: runs/results.md,
"Defences".

    python runs/defence_results.py
    python runs/defence_results.py --traits owl --decoding greedy
    python runs/defence_results.py --traits owl wolf --decoding sampled --teacher finetuned \\
        --rows 6000 --blocks 12 --defences paraphrase "mix 50 %" mask replace "drop 10 %"

The data sets are written by `audit simulate`, defended by `audit mitigate` and compared by `audit
verify`, whose finished students are kept in runs/out, so a killed run goes on. Two processes of one
thread each.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from auditor.commands.mitigate import mitigate
from auditor.commands.simulate import simulate, write_rows
from auditor.commands.verify import verify
from auditor.model.load import load
from auditor.report.shared.words import share_left, signed
from auditor.students.result import ArmResult, TransferResult
from auditor.students.settings import StudentSettings
from auditor.students.teacher_recipes import RECIPES
from auditor.traits.panel import load_panels
from mitigations import step
from mitigations.interface import Mitigation

OUT = Path(__file__).parent / "out"
REFERENCE, PANELS = "organism", ("animals",)

DEFENCES: dict[str, tuple[Mitigation, ...]] = {
    "paraphrase": (step("paraphrase"),),
    "mix 10 %": (step("mix", share=0.1),),
    "mix 25 %": (step("mix", share=0.25),),
    "mix 50 %": (step("mix", share=0.5),),
    "mask": (step("mask"),),
    "mask, at most 2 % of tokens": (step("mask", budget=0.02),),
    "replace": (step("replace"),),
    "replace, as many at random": (step("replace", random=True),),
    "replace, at most 2 % of tokens": (step("replace", budget=0.02),),
    "drop 10 %": (step("drop", share=0.1),),
    "shuffle": (step("shuffle"),),
    "canonicalize, sort": (step("canonicalize", how="sort"),),
    "paraphrase, mask": (step("paraphrase"), step("mask")),
    "paraphrase, mix 50 %": (step("paraphrase"), step("mix", share=0.5)),
    "mask, mix 50 %": (step("mask"), step("mix", share=0.5)),
}


@dataclass(frozen=True, slots=True)
class Experiment:
    """The data and the students of an experiment. teacher: "prompted", or one of `RECIPES`."""

    teacher: str
    rows: int
    blocks: int
    seed: int
    defences: tuple[str, ...]


def experiment(trait: str, decoding: str, asked: Experiment) -> TransferResult:
    """One trait and one way of decoding under every defence asked for."""
    torch.set_num_threads(1)
    seed = asked.seed
    place = OUT / "defences" / f"{asked.teacher}-{trait}-{decoding}-{asked.rows}-{seed}"
    original = place / "original.parquet"
    if not original.exists():
        heat, panel = float(decoding == "sampled"), load_panels(PANELS)
        lm, carrier = load(REFERENCE, dtype="float32"), panel.trait(trait)
        tuned = None
        if asked.teacher != "prompted":
            tuned = RECIPES[asked.teacher](lm, carrier, panel, seed=seed).lm
        made = simulate(
            lm,
            carrier,
            rows=asked.rows,
            teacher=tuned,
            temperature=heat,
            max_tokens=24,
            seed=seed,
        )
        place.mkdir(parents=True, exist_ok=True)
        write_rows(original, made.rows)
    common: dict[str, Any] = {"reference": REFERENCE, "panels": PANELS, "seed": seed, "root": place}
    sets = {
        name: str(mitigate(str(original), DEFENCES[name], traits=[trait], **common).data)
        for name in asked.defences
    }
    names = ["original", *sets]
    return verify(
        str(original),
        list(sets.values()),
        names=names,
        trait=trait,
        blocks=asked.blocks,
        **common,
    ).result


def line(trait: str, decoding: str, found: ArmResult, original: ArmResult) -> str:
    """One line of the table."""
    effect = found.curve[-1].effect
    assert effect is not None
    kept = found.training.tokens / original.training.tokens
    cells = [
        trait,
        decoding,
        found.name,
        signed(effect, 2),
        share_left(found.effect_ratio),
        f"{kept:.0%}",
    ]
    cells.append(f"{found.training.task_loss:.3f}")
    return "| " + " | ".join([*cells, str(found.verdict)]) + " |"


def table(found: Sequence[tuple[str, str, TransferResult]]) -> Iterator[str]:
    """All that was measured, in Markdown."""
    yield (
        "| trait | carrier | data | effect, logits [95 %] | left [95 %] | trained tokens "
        "| task loss | verdict |"
    )
    yield "|" + "---|" * 8
    for trait, decoding, result in found:
        for arm in result.arms:
            yield line(trait, decoding, arm, result.arms[0])
        clean = result.control.task_loss
        yield f"| {trait} | {decoding} | clean control | | | | {clean:.3f} | |"


def main() -> None:
    """Run the experiments and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traits", nargs="+", default=("owl", "octopus"))
    parser.add_argument("--decoding", nargs="+", default=("greedy", "sampled"))
    parser.add_argument("--teacher", default="prompted", choices=("prompted", *RECIPES))
    parser.add_argument("--defences", nargs="+", default=list(DEFENCES), choices=DEFENCES)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--blocks", type=int, default=StudentSettings().blocks)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started = time.monotonic()
    jobs = list(itertools.product(asked.traits, asked.decoding))
    with ProcessPoolExecutor(2) as pool:
        wanted = Experiment(
            asked.teacher, asked.rows, asked.blocks, asked.seed, tuple(asked.defences)
        )
        tasks = [pool.submit(experiment, *job, wanted) for job in jobs]
        found = [(*job, task.result()) for job, task in zip(jobs, tasks, strict=True)]
    text = "\n".join([*table(found), "", f"{time.monotonic() - started:.0f} s in all.", ""])
    (OUT / "defences.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
