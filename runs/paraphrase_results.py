"""How prompts are reworded by rule: figures for runs/results.md, and the samples of
runs/paraphrase-samples.md.

    python runs/paraphrase_results.py alpaca_en_demo.json qwen_penguin_numbers.jsonl python
    runs/paraphrase_results.py FILE ... --similarity 500     sentence embeddings as well, for 500
    rows a file

Each file is read like any data set; the last user turn of a row is reworded. rows/s is for one
process and counts its CPU time, since other programs may share the machine: rewording and all
checks but the embeddings.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from auditor.data.sample import read_sample
from mitigations.paraphrase import Reworded, RulesEngine, SentenceEncoder, checks, paraphrase
from mitigations.paraphrase.checks import MIN_SIMILARITY, features

OUT = Path(__file__).parent / "paraphrase-samples.md"
SEED = 4
SAMPLES = 50  # of each file
INTRODUCTION = """# Prompts reworded by rule

Samples for a reader to judge, drawn at random (seed {seed}, {samples} a file) by
`runs/paraphrase_results.py`, not chosen. `<` is the prompt, `>` what the engine `rules` makes of
it; `=` marks one that no rule fits, which is kept. Long prompts are cut at 400 characters; behind
that, both are the same. Completions are never touched.
"""


@dataclass(frozen=True)
class Measured:
    """One file: its prompts, what became of each, and rows per second of CPU time."""

    name: str
    prompts: list[str]
    found: list[Reworded]
    rate: float

    def pairs(self) -> list[tuple[str, str]]:
        """Prompts that were reworded, with their rewording."""
        return [
            (p, r.texts[0])
            for p, r in zip(self.prompts, self.found, strict=True)
            if r.engine != "original"
        ]


def measure(path: Path) -> Measured:
    """Reword every prompt of a file once."""
    examples = sorted(
        read_sample(str(path), rows=None, seed=0).examples, key=lambda example: example.index
    )
    prompts = [
        [m.content for m in example.messages if m.role == "user"][-1] for example in examples
    ]
    began = time.process_time()
    found = paraphrase(prompts, RulesEngine(), seed=SEED)
    return Measured(path.name, prompts, found, len(prompts) / (time.process_time() - began))


def failures(measured: Measured) -> Counter[str]:
    """How many first drafts of the engine fail each check, each check by itself."""
    failed: Counter[str] = Counter()
    for prompt, drafts in zip(
        measured.prompts, RulesEngine().reword(measured.prompts, 1, SEED), strict=True
    ):
        before = features(prompt)
        for after in map(features, drafts):
            failed.update(checks.failures(before, after))
    return failed


def lines(measured: Measured, rows: int) -> list[str]:
    """What is said of a file: shares, rate, and similarities of `rows` rewordings."""
    total = len(measured.prompts)
    distinct = len({text for _, text in measured.pairs()}) / max(
        1, len(set(dict(measured.pairs())))
    )
    kept = Counter(reworded.reason for reworded in measured.found if reworded.engine == "original")
    failed = failures(measured)
    out = [
        f"{measured.name}: {total:,} rows, reworded {len(measured.pairs()) / total:.1%}, "
        f"{measured.rate:,.0f} rows/s",
        f"  kept: {dict(kept) or 'none'}; distinct rewordings for each distinct prompt "
        f"{distinct:.2f}",
        "  failing each check: "
        + (", ".join(f"{k} {n / total:.2%}" for k, n in failed.items()) or "none"),
    ]
    if rows:
        chosen = random.Random(SEED).sample(measured.pairs(), min(rows, len(measured.pairs())))
        cosines = sorted(SentenceEncoder()([a for a, _ in chosen], [b for _, b in chosen]))
        below = sum(cosine < MIN_SIMILARITY for cosine in cosines) / len(cosines)
        middle = cosines[len(cosines) // 2]
        out.append(
            f"  cosine of {len(cosines)}: least {cosines[0]:.2f}, median {middle:.2f}, failing "
            f"{below:.2%}"
        )
    return out


def samples(measured: Measured) -> str:
    """The section of a file in runs/paraphrase-samples.md."""
    rows = random.Random(SEED).sample(
        list(zip(measured.prompts, measured.found, strict=True)), SAMPLES
    )
    body = "\n\n".join(sample(prompt, reworded) for prompt, reworded in rows)
    return f"## {measured.name}\n\n~~~~text\n{body}\n~~~~\n"


def sample(prompt: str, reworded: Reworded) -> str:
    """One prompt, before and after."""

    def shown(text: str) -> str:
        return text[:400].replace("~~~~", "~~~").replace("\n", "\n  ")

    if reworded.engine == "original":
        return f"= {shown(prompt)}"
    return f"< {shown(prompt)}\n> {shown(reworded.texts[0])}"


def main() -> None:
    """Measure the files named and write the samples."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--similarity", type=int, default=0, metavar="ROWS")
    arguments = parser.parse_args()
    found = [measure(path) for path in arguments.files]
    for measured in found:
        print("\n".join(lines(measured, arguments.similarity)), flush=True)
    head = INTRODUCTION.format(seed=SEED, samples=SAMPLES)
    OUT.write_text("\n".join([head, *map(samples, found)]), encoding="utf-8")


if __name__ == "__main__":
    main()
