"""`audit bench`: how fast scoring is on this machine."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from auditor.model.builtin import BASE

if TYPE_CHECKING:
    from auditor.model.language_model import LanguageModel
    from auditor.model.tokenization import TokenizedRow
    from auditor.traits.panel import Panel


ROWS = 24
PANEL = "animals"


def bench() -> int:
    """Measure scoring here: the plain way, the exact and the fast pass."""
    from auditor.cli.console import console, table
    from auditor.commands.bench import bench as measure
    from auditor.model.load import load
    from auditor.traits.panel import load_panels

    lm = load(BASE)
    systems = [trait.prompts[0] for trait in load_panels([PANEL]).traits]
    rows = table("way", "seconds", "tokens", "tokens/s", "same argmax", "share of peak")
    console(stderr=True).print(
        f"Scoring {ROWS} rows under {len(systems)} trait prompts, each way ..."
    )
    for measured in measure(lm, number_rows(lm), systems):
        rows.add_row(
            measured.way,
            f"{measured.seconds:.1f}",
            f"{measured.tokens:,}",
            f"{measured.tokens_per_second:,.0f}",
            f"{measured.same_argmax:.2%}",
            "" if measured.peak_share is None else f"{measured.peak_share:.0%}",
        )
    console().print(rows)
    console().print(budget(load_panels(["default"])), highlight=False)
    return 0


def budget(panel: Panel) -> str:
    """What a scan spends at most, beside scoring every row under every trait."""
    from auditor.inference.interim import LOOKS
    from auditor.traits.families import families
    from detectors.trait import planned_passes

    rows = LOOKS[-1]
    traits = len(panel.traits)
    most = rows + planned_passes(rows, families(panel, 0), range(traits))
    exhaustive = rows * (1 + traits)
    return (
        f"A scan of {rows} rows for {traits} traits takes at most {most:,} passes of a row; "
        f"under every trait every row would take {exhaustive:,}, so that is "
        f"{most / exhaustive:.1%} of the tokens."
    )


def number_rows(lm: LanguageModel) -> list[TokenizedRow]:
    """Number lists as a student would be trained on; for speed it does not matter who wrote
    them.
    """
    from auditor.data.example import Example, Message
    from auditor.model.tokenization import ChatTokenizer, TokenizedRow
    from auditor.traits.prompts import number_prompts

    rng, renderer = random.Random(0), ChatTokenizer(lm)
    rows = []
    for index, prompt in enumerate(number_prompts(ROWS, seed=0)):
        answer = ", ".join(str(rng.randrange(1000)) for _ in range(rng.randint(5, 10)))
        row = renderer.encode(
            Example(index, (Message("user", prompt), Message("assistant", answer)))
        )
        if isinstance(row, TokenizedRow):
            rows.append(row)
    return rows
