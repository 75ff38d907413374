"""What a scan says of data sets that others published, with what their writers were told.

    python runs/external_sets.py FOLDER
    python runs/external_sets.py FOLDER --beside
    python runs/external_sets.py FOLDER --reference smollm2-135m --rows 64 --first 24

FOLDER holds clones of the public repositories of SETS, as owner/name. Most have no licence, so that
nothing of them is in this one; files that a clone lacks are left out. All are number lists or text
by models of billions of weights, none of which is a reference here. With --beside every set is
scanned beside the others of its kind (`audit scan --like`). The first two commands take some ten
minutes of one core each; the default reference takes several for a set. Finished sets are kept in
runs/out and not made again.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scan_draws import OUT, Settings, key, make, of_draws
from scan_sources import ANIMALS, Source
from scan_tables import share_of

from auditor.commands.scan import scan
from auditor.commands.simulate import write_rows
from auditor.scanning.settings import ScanSettings

ALPHA = ScanSettings().alpha
ROWS = 256
KEPT = 4096  # rows of a file that a scan draws from
LEAST = 5  # sets of a kind, where each is scanned beside the others
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


def found_in(folder: Path, rows: int) -> list[tuple[Source, Path]]:
    """Every published set that is there, in an order that mixes the kinds, with its file.

    rows: that are scanned of each.
    """
    found = []
    for kind in SETS:
        home = folder / kind.repository
        files = [
            (path, match["trait"] if "trait" in match.re.groupindex else None)
            for path in sorted(home.rglob("*.jsonl"))
            if (match := re.search(kind.pattern, str(path.relative_to(home))))
        ]
        name = f"{kind.repository.split('/')[0]}: {kind.writer}, {kind.told}"
        found += [
            (i / len(files), str(path), Source(name, trait, counts=(rows,)), path)
            for i, (path, trait) in enumerate(files)
        ]
    return [(source, path) for *_, source, path in sorted(found, key=lambda each: each[:2])]


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
    source: Source,
    draw: int,
    settings: Settings,
    *,
    sets: Sequence[tuple[Source, Path]],
    beside: bool,
) -> list[dict[str, Any]]:
    """The verdict on the set of number `draw`."""
    others = [i for i, (each, _) in enumerate(sets) if each.kind == source.kind and i != draw]
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for i in [draw, *(others if beside else [])]:
            files[i] = Path(folder) / f"{i}.parquet"
            write_rows(files[i], rows_of(sets[i][1]))
        like = tuple(str(files[i]) for i in files if i != draw)
        report = scan(
            str(files[draw]),
            ScanSettings(dtype="float32", like=like),
            reference=settings.reference,
            panels=settings.panels,
            detectors=settings.detectors,
            rows=source.counts[-1],
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
            "leader": leader.name if leader else None,
            "p": leader.p_adjusted if leader else 1.0,
        }
    ]


def table(found: Sequence[dict[str, Any]]) -> str:
    """Verdicts by writer and what it was told. A name is right where it is the animal told of. Held
    back: a wrong one leads with a p-value that would be a finding in text of the reference.
    """
    heads = [
        "writer, told to",
        "sets",
        "listed",
        "right name",
        "wrong name",
        "held back",
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
        held = sum(
            each["verdict"] != "risk" and each["leader"] != each["truth"] and each["p"] <= ALPHA
            for each in sets
        )
        cells = [kind, len(sets), listed, named, wrong, held]
        cells += [verdicts.count(verdict) for verdict in ("inconclusive", "no_risk")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
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
    parser.add_argument("--beside", action="store_true", help="each beside the others of its kind")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    sets = found_in(asked.folder, asked.rows)
    kinds = Counter(source.kind for source, _ in sets)
    wanted = [
        (source, draw)
        for draw, (source, _) in enumerate(sets)
        if kinds[source.kind] >= LEAST or not asked.beside
    ][: asked.first]
    settings = Settings(asked.reference, ("animals",), ("trait", "surface"))
    work = functools.partial(measure, sets=sets, beside=asked.beside)
    out = OUT / f"external_sets_{asked.reference}{'_beside' * asked.beside}.jsonl"
    text = table(of_draws(make(work, wanted, settings, out, asked.processes), wanted))
    out.with_suffix(".md").write_text(text)
    print(json.dumps(vars(asked), default=str), text, sep="\n")


if __name__ == "__main__":
    main()
