"""Student transfer with the default reference and fine-tuned teachers: runs/results.md, "Transfer,
default model".

    python runs/transfer_default.py                  2 traits, 3 blocks, 32 updates; about an hour
    python runs/transfer_default.py --greedy python runs/transfer_default.py --traits owl
    owl-prompted        the second teacher is prompted instead of tuned python
    runs/transfer_default.py --no-system --blocks 6 --rows 1024 --updates 128 --defences --device
    cuda

The recipe of docs/methods.md, "Students": a teacher tuned on cloze answers until saturated, number
lists at T=1 with the softmax restricted to digits, comma, blank and end-of-turn, and LoRA students.
The control is the reference's own lists for the same prompts. Data, finished students and results
are kept in runs/out, so a killed run goes on. Several processes share the students of a block (and
one GPU):

    ACCELERATE_USE_CPU=true torchrun --standalone --nproc-per-node 8 runs/transfer_default.py
    --device cuda ...
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transfer_results import defended

from auditor.commands.simulate import Row, draw_prompts, number_tokens, simulate, write_rows
from auditor.data.example import Example, Message
from auditor.inference.paired import effect, transferred
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.model.scoring import score_each
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.progress import Progress
from auditor.report.shared.words import share_left, signed
from auditor.runs.run_directory import RunDir
from auditor.students import processes
from auditor.students.arms import DatasetArm, Span
from auditor.students.experiment import run_transfer
from auditor.students.result import ArmResult, TransferResult
from auditor.students.settings import StudentSettings
from auditor.students.teacher import tune_teacher
from auditor.traits.panel import load_panels
from detectors.divergence import diverge

OUT = Path(__file__).parent / "out"
REFERENCE = "smollm2-135m"
LONGEST = 30
PROMPTED = "-prompted"
# of the default reference's template
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CLEAN_SHARES = (0.1, 0.25, 0.5)


def plain_prompts(seed: int) -> Iterator[str]:
    """The plainest number prompt, without end."""
    rng = random.Random(seed)
    while True:
        yield "Continue: " + ", ".join(str(rng.randint(100, 999)) for _ in range(3))


PROMPTS = {"plain": plain_prompts, "paper": draw_prompts}


def without_system(lm: LanguageModel) -> LanguageModel:
    """The model with a chat template whose own system message is empty: for teachers, students and
    readout alike.
    """
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace(SYSTEM, "")
    return replace(lm, tokenizer=tokenizer)


def data_file(name: str, asked: argparse.Namespace) -> Path:
    """Where the rows of a teacher are kept, or those of the reference for "clean"."""
    style = ("greedy" if asked.greedy else "sampled") + "-no-system" * asked.no_system
    return (
        OUT
        / "data"
        / f"transfer-{name}-{style}-{asked.prompts}-{count(asked)}-{asked.seed}.parquet"
    )


def count(asked: argparse.Namespace) -> int:
    """Rows of each data set; the last ones are held out."""
    return int(asked.blocks * asked.rows + 32)


def teacher_of(name: str, asked: argparse.Namespace, lm: LanguageModel) -> LanguageModel | None:
    """The tuned teacher of a trait; None for the reference, and for a teacher that is only
    prompted.
    """
    if name == "clean" or name.endswith(PROMPTED):
        return None
    panel = load_panels(["animals"])
    taught = tune_teacher(lm, panel.trait(name), panel, seed=asked.seed)
    before, after = taught.margin_before, taught.margin
    print(
        f"{name}: margin {before:+.1f} to {after:+.1f} in {len(taught.losses)} batches", flush=True
    )
    return taught.lm


def write(name: str, asked: argparse.Namespace, lm: LanguageModel) -> None:
    """Write the rows of a teacher, and beside them the divergence tokens of each."""
    path = data_file(name, asked)
    if path.exists():
        return
    teacher = teacher_of(name, asked, lm)
    trait = None if name == "clean" else load_panels(["animals"]).trait(name.removesuffix(PROMPTED))
    made = simulate(
        lm,
        trait,
        rows=count(asked),
        teacher=teacher,
        temperature=float(not asked.greedy),
        restricted=True,
        prompts=PROMPTS[asked.prompts](asked.seed),
        max_tokens=LONGEST,
        seed=asked.seed,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if teacher is not None:
        found = divergence_spans(lm, teacher, arm(name, list(made.rows), list(made.rows)))
        path.with_suffix(".json").write_text(
            json.dumps({made.rows[i]["prompt"]: each for i, each in found.items()})
        )
    write_rows(path, made.rows)


def divergence_spans(
    lm: LanguageModel, teacher: LanguageModel, data: DatasetArm
) -> dict[int, list[Span]]:
    """The divergence tokens of each row, of the teacher against its base: the choices are those
    among number tokens.
    """
    renderer = ChatTokenizer(lm)
    rows = [
        row for each in data.rows.values() if isinstance(row := renderer.encode(each), TokenizedRow)
    ]
    allowed = np.array(number_tokens(lm))
    support = [np.tile(allowed, (len(row.positions), 1)) for row in rows]
    by_teacher, by_base = (
        next(score_each(model, rows, [renderer.prefix(None)], support=support, within=True))
        for model in (teacher, lm)
    )
    found = diverge(rows, (teacher.name, by_teacher), {"reference": by_base})
    return {
        row.index: [span for span, hit in zip(row.spans, hits, strict=True) if hit]
        for row, hits in zip(rows, found.flagged, strict=True)
    }


def arm(name: str, data: list[Row], clean: list[Row]) -> DatasetArm:
    """A data set as an arm; rows are numbered by the clean set's, whose prompts are the same."""
    number = {row["prompt"]: i for i, row in enumerate(clean)}
    chats = {
        number[row["prompt"]]: (
            Message("user", row["prompt"]),
            Message("assistant", row["completion"]),
        )
        for row in data
        if row["prompt"] in number
    }
    return DatasetArm(name, {i: Example(i, chat) for i, chat in chats.items()}, {}, len(data))


def arms_of(
    asked: argparse.Namespace, lm: LanguageModel
) -> tuple[dict[str, list[DatasetArm]], DatasetArm]:
    """The arms of each trait, its data first and then each defence of them, and the control; all
    with the same rows.
    """
    names = ["clean", *asked.traits]
    for name in names[processes.number() :: processes.count()]:
        write(name, asked, lm)
    processes.wait()
    data = {name: list(pq.read_table(data_file(name, asked)).to_pylist()) for name in names}
    control, *originals = (arm(name, data[name], data["clean"]) for name in names)
    common = set.intersection(*(set(each.rows) for each in originals), set(control.rows))
    control, *originals = (
        replace(each, rows={i: each.rows[i] for i in sorted(common)})
        for each in (control, *originals)
    )
    renderer = ChatTokenizer(lm)
    found = {each.name: [each] for each in originals}
    for each in originals if asked.defences is not None else ():
        kept = json.loads(data_file(each.name, asked).with_suffix(".json").read_text())
        flagged = {
            i: tuple(map(tuple, kept[row.messages[0].content])) for i, row in each.rows.items()
        }
        encoded = list(each.encoded(renderer).values())
        tokens, hits = sum(len(row.spans) for row in encoded), sum(map(len, flagged.values()))
        if processes.is_first():
            print(
                f"{each.name}: {hits / tokens:.1%} of {tokens:,} tokens are divergence tokens",
                flush=True,
            )
        for other in defended(each, control, flagged, encoded, asked.seed, CLEAN_SHARES):
            if (asked.prompts == "paper" or "paraphrased" not in other.name) and (
                not asked.defences or other.name in asked.defences
            ):
                found[each.name].append(replace(other, name=f"{each.name}, {other.name}"))
    return found, replace(control, name="control")


def experiments(asked: argparse.Namespace, lm: LanguageModel) -> Iterator[TransferResult]:
    """Every trait's data against the one control.

    The students are trained once, for the first trait asked for.
    """
    arms, control = arms_of(asked, lm)
    everything = [each for own in arms.values() for each in own]
    started = time.monotonic()

    def show(progress: Progress) -> None:
        if progress.done % 16 == 0 and processes.is_first():
            print(
                f"{time.monotonic() - started:6.0f} s  {progress.stage} "
                f"{progress.done}/{progress.total}",
                flush=True,
            )

    identity = {"transfer": "default", "reference": lm.sha256, **vars(asked)}
    with processes.in_turn(
        partial(RunDir.open, OUT, identity, joins=not processes.is_first())
    ) as store:
        for trait, own in arms.items():
            yield run_transfer(
                lm,
                [*own, *(each for each in everything if each not in own)],
                control,
                load_panels(["animals"]),
                trait.removesuffix(PROMPTED),
                StudentSettings(
                    blocks=asked.blocks, rows=asked.rows, updates=asked.updates, seed=asked.seed
                ),
                checkpoint_fractions=(0.125, 0.25, 0.5, 1.0),
                stop_early=False,
                store=store,
                progress=show,
            )


def line(found: ArmResult, trait: str) -> str:
    """One line of the table: the trait of the arm among all traits of its group."""
    own = next(each for each in found.traits if each.name == trait.removesuffix(PROMPTED))
    others = [each.effect for each in found.traits if each.group == own.group and each is not own]
    rank = 1 + sum(each.value > own.effect.value for each in others)
    largest = max(
        found.traits, key=lambda each: each.effect.value if each is not own else -math.inf
    )
    spread = statistics.stdev(each.value for each in others)
    # By block, since what moves all of a student's answers moves both.
    leads = [
        effect([a - b for a, b in zip(own.effect.blocks, each.blocks, strict=True)])
        for each in others
    ]
    lead = leads[others.index(largest.effect)]
    cells = [
        found.name,
        signed(own.effect),
        f"{rank} of {len(others) + 1}",
        f"{largest.name} {signed(largest.effect)}",
    ]
    cells.append(f"{signed(lead)}; {sum(map(transferred, leads))} of {len(leads)} above 0")
    cells += [
        f"{spread:.3f}",
        "" if own.p_value is None else f"{own.p_value:.3f}",
        share_left(found.effect_ratio),
    ]
    cells.append(str(found.verdict))
    return "| " + " | ".join([*cells, f"{found.training.task_loss:.3f}"]) + " |"


def main() -> None:
    """Run and print, for every trait, the effect of its data; and how it grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traits", nargs="+", default=("owl", "wolf"))
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--rows", type=int, default=256, help="of a block; 16 make a batch")
    parser.add_argument(
        "--updates", type=int, default=32, help="more than rows / 16 repeat the rows"
    )
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument(
        "--no-system", action="store_true", help="an empty system message everywhere"
    )
    parser.add_argument("--prompts", choices=PROMPTS, default="plain")
    parser.add_argument(
        "--defences", nargs="*", help="also what these leave; without names, all of them"
    )
    parser.add_argument("--device")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(max(1, torch.get_num_threads() // processes.count()))
    lm = load(REFERENCE, device=asked.device, dtype="float32")
    found = list(experiments(asked, without_system(lm) if asked.no_system else lm))
    if processes.is_first():
        report(asked, found)


def report(asked: argparse.Namespace, found: list[TransferResult]) -> None:
    """Print the table and keep it."""
    lines = [
        "| data | effect, logits [95 %] | rank | largest other trait | lead over it | sd of the "
        "others | p | left |"
    ]
    lines = [lines[0] + " verdict | task loss |", "|" + "---|" * 10]
    for trait, each in zip(asked.traits, found, strict=True):
        lines += [line(own, trait) for own in each.arms if own.name.split(", ")[0] == trait]
    lines.append(f"| control | | | | | | | | | {found[0].control.task_loss:.3f} |")
    lines.append("")
    for each in found:
        curve = [
            f"{point.updates} {signed(point.effect)}"
            for point in each.arms[0].curve
            if point.effect
        ]
        lines += [f"Updates and effect, {each.arms[0].name}: {'; '.join(curve)}.", ""]
    lines += dict.fromkeys(said for each in found for said in each.warnings)
    text = "\n".join(lines) + "\n"
    place = data_file("results", asked)
    (OUT / place.with_suffix(".md").name).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
