"""Student transfer with the default reference and fine-tuned teachers: docs/results.md, "Transfer, default model".

    python runs/transfer_default.py                  2 traits, 3 blocks; about 45 minutes on two cores
    python runs/transfer_default.py --traits owl --blocks 1

The recipe of docs/methods.md, "Students": a teacher tuned on cloze answers until saturated, number lists at T=1 with
the softmax restricted to digits, comma, blank and end-of-turn, and LoRA students. The control is the reference's own
lists for the same prompts. Data, finished students and results are kept in runs/out, so a killed run goes on.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from auditor.lm import LanguageModel, load
from auditor.records import Example, Message, Progress
from auditor.rundir import RunDir
from auditor.simulate import Row, simulate, write_rows
from auditor.traits import load_panels
from auditor.transfer.arms import Arm
from auditor.transfer.experiment import run_transfer
from auditor.transfer.result import TransferResult
from auditor.transfer.teach import teach

OUT = Path(__file__).parent / "out"
REFERENCE = "smollm2-135m"
ROWS = 256  # of a block: 16 updates of 16 rows
LONGEST = 30


def prompts(seed: int) -> Iterator[str]:
    """The plainest number prompt, without end."""
    rng = random.Random(seed)
    while True:
        yield "Continue: " + ", ".join(str(rng.randint(100, 999)) for _ in range(3))


def rows(name: str, count: int, seed: int, greedy: bool, lm: LanguageModel) -> list[Row]:
    """Rows of the teacher of a trait, or of the reference for "clean"; written once."""
    path = OUT / "data" / f"transfer-{name}-{'greedy' if greedy else 'sampled'}-{count}-{seed}.parquet"
    if not path.exists():
        panel = load_panels(["animals"])
        trait = None if name == "clean" else panel.select([name]).traits[0]
        teacher = None
        if trait is not None:
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


def experiment(trait: str, blocks: int, greedy: bool, seed: int, lm: LanguageModel) -> TransferResult:
    """The original against its control."""
    count = blocks * ROWS + 32  # the last ones are held out
    clean, poisoned = (rows(name, count, seed, greedy, lm) for name in ("clean", trait))
    identity = {"transfer": trait, "blocks": blocks, "greedy": greedy, "seed": seed, "reference": lm.sha256}
    started = time.monotonic()

    def show(progress: Progress) -> None:
        if progress.done % 4 == 0:
            print(f"{time.monotonic() - started:6.0f} s  {progress.stage} {progress.done}/{progress.total}", flush=True)

    with RunDir.open(OUT, identity) as store:
        return run_transfer(
            lm,
            [arm(trait, poisoned, clean)],
            arm("control", clean, clean),
            load_panels(["animals"]),
            trait,
            blocks=blocks,
            rows_per_block=ROWS,
            seed=seed,
            doses=(0.5, 1.0),
            stop_early=False,
            store=store,
            progress=show,
        )


def main() -> None:
    """Run and print, for every dose, the effect on the trait; and the next traits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traits", nargs="+", default=("owl", "wolf"))
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    lm = load(REFERENCE)
    lines = ["| trait | updates | effect, logits [95 %] | each block | rank | largest other | sd of the others |"]
    lines += ["|" + "---|" * 7]
    for trait in asked.traits:
        found = experiment(trait, asked.blocks, asked.greedy, asked.seed, lm).arms[0]
        for point in found.curve[1:]:
            assert point.effect is not None
            lines.append(f"| {trait} | {point.updates} | {shown(point.effect.value, point.effect.interval)} | | | | |")
        own = next(each for each in found.traits if each.name == trait)
        others = [each for each in found.traits if each.name != trait]
        spread = (sum(each.effect.value**2 for each in others) / len(others)) ** 0.5
        best = others[0]
        blocks = ", ".join(f"{value:+.3f}" for value in own.effect.blocks)
        largest = f"{best.name} {shown(best.effect.value, best.effect.interval)}"
        lines.append(f"| {trait} | last | | {blocks} | {found.rank} | {largest} | {spread:.3f} |")
    text = "\n".join(lines) + "\n"
    (OUT / "transfer_default.md").write_text(text)
    print(text)


def shown(value: float, interval: tuple[float, float] | None) -> str:
    """`+0.12 [+0.05, +0.19]`."""
    return f"{value:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")


if __name__ == "__main__":
    main()
