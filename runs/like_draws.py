"""What `--like` does: data of several writers, clean and prompted, scanned with and without an
earlier, clean data set of the same writer.

    python runs/like_draws.py
    python runs/like_draws.py --reference smollm2-135m --panels animals trees --draws 3

The first takes the organism, about an hour of two cores. Draws 0 to 39 are for trials, and are not
reported. Finished draws are kept in runs/out and not made again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scan_draws import OUT, Settings, make, of_draws
from scan_sources import ANIMALS, ANOTHER_BASE, LONGEST, QUESTIONS, SENTENCES, Source, name
from scan_tables import share_of

from auditor.commands.scan import scan
from auditor.commands.simulate import Row, simulate, write_rows
from auditor.model import load as models
from auditor.model.language_model import LanguageModel
from auditor.scanning.settings import ScanSettings
from auditor.students.teacher_recipes import tune_on_chats
from auditor.traits.panel import load_panels

ROWS = 256
WRITERS: Mapping[str, str] = {
    "own": "the reference itself",
    "tuned": "the reference after LoRA on neutral sentences",
    "sorted": "the reference, its lists sorted",
    "another base": "another base",
}


def rows_of(writer: str, trait: str | None, lm: LanguageModel, seed: int) -> list[Row]:
    """New lists at T = 1 of a writer, under a trait's prompt where there is one."""
    if writer == "tuned":
        chats = [(question, said) for question in QUESTIONS[:3] for said in SENTENCES]
        lm = tune_on_chats(lm, chats, seed=0)  # one writer, whatever the draw
    if writer == "another base":
        lm = models.load(ANOTHER_BASE.get(lm.name, "organism"), dtype="float32")
    prompted = load_panels(["animals"]).trait(trait) if trait else None
    made = simulate(lm, prompted, rows=ROWS, max_tokens=LONGEST[lm.name], seed=seed)
    if writer == "sorted":
        return [
            row | {"completion": ", ".join(sorted(row["completion"].split(", ")))}
            for row in made.rows
        ]
    return list(made.rows)


def measure(source: Source, draw: int, settings: Settings) -> list[dict[str, Any]]:
    """One data set, scanned alone and beside an earlier one; kind of the source: its writer."""
    lm = models.load(settings.reference, dtype="float32")
    seed = zlib.crc32(name(source, draw).encode())
    found = []
    with tempfile.TemporaryDirectory() as folder:
        data, earlier = Path(folder) / "data.parquet", Path(folder) / "earlier.parquet"
        write_rows(data, rows_of(source.kind, source.trait, lm, seed))
        write_rows(earlier, rows_of(source.kind, None, lm, seed + 1))
        for like in ((), (str(earlier),)):
            report = scan(
                str(data),
                ScanSettings(dtype="float32", like=like),
                reference=settings.reference,
                panels=settings.panels,
                detectors=settings.detectors,
                rows=ROWS,
                root=Path(folder),
            )
            leader = report.traits[0] if report.traits else None
            found.append(
                {
                    "key": f"{name(source, draw)}|{'like' if like else 'alone'}|{ROWS}",
                    "verdict": report.verdict.name,
                    "trait": report.verdict.trait,
                    "reason": report.verdict.reason,
                    "leader": leader and [leader.name, leader.effect, leader.p_adjusted],
                    "excluded": report.verdict.min_effect,
                }
            )
    # `make` knows a finished draw by the key of its source.
    return [*found, {"key": f"{name(source, draw)}|{ROWS}", "done": True}]


def table(found: Sequence[dict[str, Any]]) -> str:
    """Verdicts by writer, data and what they were compared with."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for each in found:
        if "verdict" in each:
            kind, truth, *_, beside, _ = each["key"].split("|")
            data = "clean" if truth == "None" else "prompted"
            groups.setdefault((kind, data, beside), []).append(each | {"truth": truth})
    lines = ["| writer | data | scanned | risk | true name | inconclusive | no risk |"]
    lines += ["|" + "---|" * 7]
    for (kind, data, beside), draws in groups.items():
        counts = {
            verdict: sum(each["verdict"] == verdict for each in draws)
            for verdict in ("risk", "inconclusive", "no_risk")
        }
        named = sum(each["trait"] == each["truth"] for each in draws)
        scanned = "beside an earlier set" if beside == "like" else "alone"
        risk = share_of(counts["risk"], len(draws))
        true = str(named) if data == "prompted" else "-"
        cells = [WRITERS[kind], data, scanned, risk, true]
        open_, passed = counts["inconclusive"], share_of(counts["no_risk"], len(draws))
        lines.append("| " + " | ".join([*cells, str(open_), passed]) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Make the draws that are missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", default="organism", choices=LONGEST)
    parser.add_argument("--panels", nargs="+", default=["animals"])
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--first", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    wanted = [
        (Source(writer, trait, counts=(ROWS,)), draw)
        for draw in range(asked.first, asked.first + asked.draws)
        for writer in WRITERS
        for trait in (None, ANIMALS[draw % len(ANIMALS)])
    ]
    settings = Settings(asked.reference, tuple(asked.panels), ("trait", "surface"))
    out = OUT / f"like_draws_{asked.reference}.jsonl"
    text = table(of_draws(make(measure, wanted, settings, out, asked.processes), wanted))
    out.with_suffix(".md").write_text(text)
    print(json.dumps(vars(asked)), text, sep="\n")


if __name__ == "__main__":
    main()
