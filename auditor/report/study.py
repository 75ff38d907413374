"""The report of a study: the table of claims on a terminal and in Markdown, and a page in HTML with
the figures.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from auditor.report.shared.banner import Banner, Fact
from auditor.report.shared.json_text import JsonObject
from auditor.report.shared.page import html_page
from auditor.report.shared.words import TRAIN_MORE, estimate, holds_for, percent, safe

STYLES = {"holds": "green", "does not hold": "red", "cannot be said": "yellow"}


def terminal_page(values: JsonObject) -> RenderableType:
    """The table of claims, one line a claim, and what a reader has to know."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1, 1, 0))
    for name in ("claim", "paper", "here [95 %]", "answer"):
        table.add_column(name, overflow="fold")
    for claim in values["claims"]:
        answer = Text(claim["answer"], style=STYLES[claim["answer"]])
        if claim["reason"]:
            answer.append(f"\n{safe(claim['reason'])}", style="dim")
        here = Text(f"{measured(claim)}\n").append(safe(claim["quantity"]), style="dim")
        paper = safe(claim["paper"] or "-")
        table.add_row(Text(safe(claim["statement"])), Text(paper), here, answer)
    return Group(table, *(Text(f"\n{line}") for line in notes_on(values)))


def measured(claim: JsonObject) -> str:
    """What was measured, with its interval.

    >>> measured({"value": 0.5, "unit": "share", "interval": [0.25, 0.75]})
    '50 % [25, 75]'
    >>> measured({"value": 0.5, "unit": "logits", "interval": [0.25, 0.75]})
    '+0.50 [+0.25, +0.75] logits'
    """
    if claim["value"] is None:
        return "not known"
    return share(claim) if claim["unit"] == "share" else f"{logits(claim)} logits"


def share(ratio: JsonObject | None) -> str:
    """A share with its interval, in per cent; empty for None."""
    if ratio is None:
        return ""
    if ratio["value"] is None or ratio["interval"] is None:
        return "not known"
    return percent(ratio["value"], ratio["interval"])


def logits(effect: JsonObject) -> str:
    """An effect with its interval."""
    return estimate(effect["value"], effect["interval"], "+.2f")


def bound(claim: JsonObject) -> str:
    """When the claim holds: `above 25 %`."""
    number = f"{100 * claim['bound']:.0f} %" if claim["unit"] == "share" else f"{claim['bound']:g}"
    return f"{claim['side']} {number}"


def notes_on(values: JsonObject) -> list[str]:
    """How to read the table, one sentence each."""
    settings, size = values["settings"], values["settings"]["size"]
    pairs = size["blocks"] * len(settings["traits"])
    notes = [
        f"{', '.join(settings['traits'])}: {size['blocks']} blocks of {size['rows']:,} rows each, "
        f"{size['updates']:,} updates a student. Intervals are over {pairs} pairs of students "
        "(95 %, t; shares by Fieller) and speak for these traits only.",
        f"Each of the {len(values['claims'])} claims is judged by itself: about one in twenty "
        "would be told wrongly by chance if it stood exactly at its bound.",
    ]
    if not transferred(values):
        notes.append(
            "No original was shown to transfer its trait, so that hardly anything can be said here."
        )
    return notes


def transferred(values: JsonObject) -> bool:
    """Whether any original was shown to transfer to students of its own base; else hardly any claim
    can be judged.
    """
    # Students of a sibling base are expected to take nothing over, so that they do not count.
    experiments = values["experiments"]
    return any(trial["transferred"] for trial in experiments if trial["kind"] != "sibling")


def command(values: JsonObject, part: str | None = None) -> str:
    """The command line that makes the same study, or a part of it."""
    settings = values["settings"]
    parts, size, recipe = settings["parts"], settings["size"], settings["recipe"]
    options: list[tuple[str, ...]] = [("--reference", settings["reference"])]
    options += [("--trait", trait) for trait in settings["traits"]]
    options += [("--panel", panel) for panel in settings["panels"]]
    options += [(f"--{name}", str(size[name])) for name in ("blocks", "rows", "updates")]
    # `repr` has every digit that it takes to read the same number back.
    options.append(("--learning-rate", repr(recipe["learning_rate"])))
    if recipe["full"]:
        options.append(("--full",))
    else:
        options += [("--rank", str(recipe["rank"])), ("--lora-alpha", str(recipe["alpha"]))]
    if recipe["layers"] is not None:
        options.append(("--layers", ",".join(map(str, recipe["layers"]))))
    if settings["sibling"]:
        options.append(("--sibling", settings["sibling"]))
    options += [("--max-tokens", str(settings["max_tokens"])), ("--seed", str(settings["seed"]))]
    verb = part or ("all" if len(parts) > 1 else parts[0])
    return shlex.join(["audit", "study", verb, *(word for option in options for word in option)])


def to_html(values: JsonObject, figures: Mapping[str, str]) -> str:
    """One page that stands alone: the claims, the figures in it, every arm, and how to run it
    again.

    figures: file name -> SVG of our own making, whose texts are escaped already.
    """
    answers, name = [claim["answer"] for claim in values["claims"]], values["reference"]["name"]
    settings, size = values["settings"], values["settings"]["size"]
    banner = Banner(
        style="",
        word="STUDY",
        decision=(
            f"{answers.count('holds')} of {len(answers)} claims of arXiv:2509.23886 hold on {name}"
        ),
        about=holds_for(name, values["created"]),
        facts=[
            *(Fact(f"{answers.count(answer):,}", answer) for answer in STYLES),
            Fact(f"{size['blocks'] * len(settings['traits']):,}", "pairs of students"),
            Fact(name, "reference"),
        ],
        subject=", ".join(settings["parts"]),
        advice="" if transferred(values) else TRAIN_MORE,
        steps=[(command(values), "make the study again, from its kept units where they are here")],
    )
    shown = {
        "title": f"Study of {name}",
        "banner": banner,
        "values": values,
        "notes": notes_on(values),
        "figures": {name: Markup(svg) for name, svg in figures.items()},
        "measured": measured,
        "share": share,
        "logits": logits,
        "bound": bound,
        "as_json": lambda value: json.dumps(value, ensure_ascii=False, indent=1),
    }
    return html_page("study.html", shown)


def to_markdown(values: JsonObject) -> str:
    """The claims, the pooled arms and the notes, for a document."""
    lines = ["| claim | paper | measured | here [95 %] | holds if | answer |", "|" + "---|" * 6]
    for claim in values["claims"]:
        answer = claim["answer"] + (f" ({claim['reason']})" if claim["reason"] else "")
        about = (claim["statement"], claim["paper"] or "-", claim["quantity"])
        lines.append(_table_row([*about, measured(claim), bound(claim), answer]))
    lines += [
        "",
        "| part | carrier | data | rows | tokens | effect, logits [95 %] | left [95 %] "
        "| task loss |",
        "|" + "---|" * 8,
    ]
    for trial in values["experiments"]:
        for arm in trial["arms"]:
            about = (trial["part"], trial["kind"], arm["name"])
            counts = (f"{arm['rows']:,}", f"{arm['tokens']:,}")
            figures = (logits(arm["effect"]), share(arm["left"]), f"{arm['task_loss']:.3f}")
            lines.append(_table_row([*about, *counts, *figures]))
    return "\n".join([*lines, "", *notes_on(values), ""])


def _table_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    # A bar within a cell would end it, also in a code span.
    return "| " + " | ".join(safe(cell).replace("|", "\\|") for cell in cells) + " |"
