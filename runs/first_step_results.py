"""What the detector `first_step` says of tuned teachers' rows and of clean ones: docs/results.md, "Tuned teachers".

    python runs/first_step_results.py                              about 10 minutes of one core
    python runs/first_step_results.py --blocks 50 owl-finetuned    on more rows

The default reference; number lists of runs/scan_results.py (owl-finetuned, clean) and the restricted ones of
runs/transfer_default.py (transfer-TRAIT), written first where they are missing.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import pyarrow.parquet as pq
import scan_results
import transfer_default

from auditor.blocks import fit_null, scorer
from auditor.encode import Encoded, Renderer
from auditor.lm import LanguageModel, load
from auditor.records import Evidence, Example, Message
from auditor.traits import load_panels
from detectors import first_step as detector

SOURCES = ("owl-finetuned", "clean", "transfer-owl", "transfer-wolf", "transfer-clean")
OUT = Path(__file__).parent / "out" / "first_step.md"


def rows(name: str, lm: LanguageModel, renderer: Renderer) -> list[Encoded]:
    """The rows of a source in random order."""
    if name.startswith("transfer-"):
        count = 3 * transfer_default.ROWS + 32
        found = transfer_default.rows(name.removeprefix("transfer-"), count, 0, False, lm)
    else:
        found = pq.read_table(scan_results.data_set(name)).to_pylist()
    random.Random(0).shuffle(found)
    chats = [(Message("user", row["prompt"]), Message("assistant", row["completion"])) for row in found]
    encoded = [renderer.encode(Example(i, chat)) for i, chat in enumerate(chats)]
    return [row for row in encoded if isinstance(row, Encoded)]


def line(name: str, lm: LanguageModel) -> str:
    """One line of the table."""
    started = time.monotonic()
    renderer = Renderer(lm)
    encoded = rows(name, lm, renderer)
    null = fit_null(encoded, scorer(lm, renderer))
    found = detector.first_step(lm, encoded, load_panels(["default"]), null.sharpness, null.alphabet, seed=0)
    if not isinstance(found, Evidence):
        return f"| {name} | {found.reason} | | | |"
    answers = found.values["answers"]
    best = [f"{each['name']} {each['z']:+.1f}" for each in answers[:3]]
    cells = [name, str(found.values["blocks"]), ", ".join(best), f"{answers[0]['p_value']:.3f}"]
    return "| " + " | ".join([*cells, f"{answers[0]['p_adjusted']:.2f}", f"{time.monotonic() - started:.0f} s"]) + " |"


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=SOURCES)
    parser.add_argument("--blocks", type=int, default=detector.MAX_BLOCKS, help="of 8 rows, at most")
    asked = parser.parse_args()
    detector.MAX_BLOCKS = asked.blocks
    lm = load(scan_results.REFERENCE)
    lines = ["| data | blocks | answers that move most, z | p of the first | corrected | time |", "|" + "---|" * 6]
    print("\n".join(lines))
    for name in asked.names:
        lines.append(line(name, lm))
        print(lines[-1], flush=True)
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
