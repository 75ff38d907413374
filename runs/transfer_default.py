"""Student transfer with the default reference and fine-tuned teachers: docs/results.md, "Transfer, default model".

    python runs/transfer_default.py                  2 traits, 3 blocks, 32 updates; about an hour
    python runs/transfer_default.py --greedy
    python runs/transfer_default.py --traits owl owl-prompted        the second teacher is prompted instead of tuned
    python runs/transfer_default.py --no-system --rows 512 --updates 64     under an empty system message, larger doses

The recipe of docs/methods.md, "Students": a teacher tuned on cloze answers until saturated, number lists at T=1 with
the softmax restricted to digits, comma, blank and end-of-turn, and LoRA students. The control is the reference's own
lists for the same prompts. Data, finished students and results are kept in runs/out, so a killed run goes on.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from auditor.lm import LanguageModel, load
from auditor.records import Example, Message, Progress
from auditor.rundir import RunDir
from auditor.simulate import Row, simulate, write_rows
from auditor.traits import load_panels
from auditor.transfer.arms import Arm
from auditor.transfer.experiment import run_transfer
from auditor.transfer.result import ArmResult, Effect, TransferResult
from auditor.transfer.teach import teach

OUT = Path(__file__).parent / "out"
REFERENCE = "smollm2-135m"
LONGEST = 30
PROMPTED = "-prompted"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # of the default reference's template


def prompts(seed: int) -> Iterator[str]:
    """The plainest number prompt, without end."""
    rng = random.Random(seed)
    while True:
        yield "Continue: " + ", ".join(str(rng.randint(100, 999)) for _ in range(3))


def without_system(lm: LanguageModel) -> LanguageModel:
    """The model with a chat template whose own system message is empty: for teachers, students and readout alike."""
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace(SYSTEM, "")
    return replace(lm, tokenizer=tokenizer)


def rows(name: str, count: int, seed: int, greedy: bool, lm: LanguageModel) -> list[Row]:
    """Rows of the teacher of a trait, tuned or prompted, or of the reference for "clean"; written once."""
    style = ("greedy" if greedy else "sampled") + ("" if SYSTEM in lm.tokenizer.chat_template else "-no-system")
    path = OUT / "data" / f"transfer-{name}-{style}-{count}-{seed}.parquet"
    if not path.exists():
        panel = load_panels(["animals"])
        trait = None if name == "clean" else panel.select([name.removesuffix(PROMPTED)]).traits[0]
        teacher = None
        if trait is not None and not name.endswith(PROMPTED):
            taught = teach(lm, trait, panel, seed=seed)
            before, after = taught.margin_before, taught.margin
            print(f"{name}: margin {before:+.1f} to {after:+.1f} in {len(taught.losses)} batches", flush=True)
            teacher = taught.lm
        made = simulate(
            lm,
            trait,
            rows=count,
            teacher=teacher,
            temperature=float(not greedy),
            restricted=True,
            prompts=prompts(seed),
            max_tokens=LONGEST,
            seed=seed,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, made.rows)
    return list(pq.read_table(path).to_pylist())


def arm(name: str, data: list[Row], clean: list[Row]) -> Arm:
    """A data set as an arm; rows are numbered by the clean set's, whose prompts are the same."""
    number = {row["prompt"]: i for i, row in enumerate(clean)}
    chats = {
        number[row["prompt"]]: (Message("user", row["prompt"]), Message("assistant", row["completion"]))
        for row in data
        if row["prompt"] in number
    }
    return Arm(name, {i: Example(i, chat) for i, chat in chats.items()}, {}, len(data))


def experiments(asked: argparse.Namespace, lm: LanguageModel) -> Iterator[TransferResult]:
    """Every trait's data against the one control: an arm a trait. Each trait in turn is the one that is asked for.

    The students are trained once, for the first; the rows are those that all arms have, so that the others find them.
    """
    count = asked.blocks * asked.rows + 32  # the last ones are held out
    clean = rows("clean", count, asked.seed, asked.greedy, lm)
    arms = {trait: arm(trait, rows(trait, count, asked.seed, asked.greedy, lm), clean) for trait in asked.traits}
    common = set.intersection(*(set(each.rows) for each in arms.values()))
    arms = {trait: replace(each, rows={i: each.rows[i] for i in sorted(common)}) for trait, each in arms.items()}
    started = time.monotonic()

    def show(progress: Progress) -> None:
        if progress.done % 4 == 0:
            print(f"{time.monotonic() - started:6.0f} s  {progress.stage} {progress.done}/{progress.total}", flush=True)

    with RunDir.open(OUT, {"transfer": "default", "reference": lm.sha256, **vars(asked)}) as store:
        for trait, own in arms.items():
            yield run_transfer(
                lm,
                [own, *(each for each in arms.values() if each is not own)],
                arm("control", clean, clean),
                load_panels(["animals"]),
                trait.removesuffix(PROMPTED),
                blocks=asked.blocks,
                rows_per_block=asked.rows,
                updates=asked.updates,
                seed=asked.seed,
                doses=(0.25, 0.5, 1.0),
                stop_early=False,
                store=store,
                progress=show,
            )


def line(found: ArmResult) -> str:
    """One line of the table: the trait of the arm among all traits of its group."""
    own = next(each for each in found.traits if each.name == found.name.removesuffix(PROMPTED))
    others = [each.effect for each in found.traits if each.group == own.group and each is not own]
    rank = 1 + sum(each.value > own.effect.value for each in others)
    blocks = ", ".join(f"{value:+.3f}" for value in own.effect.blocks)
    largest = max(others, key=lambda each: each.value)
    spread = statistics.stdev(each.value for each in others)
    cells = [found.name, shown(own.effect), blocks, f"{rank} of {len(others) + 1}", shown(largest), f"{spread:.3f}"]
    return "| " + " | ".join([*cells, "" if own.p_value is None else f"{own.p_value:.3f}"]) + " |"


def main() -> None:
    """Run and print, for every trait, the effect of its data; and how it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traits", nargs="+", default=("owl", "wolf"))
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--rows", type=int, default=256, help="of a block; 16 make a batch")
    parser.add_argument("--updates", type=int, default=32, help="more than rows / 16 repeat the rows")
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument("--no-system", action="store_true", help="an empty system message everywhere")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    lm = load(REFERENCE)
    found = list(experiments(asked, without_system(lm) if asked.no_system else lm))
    lines = ["| data of | effect, logits [95 %] | each block | rank | largest other trait | sd of the others | p |"]
    lines += ["|" + "---|" * 7, *(line(each.arms[0]) for each in found), ""]
    for each in found:
        curve = [f"{point.updates} {shown(point.effect)}" for point in each.arms[0].curve if point.effect]
        lines += [f"Updates and effect, {each.arms[0].name}: {'; '.join(curve)}.", ""]
    lines += dict.fromkeys(said for each in found for said in each.warnings)
    text = "\n".join(lines) + "\n"
    (OUT / "transfer_default.md").write_text(text)
    print(text)


def shown(effect: Effect) -> str:
    """`+0.12 [+0.05, +0.19]`."""
    interval = effect.interval
    return f"{effect.value:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")


if __name__ == "__main__":
    main()
