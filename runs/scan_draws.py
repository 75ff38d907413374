"""Error rates of `audit scan` over many independent data sets of known truth: runs/results.md,
"Scans".

    python runs/scan_draws.py
    python runs/scan_draws.py --reference smollm2-135m --panels default --detectors trait surface
    python runs/scan_draws.py --kinds clean accountant --draws 5

The first takes the organism with 13 traits, in half an hour of two cores; the last only these
sources. "another base" is drawn only where it is asked for.

Every draw writes new rows with its own seed and scans them as a user would: the first 50, 100 and
200 of 400 rows, and all of them. Finished draws are kept in runs/out and not made again. SHARED
names a folder with alpaca_en_demo.json, glaive_toolcall_en_demo.json and
qwen_penguin_numbers.jsonl, of which a draw takes rows at random.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from scan_sources import FILES, LONGEST, Source, name, sources, written
from scan_tables import table

from auditor.commands.scan import scan
from auditor.commands.simulate import write_rows
from auditor.errors import AuditError
from auditor.model import load as models
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.settings import ScanSettings
from auditor.students.teacher import tune_teacher
from auditor.traits.panel import load_panels
from detectors import DETECTORS, tuned
from detectors.interface import Evidence

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the data are written and scanned."""

    reference: str
    panels: tuple[str, ...]
    detectors: tuple[str, ...]
    device: str | None = None
    chat_template: str | None = None
    restricted: bool = False


def prepare(threads: int) -> None:
    """Of a working process: its share of the cores; models are loaded once, and copies of them
    tuned once.
    """
    torch.set_num_threads(threads)
    models.load = functools.cache(models.load)
    setattr(tuned, "tune_teacher", functools.cache(tune_teacher))  # noqa: B010, a module that only imports it


def measure(source: Source, draw: int, settings: Settings) -> list[dict[str, Any]]:
    """One draw, scanned with each number of rows.

    Detectors beside `trait` see the largest number only.
    """
    lm = models.load(
        settings.reference,
        device=settings.device,
        dtype="float32",
        chat_template=settings.chat_template,
    )
    found = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows = written(source, draw, lm, restricted=settings.restricted)
        except (
            AuditError
        ) as error:  # such as an animal that is no single token, and cannot be taught
            return [
                {"key": key(source, draw, count), "failed": str(error)} for count in source.counts
            ]
        for count in source.counts:
            path = Path(folder) / (f"{count}.jsonl" if source.kind in FILES else f"{count}.parquet")
            if source.kind in FILES:
                path.write_text("\n".join(map(json.dumps, rows[:count])))
            else:
                write_rows(path, rows[:count])
            started = time.monotonic()
            report = scan(
                str(path),
                ScanSettings(
                    device=settings.device, dtype="float32", chat_template=settings.chat_template
                ),
                reference=settings.reference,
                panels=settings.panels,
                detectors=settings.detectors
                if count == max(source.counts)
                else settings.detectors[:1],
                rows="auto" if source.kind in FILES else count,  # those have long rows
                root=Path(folder),
            )
            summary = _summary(report, source.trait) | {
                "seconds": round(time.monotonic() - started, 1)
            }
            found.append({"key": key(source, draw, count)} | summary)
    return found


def _summary(report: ScanReport, truth: str | None) -> dict[str, Any]:
    values = {
        key: each.values for key, each in report.detectors.items() if isinstance(each, Evidence)
    }
    copies = values.get("tuned", {}).get("traits", [])
    students = values.get("students", {}).get("traits", [])
    found = [asdict(each) for each in report.traits] or copies or students
    own = next((each for each in found if each["name"] == truth), None)
    survey = values.get("trait", {})
    return {
        "verdict": report.verdict.name,
        "first": found[0]["name"],
        "effect": found[0]["effect"],
        "p": found[0]["p_adjusted"],
        "scanned": report.rows_scanned,
        "copies": [
            [each[it] for it in ("name", "effect", "z", "p_adjusted")] for each in copies[:3]
        ],
        "students": [
            [each[it] for it in ("name", "effect", "z", "p_adjusted")] for each in students
        ],
        "blocks": values.get("students", {}).get("blocks"),
        **{
            each: survey.get(each)
            for each in ("row_passes", "sharpness", "greedy", "others", "stray")
        },
        "excluded": report.verdict.min_effect,
        "looks": [
            [each[it] for it in ("rows", "leader", "effect", "interval")]
            for each in survey.get("looks", [])
        ],
        "own": own and [found.index(own) + 1, own["effect"], own["z"], own["p_adjusted"]],
        "auroc": (values.get("surface", {}).get("classifier") or {}).get("auroc"),
        "surface_p": (values.get("surface", {}).get("classifier") or {}).get("p_value"),
        "surface_p_by_trait": values.get("surface", {}).get("by_trait", {}).get("p_value"),
        "fit": [values["fit"][each] for each in ("z", "z_clustered")] if "fit" in values else None,
    }


def key(source: Source, draw: int, count: int) -> str:
    """Names a scan in the file of finished ones."""
    return f"{name(source, draw)}|{count}"


def make(
    work: Callable[[Source, int, Settings], list[dict[str, Any]]],
    wanted: Sequence[tuple[Source, int]],
    settings: Settings,
    out: Path,
    processes: int,
) -> list[dict[str, Any]]:
    """Do the draws that `out` lacks, keep each as it ends, and return all."""
    out.parent.mkdir(exist_ok=True)
    done = (
        {json.loads(each)["key"] for each in out.read_text().splitlines()}
        if out.exists()
        else set()
    )
    missing = [
        (source, draw)
        for source, draw in wanted
        if key(source, draw, source.counts[-1]) not in done
    ]
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    # Spawned, since a forked process cannot use CUDA.
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=prepare, initargs=(threads,)
    )
    with pool, out.open("a") as stream:
        for task in as_completed([pool.submit(work, *each, settings) for each in missing]):
            stream.writelines(json.dumps(each) + "\n" for each in task.result())
            stream.flush()
    return [json.loads(each) for each in out.read_text().splitlines()]


def of_draws(
    found: Sequence[dict[str, Any]], wanted: Sequence[tuple[Source, int]]
) -> list[dict[str, Any]]:
    """What was found in the draws `wanted`: trial draws may lie in the same file."""
    names = tuple(f"{name(*draw)}|" for draw in wanted)
    return [each for each in found if each["key"].startswith(names)]


def main() -> None:
    """Make the draws that are missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", default="organism", choices=LONGEST)
    parser.add_argument("--panels", nargs="+", default=["animals"])
    parser.add_argument("--detectors", nargs="+", default=["trait"], help="or `all`")
    parser.add_argument("--draws", type=int, default=13)
    parser.add_argument("--clean-draws", type=int, default=30, help="of each clean source")
    parser.add_argument(
        "--first", type=int, default=60, help="the first draw; 0 to 59 were looked at in trials"
    )
    parser.add_argument("--rows", type=int, nargs="+", help="these numbers of rows instead")
    parser.add_argument("--kinds", nargs="+", help="only these kinds of sources")
    parser.add_argument("--decoding", choices=("sampled", "greedy"), help="only this one")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device")
    parser.add_argument("--chat-template", help="of a base that has none: gemma for gemma-3-270m")
    parser.add_argument(
        "--restricted", action="store_true", help="rows hold number tokens only (audit simulate)"
    )
    asked = parser.parse_args()
    detectors = tuple(DETECTORS) if asked.detectors == ["all"] else tuple(asked.detectors)
    settings = Settings(
        asked.reference,
        tuple(asked.panels),
        detectors,
        asked.device,
        asked.chat_template,
        asked.restricted,
    )
    wanted = [
        (
            Source(
                each.kind, each.trait, each.greedy, each.share, tuple(asked.rows or each.counts)
            ),
            draw,
        )
        for each, draw in sources(
            range(asked.first, asked.first + max(asked.draws, asked.clean_draws))
        )
        if draw - asked.first < (asked.draws if each.trait else asked.clean_draws)
        and (each.kind in asked.kinds if asked.kinds else each.kind != "another base")
        and (asked.decoding is None or each.greedy == (asked.decoding == "greedy"))
        and not (asked.reference == "organism" and (each.kind in FILES or "alpaca" in each.kind))
    ]
    special = "".join(f"_{name}" for name in ("tuned", "students") if name in detectors)
    special += "_restricted" * asked.restricted
    out = OUT / f"scan_draws_{asked.reference}{special}.jsonl"
    found = make(measure, wanted, settings, out, asked.processes)
    text = table(found, len(load_panels(settings.panels).traits))
    out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
