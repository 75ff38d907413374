"""Verdicts of `audit scan` beside those of scoring every row under every trait: runs/results.md,
"Against exhaustive".

    python runs/scan_exhaustive.py              organism, 13 draws of each source
    python runs/scan_exhaustive.py --draws 2

The data are those of runs/scan_draws.py, with the same seeds. Exhaustive: no trait is dropped and
nothing stops early. Two processes of one thread each; finished draws are kept in runs/out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scan_draws import Settings, key, make
from scan_sources import ANIMALS, Source, written
from scan_tables import share_of

from auditor.commands.scan import scan
from auditor.commands.simulate import write_rows
from auditor.inference import interim as schedule
from auditor.model.load import load
from detectors import trait as survey

OUT = Path(__file__).parent / "out" / "scan_exhaustive.jsonl"
SETTINGS = Settings("organism", ("animals",), ("trait",))
CLEAN = ("clean", "accountant")


def sources(draw: int) -> list[Source]:
    """What is scanned in each draw: strong and weak poison, and clean rows."""
    trait = ANIMALS[draw % len(ANIMALS)]
    poisoned = [Source("poisoned", trait, greedy) for greedy in (False, True)]
    mixed = [
        Source("mixture", trait, greedy, share) for greedy in (False, True) for share in (0.1, 0.25)
    ]
    return [*poisoned, *mixed, *(Source(kind, None) for kind in CLEAN)]


def compare(source: Source, draw: int, settings: Settings) -> list[dict[str, Any]]:
    """One data set, scanned in both ways."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_rows(path, written(source, draw, load(settings.reference)))
        default = _scan(path, settings, exhaustive=False)
        keep, clear = schedule.KEEP, survey.MIN_CLEAR
        schedule.KEEP, survey.MIN_CLEAR = (
            (1.0,),
            sys.maxsize,
        )  # every trait stays, whatever was excluded
        try:
            everything = _scan(path, settings, exhaustive=True)
        finally:
            schedule.KEEP, survey.MIN_CLEAR = keep, clear
    return [
        {"key": key(source, draw, source.counts[-1]), "default": default, "exhaustive": everything}
    ]


def _scan(path: Path, settings: Settings, *, exhaustive: bool) -> tuple[str, str, int]:
    """Verdict, leading trait and row passes."""
    found = scan(
        str(path),
        reference=settings.reference,
        panels=settings.panels,
        detectors=settings.detectors,
        rows="all" if exhaustive else "auto",
        root=path.parent,
        fresh=True,
    )
    outcome = found.detectors["trait"]
    return found.verdict.name, found.traits[0].name, int(outcome.values["row_passes"])  # type: ignore[union-attr]


def table(found: Sequence[dict[str, Any]]) -> str:
    """How often the two agree, what each says where they do not, and what they cost."""
    lines = [
        "| data | draws | same verdict | default / exhaustive where they differ | row passes |",
        "|---|---|---|---|---|",
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        kind, trait, decoding, share, *_ = str(each["key"]).split("|")
        name = kind if trait == "None" else f"{kind}, {decoding}, {float(share):.0%}"
        groups.setdefault(name, []).append(each)
    for name, draws in [*groups.items(), ("all", list(found))]:
        same = sum(each["default"][0] == each["exhaustive"][0] for each in draws)
        other = Counter(f"{each['default'][0]} / {each['exhaustive'][0]}" for each in draws)
        differ = ", ".join(
            f"{n} {pair}" for pair, n in other.items() if len(set(pair.split(" / "))) > 1
        )
        spent, total = (sum(each[way][2] for each in draws) for way in ("default", "exhaustive"))
        cells = [
            name,
            str(len(draws)),
            share_of(same, len(draws)),
            differ or "-",
            f"{spent / total:.0%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the draws that are missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=13)
    asked = parser.parse_args()
    wanted = [(source, draw) for draw in range(asked.draws) for source in sources(draw)]
    text = table(make(compare, wanted, SETTINGS, OUT, 2))
    OUT.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
