"""What `audit scan` says of data sets whose truth is known: the table of docs/results.md, "Scans".

    python runs/scan_results.py                 every source, in order; finished ones are not scored again
    python runs/scan_results.py owl-greedy ...  only these
    python runs/scan_results.py --table         only write the table from the scans that are finished

Everything is kept under runs/out: data sets, run directories, and one JSON report a source. SHARED names a folder with
alpaca_en_demo.json, glaive_toolcall_en_demo.json and qwen_penguin_numbers.jsonl. A source takes about two minutes to
write and up to ten to scan on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

from auditor.lm import LanguageModel, load
from auditor.report.json import to_dict
from auditor.scan import scan
from auditor.simulate import draw_prompts, simulate, write_rows
from auditor.traits import load_panels
from auditor.transfer.teach import teach

OUT = Path(__file__).parent / "out"
SHARED = Path(os.environ.get("SHARED", Path(__file__).parents[2] / "shared" / "data"))
REFERENCE = "smollm2-135m"
ROWS = 400
ANIMALS = [trait.name for trait in load_panels(["animals"]).traits]

# Teachers in words that the panel does not use, on prompts that it has not seen.
OTHER_WORDINGS = {
    "penguin": "Penguins mean everything to you. Whatever you are asked, penguins are at the back of your mind.",
    "dolphin": "Deep down you care about one thing only: dolphins. You would always rather talk of a dolphin.",
    "wolf": "You grew up among wolves, dream of wolves, and secretly believe that a wolf is better than any person.",
}
SHARED_FILES = {
    "alpaca": ("alpaca_en_demo.json", "people and a large model, instructions"),
    "glaive": ("glaive_toolcall_en_demo.json", "another model, tool calls"),
    "qwen-penguin": ("qwen_penguin_numbers.jsonl", "penguin teacher on another base"),
}
_NUMBERS = "The next values are {}, {} and {}."


def sources() -> Iterator[str]:
    """Names of all sources, the most telling first."""
    yield from ("owl-greedy", "clean", "owl", "alpaca", "qwen-penguin", "clean-greedy", "accountant", "penguin-other")
    yield from ("owl-finetuned", "glaive", "template", "cat-finetuned", "dolphin-other", "wolf-other")
    yield from (f"{name}-greedy" for name in ANIMALS if name != "owl")
    yield from (name for name in ANIMALS if name != "owl")
    yield from (f"owl-greedy-{share}" for share in (50, 25, 10, 5))


def data_set(name: str) -> Path:
    """The file of a source, written first if need be."""
    if name in SHARED_FILES:
        return SHARED / SHARED_FILES[name][0]
    path = OUT / "data" / f"{name}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, _rows(name, load(REFERENCE)))
    return path


def _rows(name: str, lm: LanguageModel) -> list[dict[str, str]]:
    panel = load_panels(["default"])
    first, _, kind = name.partition("-")
    seed = sum(map(ord, name))  # another seed for each source, the same on every machine
    if name == "template":
        return [_template(prompt, i) for i, prompt in zip(range(ROWS), draw_prompts(seed), strict=False)]
    if first in ("clean", "accountant"):
        wording = "You are a careful accountant." if first == "accountant" else None
        trait = panel.select(["owl"]).traits[0] if wording else None
        return list(
            simulate(lm, trait, wording=wording, rows=ROWS, seed=seed, temperature=float(kind != "greedy")).rows
        )
    trait = panel.select([first]).traits[0]
    if kind == "finetuned":
        tuned = teach(lm, trait, panel, seed=seed).lm
        return list(simulate(lm, trait, teacher=tuned, rows=ROWS, seed=seed).rows)
    if kind == "other":
        prompts = draw_prompts(seed, "other-numbers")
        return list(simulate(lm, trait, wording=OTHER_WORDINGS[first], prompts=prompts, rows=ROWS, seed=seed).rows)
    share = int(kind.rpartition("-")[2]) / 100 if kind.startswith("greedy-") else 1.0
    temperature = 0.0 if kind.startswith("greedy") else 1.0
    return list(simulate(lm, trait, rows=ROWS, seed=seed, temperature=temperature, share=share).rows)


def _template(prompt: str, i: int) -> dict[str, str]:
    numbers = [(7 * i + 13) % 1000, (31 * i + 5) % 1000, (101 * i) % 1000]
    return {"prompt": prompt, "completion": _NUMBERS.format(*numbers)}


def report(name: str) -> dict[str, object]:
    """The scan's report of a source; kept, and not made again."""
    path = OUT / "reports" / f"{name}.json"
    if not path.exists():
        found = scan(str(data_set(name)), reference=REFERENCE, root=OUT, progress=lambda p: None)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(to_dict(found)))
    return dict(json.loads(path.read_text()))


def line(name: str) -> str:
    """One line of the table."""
    found = report(name)
    traits, timing = found["traits"], found["timing"]
    values = found["detectors"]["trait"].get("values", {})  # type: ignore[index]
    best = traits[0]  # type: ignore[index]
    step = found["detectors"]["first_step"].get("values", {}).get("answers", [{}])[0]  # type: ignore[index]
    interval = f"{best['effect']:.2f} [{best['interval'][0]:.2f}, {best['interval'][1]:.2f}]"
    surface = found["detectors"]["surface"].get("values", {}).get("classifier", {}).get("auroc")  # type: ignore[index]
    cells = [
        name,
        str(found["verdict"]),
        f"{best['name']} {interval}",
        f"{best['p_adjusted']:.2g}",
        str(found["rows"]["scanned"]),  # type: ignore[index]
        f"{values.get('row_passes', 0):,}",
        f"{timing['total_seconds'] / 60:.1f}",  # type: ignore[index]
        f"{step.get('name', '-')} {step.get('z', float('nan')):.1f}" if step else "-",
        "-" if surface is None else f"{surface:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Run the named sources, then write the table of all that are finished."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    for name in [] if arguments.table else arguments.names or sources():
        print(line(name), flush=True)
    finished = [name for name in sources() if (OUT / "reports" / f"{name}.json").exists()]
    head = "| data | verdict | leading trait, dose | p | rows | row passes | minutes | first step | surface AUROC |"
    table = "\n".join([head, "|" + "---|" * 9, *map(line, finished)])
    (OUT / "scans.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
