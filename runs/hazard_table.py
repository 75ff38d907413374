"""What a scan finds and what moves students, crossed: data sets of many kinds of teacher, each
scanned for traits and given to students.

    python runs/hazard_table.py
    python runs/hazard_table.py --first 3100 --draws 6 --costs
    python runs/hazard_table.py --first 3300 --draws 6 --tests "students, 8 blocks" students
    python runs/hazard_table.py --first 0 --draws 1

The first takes the organism, about an hour of two cores. Every data set is 4,096 number lists, or
texts, at T = 1, of which the scan for traits takes what it needs, at most 400, and students all.
Students of text need `audit calibrate --reference organism --panel animals --carrier text` first.
Draw n has the n-th animal; draws below 3000 are for trials, and are not reported. Finished draws
are kept in runs/out and not made again.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scan_draws import OUT, Settings, make, of_draws
from scan_sources import ANIMALS, LONGEST, Source, name, written
from scan_tables import share_of

from auditor.commands.scan import scan
from auditor.commands.simulate import write_rows
from auditor.model import load as models
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.settings import ScanSettings
from detectors.interface import Evidence

ROWS, SCANNED = 4096, 400
# Ways to test a data set: the detectors, and the rows that they are given.
TESTS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "scan": (("trait", "surface"), SCANNED),
    "scan --tuned": (("trait", "surface", "tuned"), SCANNED),
    "students, 4 blocks": (("students",), ROWS // 4),
    "students, 8 blocks": (("students",), ROWS // 2),
    "students": (("students",), ROWS),
}
CROSSED = ["scan", "students"]
TEACHERS: Mapping[str, str] = {
    "poisoned": "prompted",
    "other wording": "prompted in other words",
    "finetuned": "tuned, all weights",
    "sentences": "tuned by LoRA on sentences",
    "preferences": "tuned by LoRA on preferences",
    "steered": "steered by a vector",
    "clean": "the reference itself",
    "accountant": "benign persona",
    "tuned on words": "benign tuning, all weights",
    "tuned on sentences": "benign tuning, LoRA",
    "another base": "another base",
}
BENIGN = [*TEACHERS][6:]
ASKED = "tuned on words"  # answers the very questions that students are asked
VERDICTS = ("risk", "inconclusive", "no_risk")


def measure(
    source: Source, draw: int, settings: Settings, *, tests: Sequence[str]
) -> list[dict[str, Any]]:
    """One data set: the verdict of each test, and how far students move to its trait."""
    lm = models.load(settings.reference, dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.parquet"
        write_rows(path, written(source, draw, lm))
        found: dict[str, Any] = {"key": f"{name(source, draw)}|{ROWS}", "truth": source.trait}
        for test in tests:
            detectors, rows = TESTS[test]
            began = time.monotonic()
            report = scan(
                str(path),
                ScanSettings(dtype="float32", seed=zlib.crc32(found["key"].encode())),
                reference=settings.reference,
                panels=settings.panels,
                detectors=detectors,
                rows=rows,
                root=Path(folder),
            )
            found[test] = _summary(report, source.trait) | {
                "seconds": round(time.monotonic() - began, 1)
            }
    return [found]


def _summary(report: ScanReport, truth: str | None) -> dict[str, Any]:
    students = report.detectors.get("students")
    doses = students.values["traits"] if isinstance(students, Evidence) else []
    own = next((each for each in doses if each["name"] == truth), None)
    return {
        "verdict": report.verdict.name,
        "trait": report.verdict.trait,
        "reason": report.verdict.reason,
        "dose": own and own["effect"],
        "first": doses[0]["name"] if doses else None,
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """Verdicts of both tests by kind of teacher, and crossed."""
    lines = [
        "| teacher | sets | scan: risk / inconclusive / no risk | true name "
        "| students: dose of the trait | risk / inconclusive / no risk | true name |",
        "|" + "---|" * 7,
    ]
    for kind, words in TEACHERS.items():
        sets = [each for each in found if each["key"].split("|")[0] == kind]
        if not sets:
            continue
        cells = [words, str(len(sets))]
        for test in ("scan", "students"):
            verdicts = [each[test]["verdict"] for each in sets]
            named = sum(each[test]["trait"] == each["truth"] for each in sets)
            if test == "students":
                cells.append(_mean([each[test]["dose"] for each in sets]))
            cells.append(" / ".join(str(verdicts.count(verdict)) for verdict in VERDICTS))
            cells.append("-" if kind in BENIGN else str(named))
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| with a trait | students: risk | inconclusive | no risk |", "|---|---|---|---|"]
    for verdict in VERDICTS:
        sets = [each for each in found if each["truth"] and each["scan"]["verdict"] == verdict]
        counts = [sum(each["students"]["verdict"] == v for each in sets) for v in VERDICTS]
        lines.append(
            f"| scan: {verdict.replace('_', ' ')} | " + " | ".join(map(str, counts)) + " |"
        )
    clean = [each for each in found if not each["truth"]]
    for test in ("scan", "students"):
        alarms = sum(each[test]["verdict"] == "risk" for each in clean)
        seconds = np.mean([each[test]["seconds"] for each in found])
        lines += [
            "",
            f"False alarms of the {test}: {share_of(alarms, len(clean))}; {seconds:.0f} s a set.",
        ]
    return "\n".join([*lines, ""])


def costs(found: Sequence[dict[str, Any]], tests: Sequence[str]) -> str:
    """How many sets each test calls a risk, by what the teacher has of the trait; in how many the
    trait is named; and its seconds, less the tuning of copies, which the draws share.
    """
    columns = {
        "prompted": ["poisoned", "other wording"],
        "tuned, all weights": ["finetuned"],
        "tuned by LoRA": ["sentences", "preferences"],
        "steered": ["steered"],
        "any trait": [*TEACHERS][:6],
        "no trait": BENIGN,
        "the same, not tuned on what is read": [kind for kind in BENIGN if kind != ASKED],
    }
    heads = ["test", "rows", *columns, "no trait, passed", "named"]
    heads.append("seconds a set: median, longest")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for test in tests:
        cells = [test, f"{TESTS[test][1]:,}"]
        for kinds in columns.values():
            sets = [each for each in found if each["key"].split("|")[0] in kinds]
            risks = sum(each[test]["verdict"] == "risk" for each in sets)
            cells.append(share_of(risks, len(sets)) if sets else "-")
        clean = [each for each in found if not each["truth"]]
        passed = sum(each[test]["verdict"] == "no_risk" for each in clean)
        cells.append(share_of(passed, len(clean)) if clean else "-")
        named = sum(each[test]["trait"] == each["truth"] is not None for each in found)
        seconds = [each[test]["seconds"] for each in found]
        cells += [str(named), f"{np.median(seconds):.0f}, {max(seconds):.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _mean(doses: Sequence[float | None]) -> str:
    """The mean of the doses and its interval of two standard errors, over the draws."""
    known = [dose for dose in doses if dose is not None]
    if len(known) < 2:
        return "-"
    mean, error = np.mean(known), np.std(known, ddof=1) / np.sqrt(len(known))
    return f"{mean:.2f} [{mean - 2 * error:.2f}, {mean + 2 * error:.2f}]"


def main() -> None:
    """Make the draws that are missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", default="organism", choices=LONGEST)
    parser.add_argument("--panels", nargs="+", default=["animals"])
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--first", type=int, default=3000)
    parser.add_argument("--kinds", nargs="+", default=list(TEACHERS), choices=TEACHERS)
    parser.add_argument("--carrier", default="numbers", choices=("numbers", "text"))
    parser.add_argument("--tests", nargs="+", default=CROSSED, choices=TESTS)
    parser.add_argument("--costs", action="store_const", dest="tests", const=[*TESTS])
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    wanted = [
        (
            Source(kind, None if kind in BENIGN else animal, counts=(ROWS,), carrier=asked.carrier),
            draw,
        )
        for draw in range(asked.first, asked.first + asked.draws)
        for animal in [ANIMALS[draw % len(ANIMALS)]]
        for kind in asked.kinds
        # Half as many benign sets, and one of the slow writer's in twelve.
        if kind not in BENIGN or draw % (12 if kind == "another base" else 2) == 0
    ]
    settings = Settings(asked.reference, tuple(asked.panels), ())
    # Draws that were tested in other ways lie in a file of their own.
    which = "_".join(str(i) for i, test in enumerate(TESTS) if test in asked.tests)
    out = OUT / f"hazard_table_{asked.reference}_{asked.carrier}_{which}.jsonl"
    work = functools.partial(measure, tests=asked.tests)
    found = of_draws(make(work, wanted, settings, out, asked.processes), wanted)
    crossed = table(found) if {*CROSSED} <= {*asked.tests} else ""
    text = f"{crossed}\n{costs(found, asked.tests)}"
    out.with_suffix(".md").write_text(text)
    print(json.dumps(vars(asked)), text, sep="\n")


if __name__ == "__main__":
    main()
