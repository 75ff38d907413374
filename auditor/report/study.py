"""The report of a study: the table of claims on a terminal and in Markdown, and a page in HTML with
the figures.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from auditor.report.shared.words import safe

STYLES = {"holds": "green", "does not hold": "red", "cannot be said": "yellow"}
Values = Mapping[str, Any]


def render(values: Values) -> RenderableType:
    """The table of claims, one line a claim, and what a reader has to know."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1, 1, 0))
    for name in ("claim", "paper", "here [95 %]", "answer"):
        table.add_column(name, overflow="fold")
    for claim in values["claims"]:
        answer = Text(claim["answer"], style=STYLES[claim["answer"]])
        if claim["reason"]:
            answer.append(f"\n{safe(claim['reason'])}", style="dim")
        here = Text(f"{measured(claim)}\n")
        here.append(f"{safe(claim['quantity'])}", style="dim")
        table.add_row(
            Text(safe(claim["statement"])), Text(safe(claim["paper"] or "-")), here, answer
        )
    notes = [Text(f"\n{line}") for line in notes_on(values)]
    return Group(table, *notes)


def measured(claim: Values) -> str:
    """What was measured, with its interval.

    >>> measured({"value": 0.5, "unit": "share", "interval": [0.25, 0.75]})
    '50 % [25, 75]'
    >>> measured({"value": 0.5, "unit": "logits", "interval": [0.25, 0.75]})
    '+0.50 [+0.25, +0.75] logits'
    """
    if claim["value"] is None:
        return "not known"
    return share(claim) if claim["unit"] == "share" else f"{logits(claim)} logits"


def share(found: Values | None) -> str:
    """A share with its interval, in per cent; empty for None."""
    if found is None:
        return ""
    if found["value"] is None or found["interval"] is None:
        return "not known"
    return f"{100 * found['value']:.0f} % [{100 * found['interval'][0]:.0f}, {100 * found['interval'][1]:.0f}]"


def logits(found: Values) -> str:
    """An effect with its interval."""
    if found["interval"] is None:
        return f"{found['value']:+.2f}"
    return f"{found['value']:+.2f} [{found['interval'][0]:+.2f}, {found['interval'][1]:+.2f}]"


def bound(claim: Values) -> str:
    """When the claim holds: `above 25 %`."""
    number = f"{100 * claim['bound']:.0f} %" if claim["unit"] == "share" else f"{claim['bound']:g}"
    return f"{claim['side']} {number}"


def notes_on(values: Values) -> list[str]:
    """How to read the table, one sentence each."""
    settings, size = values["settings"], values["settings"]["size"]
    pairs = size["blocks"] * len(settings["traits"])
    notes = [
        f"{', '.join(settings['traits'])}: {size['blocks']} blocks of {size['rows']:,} rows each, {size['updates']:,} "
        f"updates a student. Intervals are over {pairs} pairs of students (95 %, t; shares by Fieller) and speak for "
        "these traits only.",
        f"Each of the {len(values['claims'])} claims is judged by itself: about one in twenty would be told wrongly by "
        "chance if it stood exactly at its bound.",
    ]
    if not transferred(values):
        notes.append(
            "No original was shown to transfer its trait, so that hardly anything can be said here."
        )
    return notes


def transferred(values: Values) -> bool:
    """Whether any original was shown to transfer to students of its own base; else hardly any claim
    can be judged.
    """
    return any(each["transferred"] for each in values["experiments"] if each["kind"] != "sibling")


def command(values: Values, part: str | None = None) -> str:
    """The command line that makes the same study."""
    settings = values["settings"]
    parts = settings["parts"]
    words = [
        "audit",
        "study",
        part or ("all" if len(parts) > 1 else parts[0]),
        "--reference",
        settings["reference"],
    ]
    for trait in settings["traits"]:
        words += ["--trait", trait]
    for panel in settings["panels"]:
        words += ["--panel", panel]
    size, recipe = settings["size"], settings["recipe"]
    words += [
        "--blocks",
        str(size["blocks"]),
        "--rows",
        str(size["rows"]),
        "--updates",
        str(size["updates"]),
    ]
    words += ["--learning-rate", repr(recipe["learning_rate"])]
    if recipe["full"]:
        words.append("--full")
    else:
        words += ["--rank", str(recipe["rank"]), "--lora-alpha", str(recipe["alpha"])]
    if recipe["layers"] is not None:
        words += ["--layers", ",".join(map(str, recipe["layers"]))]
    if settings["sibling"]:
        words += ["--sibling", settings["sibling"]]
    return shlex.join(
        [*words, "--max-tokens", str(settings["max_tokens"]), "--seed", str(settings["seed"])]
    )


def to_json(values: Values) -> str:
    """The report as indented JSON text. Raises ValueError for a number that is NaN or infinite."""
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def to_html(values: Values, figures: Mapping[str, str]) -> str:
    """One page that stands alone: the claims, the figures in it, every arm, and how to run it
    again.

    figures: file name -> SVG of our own making, whose texts are escaped already.
    """
    environment = Environment(
        loader=PackageLoader("auditor.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {
        "measured": measured,
        "share": share,
        "logits": logits,
        "bound": bound,
        "shown": _shown,
    }
    return environment.get_template("study.html.j2").render(
        values=values,
        figures={name: Markup(svg) for name, svg in figures.items()},
        command=command(values),
        notes=notes_on(values),
    )


def _shown(value: Any) -> str:
    """Plain text, with control characters made visible."""
    return safe(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def to_markdown(values: Values) -> str:
    """The claims, the pooled arms and the notes, for a document."""
    return "\n".join(
        [*_claims(values["claims"]), "", *_arms(values["experiments"]), "", *notes_on(values), ""]
    )


def _claims(claims: Sequence[Values]) -> Iterator[str]:
    yield "| claim | paper | measured | here [95 %] | holds if | answer |"
    yield "|" + "---|" * 6
    for claim in claims:
        cells = [
            claim["statement"],
            claim["paper"] or "-",
            claim["quantity"],
            measured(claim),
            bound(claim),
        ]
        answer = claim["answer"] + (f" ({claim['reason']})" if claim["reason"] else "")
        yield _line([*cells, answer])


def _arms(experiments: Sequence[Values]) -> Iterator[str]:
    yield "| part | carrier | data | rows | tokens | effect, logits [95 %] | left [95 %] | task loss |"
    yield "|" + "---|" * 8
    for each in experiments:
        for arm in each["arms"]:
            cells = [
                each["part"],
                each["kind"],
                arm["name"],
                f"{arm['rows']:,}",
                f"{arm['tokens']:,}",
            ]
            yield _line(
                [*cells, logits(arm["effect"]), share(arm["left"]), f"{arm['task_loss']:.3f}"]
            )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(safe(cell).replace("|", "\\|") for cell in cells) + " |"
