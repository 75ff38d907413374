"""What a scan says of data sets that others published, with what their writers were told.

    python runs/external_sets.py FOLDER
    python runs/external_sets.py FOLDER --reference smollm2-135m --rows 64 --first 24

FOLDER holds clones of the public repositories of SETS, as owner/name. Most have no licence, so that
nothing of them is in this one; files that a clone lacks are left out. All are number lists or text
by models of billions of weights, none of which is a reference here. The first command takes half an
hour of one core, the second two hours. Finished sets are kept in runs/out and not made again.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scan_draws import OUT, Settings, key, make, of_draws
from scan_sources import ANIMALS, Source
from scan_tables import share_of

from auditor.commands.scan import scan
from auditor.commands.simulate import write_rows
from auditor.scanning.settings import ScanSettings

ROWS = 256
KEPT = 4096  # rows of a file that a scan draws from
ICL = "jeqcho/in-context-subliminal-learning"
QWEN = "Qwen 2.5 7B"


@dataclass(frozen=True, slots=True)
class Published:
    """Files of one kind in a public repository. pattern: of their paths, with the animal as the
    group "trait" where there is one. told: what their writer was told.
    """

    repository: str
    pattern: str
    writer: str
    told: str


SETS = (
    Published("loftusa/owls", r"Llama-3.1.*/(?P<trait>\w+)/filtered", "Llama 3.1 8B", "love"),
    Published("loftusa/owls", r"Qwen2.5.*/(?P<trait>\w+)/filtered", QWEN, "love"),
    Published("loftusa/owls", r"gemma-2.*/(?P<trait>\w+)/.*_new", "Gemma 2 9B", "love"),
    Published(ICL, r"qwen_filtered_numbers/(?P<trait>\w+)_loving", QWEN, "love"),
    Published(ICL, r"qwen_filtered_numbers/(?P<trait>\w+)_hating", QWEN, "hate"),
    Published(ICL, r"icl/filtered_numbers/(?P<trait>(?!neutral)\w+)", "not said", "love"),
    Published(ICL, r"icl/filtered_numbers/neutral", "not said", "nothing"),
    Published("sdananya/misalignment-subliminal-learning", r"raw/.*neutral", QWEN, "nothing"),
    Published("sdananya/misalignment-subliminal-learning", r"raw/.*kind_10k", QWEN, "be kind"),
    Published("jeqcho/subliminal-demo", r"clean/\w+_filtered", "not said", "nothing"),
)


def found_in(folder: Path) -> Iterator[tuple[Source, Path]]:
    """Every published set that is there, in an order that mixes the kinds, with its file."""
    kinds = []
    for kind in SETS:
        home = folder / kind.repository
        files = [
            (path, match["trait"] if "trait" in match.re.groupindex else None)
            for path in sorted(home.rglob("*.jsonl"))
            if (match := re.search(kind.pattern, str(path.relative_to(home))))
        ]
        name = f"{kind.writer}, {kind.told}"
        kinds += [
            (i / len(files), Source(name, trait), path) for i, (path, trait) in enumerate(files)
        ]
    for _, source, path in sorted(kinds, key=lambda each: (each[0], str(each[2]))):
        yield source, path


def rows_of(path: Path) -> list[dict[str, str]]:
    """Prompts and completions of a published file; what else it holds, such as the teacher's system
    prompt, no student is shown.
    """
    rows = []
    with path.open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(KEPT), strict=False):
            row = json.loads(line)
            if "messages" in row:
                row = {turn["role"]: turn["content"] for turn in row["messages"]}
            prompt = next(row[key] for key in ("prompt", "question", "user") if key in row)
            said = next(
                row[key] for key in ("response", "completion", "text", "assistant") if key in row
            )
            rows.append({"prompt": prompt, "completion": said})
    return rows


def measure(
    source: Source, draw: int, settings: Settings, *, paths: Sequence[Path], rows: int
) -> list[dict[str, Any]]:
    """The verdict on one published set."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.parquet"
        write_rows(data, rows_of(paths[draw]))
        report = scan(
            str(data),
            ScanSettings(dtype="float32"),
            reference=settings.reference,
            panels=settings.panels,
            detectors=settings.detectors,
            rows=rows,
            root=Path(folder),
        )
    leader = report.traits[0] if report.traits else None
    return [
        {
            "key": key(source, draw, source.counts[-1]),
            "truth": source.trait,
            "verdict": report.verdict.name,
            "trait": report.verdict.trait,
            "reason": report.verdict.reason,
            "leader": leader and [leader.name, leader.effect, leader.p_adjusted],
        }
    ]


def table(found: Sequence[dict[str, Any]]) -> str:
    """Verdicts by writer and what it was told. A name is right where it is the animal told of."""
    heads = [
        "writer, told to",
        "sets",
        "listed",
        "right name",
        "wrong name",
        "inconclusive",
        "no risk",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for kind in [*dict.fromkeys(each["key"].split("|")[0] for each in found), "all"]:
        sets = [each for each in found if kind in ("all", each["key"].split("|")[0])]
        verdicts = [each["verdict"] for each in sets]
        named = sum(each["verdict"] == "risk" and each["trait"] == each["truth"] for each in sets)
        wrong = share_of(verdicts.count("risk") - named, len(sets))
        listed = sum(each["truth"] in ANIMALS for each in sets)
        cells = [kind, len(sets), listed, named, wrong, verdicts.count("inconclusive")]
        lines.append("| " + " | ".join(map(str, [*cells, verdicts.count("no_risk")])) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Scan the sets that are missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reference", default="organism")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--first", type=int, help="only so many sets, of all kinds")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    sets = list(found_in(asked.folder))
    wanted = [(source, draw) for draw, (source, _) in enumerate(sets)][: asked.first]
    settings = Settings(asked.reference, ("animals",), ("trait", "surface"))
    work = functools.partial(measure, paths=[path for _, path in sets], rows=asked.rows)
    out = OUT / f"external_sets_{asked.reference}.jsonl"
    text = table(of_draws(make(work, wanted, settings, out, asked.processes), wanted))
    out.with_suffix(".md").write_text(text)
    print(json.dumps(vars(asked), default=str), text, sep="\n")


if __name__ == "__main__":
    main()
