"""Where the trait enters the organism: runs/results.md, "Locate".

    python runs/locate_results.py                     3 traits, 3 blocks with their own seeds each
    python runs/locate_results.py --traits owl --rows 600 python runs/locate_results.py --reference
    smollm2-135m --panel default --traits owl --attribution-only --rows 64

A prompted teacher writes greedy number lists, and the reference without a trait the control for the
same prompts; `audit locate` does the rest. Two processes of one thread each. Resumes: what is
finished stays in runs/out/locate. The tables go to runs/out/locate-REFERENCE.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from auditor.attribution.result import LocateReport, Moved, Share
from auditor.commands.locate import PLACES, locate
from auditor.commands.simulate import simulate, write_rows
from auditor.inference.effect import Effect
from auditor.inference.paired import effect
from auditor.model.load import load
from auditor.report.locate import answer, numbered
from auditor.report.shared.words import share_left, signed
from auditor.students.settings import TrainingConfig
from auditor.traits.panel import load_panels

OUT = Path(__file__).parent / "out"
TRAITS = ("owl", "cat", "eagle")
FULL = TrainingConfig(full=True, learning_rate=3e-4)


def experiment(
    trait: str, reference: str, panel: str, rows: int, seed: int, attribution_only: bool
) -> LocateReport:
    """Everything about one trait."""
    torch.set_num_threads(1)
    folder = OUT / "locate" / f"{reference}-{trait}-{rows}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    data, clean = folder / "data.parquet", folder / "clean.parquet"
    if not clean.exists():
        chosen = load_panels([panel]).trait(trait)
        made = simulate(
            load(reference),
            chosen,
            rows=rows,
            control=True,
            temperature=0.0,
            max_tokens=24,
            seed=seed,
        )
        write_rows(data, made.rows)
        write_rows(clean, made.control)
    return locate(
        str(data),
        reference=reference,
        panels=[panel],
        trait=trait,
        control=str(clean),
        layers=() if attribution_only else None,
        places=32 if attribution_only else PLACES,
        training=FULL,
        seed=seed,
        root=folder,
    )


def layer_lines(reports: Sequence[LocateReport]) -> Iterator[str]:
    """A line a trait and layer."""
    yield (
        "| trait | layer | attention, % | MLP, % | both, % | enters, % | student alone, logits "
        "| own loss | moved |"
    )
    yield "|" + "---|" * 9
    for report in reports:
        for each in report.layers:
            cells = [report.trait, str(each.layer)]
            cells += [share(part) for part in (each.attention, each.mlp, each.total, each.entered)]
            moved = "" if each.moved is None else ", ".join(map(movement, each.moved))
            loss = "" if each.own_loss is None else f"{each.own_loss:.3f}"
            cells += ["" if each.student is None else signed(each.student, 2), loss, moved]
            yield "| " + " | ".join(cells) + " |"


def student_lines(reports: Sequence[LocateReport]) -> Iterator[str]:
    """A line a trait and set of frozen layers."""
    yield "| trait | frozen | effect, logits | left | task loss | own loss | verdict |"
    yield "|" + "---|" * 7
    for report in reports:
        taught = report.students
        if taught is None:
            continue
        before = f"{taught.before[0]:.3f} | {taught.before[1]:.3f}"
        yield f"| {report.trait} | no training | | | {before} | |"
        shown = "transfer shown" if taught.transferred else "no transfer shown"
        losses = f"{taught.task_loss:.3f} | {taught.own_loss:.3f}"
        yield f"| {report.trait} | none | {signed(taught.effect, 2)} | | {losses} | {shown} |"
        for each in taught.frozen:
            name = f"{numbered(each.layers)} ({each.name})"
            losses = f"{each.task_loss:.3f} | {each.own_loss:.3f}"
            shown = f"{signed(each.effect, 2)} | {share_left(each.effect_ratio)}"
            yield f"| {report.trait} | {name} | {shown} | {losses} | {each.verdict} |"


def over_traits(reports: Sequence[LocateReport]) -> Iterator[str]:
    """A line a layer: means over the traits with t intervals over them."""
    yield "| layer | both, % | enters, % | student alone, logits |"
    yield "|---|---|---|---|"
    for layers in zip(*(report.layers for report in reports), strict=True):
        columns = [
            effect([100 * each.total.value for each in layers]),
            effect([100 * e.entered.value for e in layers]),
        ]
        students = [each.student.value for each in layers if each.student is not None]
        texts = [percent(each) for each in columns] + [
            signed(effect(students), 2) if students else ""
        ]
        yield f"| {layers[0].layer} | " + " | ".join(texts) + " |"


def agreement_lines(reports: Sequence[LocateReport]) -> Iterator[str]:
    """Agreement in rank with the single-layer students, a line a trait and measure."""
    yield "| trait | measure | Spearman [95 %] | p | layers |"
    yield "|---|---|---|---|---|"
    for report in reports:
        for each in () if report.students is None else report.students.agreement:
            span = (
                ""
                if each.interval is None
                else f" [{each.interval[0]:+.2f}, {each.interval[1]:+.2f}]"
            )
            yield (
                f"| {report.trait} | {each.measure} | {each.rho:+.2f}{span} | {each.p_value:.2f} "
                f"| {each.layers} |"
            )


def share(each: Share) -> str:
    return f"{100 * each.value:.0f} [{100 * each.interval[0]:.0f}, {100 * each.interval[1]:.0f}]"


def percent(each: Effect) -> str:
    low, high = each.interval or (np.nan, np.nan)
    return f"{each.value:.0f} [{low:.0f}, {high:.0f}]"


def movement(each: Moved) -> str:
    low, high = each.difference.interval or (np.nan, np.nan)
    return f"{each.original:.1%} ({each.difference.value:+.1%} [{low:+.1%}, {high:+.1%}])"


def page(reports: Sequence[LocateReport]) -> str:
    """All that was measured, in Markdown."""
    lines = [f"- {report.trait}: {answer(report)}" for report in reports]
    for report in reports:
        low, high = report.difference[1]
        lines.append(
            f"- {report.trait}: {report.rows} of {report.scanned} rows; difference "
            f"{report.difference[0]:.2f} "
            f"[{low:.2f}, {high:.2f}] nats; largest miss of a row's sum {report.error:.2%} of its "
            f"difference"
        )
        lines += [f"- {report.trait}: warning: {warning}" for warning in report.warnings]
    lines += ["", *layer_lines(reports), ""]
    if len(reports) > 1:
        lines += [*over_traits(reports), ""]
    if reports[0].students is not None:
        lines += [*student_lines(reports), "", *agreement_lines(reports), ""]
    return "\n".join(lines)


def main() -> None:
    """Run the experiments and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traits", nargs="+", default=TRAITS)
    parser.add_argument("--reference", default="organism")
    parser.add_argument("--panel", default="animals")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attribution-only", action="store_true")
    asked = parser.parse_args()
    started = time.monotonic()
    settings = (asked.reference, asked.panel, asked.rows, asked.seed, asked.attribution_only)
    with ProcessPoolExecutor(2) as pool:
        tasks = [pool.submit(experiment, trait, *settings) for trait in asked.traits]
        reports = [task.result() for task in tasks]
    text = page(reports) + f"\n{time.monotonic() - started:.0f} s in all.\n"
    OUT.mkdir(exist_ok=True)
    (OUT / f"locate-{asked.reference}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
