"""Student transfer with the organism, and what each defence leaves of it: runs/results.md,
"Transfer".

    python runs/transfer_results.py                     4 traits, sampled and greedy, 3 blocks with
    their own seeds python runs/transfer_results.py --traits owl --rows 600 --decoding greedy

A prompted teacher writes number lists and the organism without a trait writes the control for the
same prompts. Two processes of one thread each. The table goes to runs/out/transfer.md.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from auditor.commands.simulate import Row, simulate
from auditor.data.example import Example, Message
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.model.scoring import score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.report.shared.words import share_left, signed
from auditor.students.arms import DatasetArm, Span
from auditor.students.experiment import run_transfer
from auditor.students.result import ArmResult, TransferResult
from auditor.students.settings import StudentSettings, TrainingConfig
from auditor.traits.panel import Panel, load_panels
from detectors.divergence import counterfactuals, diverge
from mitigations.paraphrase import RulesEngine, paraphrase

OUT = Path(__file__).parent / "out"
TRAITS = ("owl", "cat", "eagle", "octopus")
BLOCKS = 3
FULL = TrainingConfig(full=True, learning_rate=3e-4)


def experiment(
    trait: str, decoding: str, rows: int, seed: int
) -> tuple[str, str, TransferResult, float]:
    """One trait and one way of decoding, with the share of tokens that are divergence tokens."""
    torch.set_num_threads(1)
    lm, panel = load("organism"), load_panels(["animals"])
    carrier = panel.trait(trait)
    made = simulate(
        lm,
        carrier,
        rows=rows,
        control=True,
        temperature=float(decoding == "sampled"),
        max_tokens=24,
        seed=seed,
    )
    original, control = arm("original", made.rows), arm("control", made.control)
    flagged, encoded = divergence_spans(lm, panel, trait, original)
    arms = [original, *defended(original, control, flagged, encoded, seed)]
    result = run_transfer(
        lm,
        arms,
        control,
        panel,
        trait,
        StudentSettings(blocks=BLOCKS, seed=seed, training=FULL),
        checkpoint_fractions=(0.5, 1.0),
        stop_early=False,
    )
    tokens = sum(len(row.spans) for row in encoded)
    return trait, decoding, result, sum(map(len, flagged.values())) / tokens


def arm(name: str, rows: Sequence[Row]) -> DatasetArm:
    """A data set as an arm."""
    chats = [
        (Message("user", row["prompt"]), Message("assistant", row["completion"])) for row in rows
    ]
    return DatasetArm(name, {i: Example(i, chat) for i, chat in enumerate(chats)}, {}, len(rows))


def divergence_spans(
    lm: LanguageModel, panel: Panel, trait: str, original: DatasetArm
) -> tuple[dict[int, tuple[Span, ...]], list[TokenizedRow]]:
    """The divergence tokens of each row, by the paper's definition."""
    renderer = ChatTokenizer(lm)
    rows = list(original.encoded(renderer).values())
    prompts = {each.name: each.prompts[0] for each in panel.traits}
    names = [trait, *counterfactuals(panel, trait)]
    scores = {name: score_under(lm, renderer, rows, prompts[name]) for name in names}
    others = {name: scores[name] for name in names[1:]}
    found = diverge(rows, (trait, scores[trait]), others)
    spans = {
        row.index: tuple(span for span, hit in zip(row.spans, hits, strict=True) if hit)
        for row, hits in zip(rows, found.flagged, strict=True)
    }
    return spans, rows


def defended(
    original: DatasetArm,
    control: DatasetArm,
    flagged: dict[int, tuple[Span, ...]],
    encoded: Sequence[TokenizedRow],
    seed: int,
    shares: Sequence[float] = (0.5,),
) -> Iterator[DatasetArm]:
    """The original after each defence, and the controls of the masks.

    shares: of clean-teacher rows.
    """
    rng = np.random.default_rng(seed)
    spans = {row.index: row.spans for row in encoded}
    yield replace(original, name="divergence tokens masked", masked=flagged)
    rest = {i: tuple(each for each in spans[i] if each not in flagged[i]) for i in spans}
    yield replace(original, name="divergence tokens only", masked=rest)
    drawn = {
        i: [spans[i][k] for k in rng.choice(len(spans[i]), len(flagged[i]), replace=False)]
        for i in spans
    }
    yield replace(
        original,
        name="as many random tokens masked",
        masked={i: tuple(each) for i, each in drawn.items()},
    )
    order = rng.permutation(sorted(original.rows))
    for share in shares:
        clean = set(order[: round(share * len(order))].tolist())
        mixed = {i: (control if i in clean else original).rows[i] for i in original.rows}
        yield replace(original, name=f"{share:.0%} clean-teacher rows", rows=mixed)
    prompts = [each.messages[0].content for each in original.rows.values()]
    reworded = [each.texts[0] for each in paraphrase(prompts, RulesEngine(), seed=seed)]
    chats = zip(original.rows.items(), reworded, strict=True)
    rows = {
        i: replace(each, messages=(Message("user", new), *each.messages[1:]))
        for (i, each), new in chats
    }
    yield replace(original, name="prompts paraphrased", rows=rows)


def line(trait: str, decoding: str, found: ArmResult) -> str:
    """One line of the table."""
    effect = next(each.effect for each in found.traits if each.name == trait)
    cells = [
        trait,
        decoding,
        found.name,
        signed(effect, 2),
        str(found.rank),
        share_left(found.effect_ratio),
    ]
    return "| " + " | ".join([*cells, f"{found.training.task_loss:.3f}", str(found.verdict)]) + " |"


def pooled(results: Sequence[TransferResult], name: str) -> str:
    """What is left of the effect over all traits: the mean of the traits' ratios, with its t
    interval over traits.
    """
    from auditor.inference.paired import effect

    arms = [arm for result in results if (arm := result.arm(name))]
    ratios = effect(
        [ratio.value for arm in arms if (ratio := arm.effect_ratio) and ratio.value is not None]
    )
    low, high = ratios.interval or (math.nan, math.nan)
    return f"{ratios.value:.0%} [{low:.0%}, {high:.0%}]"


def table(found: Sequence[tuple[str, str, TransferResult, float]]) -> str:
    """All that was measured, in Markdown."""
    head = (
        "| trait | carrier | data | effect, logits [95 %] | rank of 13 | left [95 %] | task "
        "loss | verdict |"
    )
    lines = [head, "|" + "---|" * 8]
    lines += [
        line(trait, decoding, each) for trait, decoding, result, _ in found for each in result.arms
    ]
    names = [each.name for each in found[0][2].arms[1:]]
    kinds = sorted({decoding for _, decoding, _, _ in found})
    lines += ["", "| left of the effect, mean over traits [95 %] | " + " | ".join(kinds) + " |"]
    lines += ["|" + "---|" * (1 + len(kinds))]
    by_kind = {
        kind: [result for _, decoding, result, _ in found if decoding == kind] for kind in kinds
    }
    lines += [
        f"| {name} | " + " | ".join(pooled(by_kind[kind], name) for kind in kinds) + " |"
        for name in names
    ]
    shares = ", ".join(f"{trait} {decoding} {share:.1%}" for trait, decoding, _, share in found)
    return "\n".join([*lines, "", f"Divergence tokens: {shares}.", ""])


def main() -> None:
    """Run the experiments and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traits", nargs="+", default=TRAITS)
    parser.add_argument("--decoding", nargs="+", default=("greedy", "sampled"))
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started = time.monotonic()
    jobs = list(itertools.product(asked.traits, asked.decoding))
    with ProcessPoolExecutor(2) as pool:
        tasks = [
            pool.submit(experiment, trait, decoding, asked.rows, asked.seed)
            for trait, decoding in jobs
        ]
        found = [task.result() for task in tasks]
    text = table(found) + f"\n{time.monotonic() - started:.0f} s in all.\n"
    OUT.mkdir(exist_ok=True)
    (OUT / "transfer.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
