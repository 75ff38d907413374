"""What `audit verify` shows and writes: a table, a small dose-response plot, warnings; and the same
as JSON and as an HTML page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from auditor.inference.effect import Effect
from auditor.report.shared.banner import Banner, Fact, warning_count
from auditor.report.shared.dose_plot import dose_plot
from auditor.report.shared.page import html_page
from auditor.report.shared.svg import bounds
from auditor.report.shared.terminal import answer_panel, section_table, sentences
from auditor.report.shared.words import (
    REFERENCE_KEYS,
    TRAIN_MORE,
    holds_for,
    safe,
    share_left,
    signed,
    stacked,
)
from auditor.students.result import ArmResult, TransferResult, VerifyReport

SCHEMA_VERSION = 1
PLOT_WIDTH = 32  # columns
NAME_WIDTH = 22  # columns of an arm's name beside the plot
TABLE_NAME_WIDTH = 18  # and in a table, on 80 columns
ARMS_NAMED = 3  # defended sets of one verdict in the decision
STYLES = {
    "removed": "green",
    "reduced": "yellow",
    "not reduced": "red",
    "inconclusive": "yellow",
    "no transfer shown": "yellow",
}


def to_dict(report: VerifyReport) -> dict[str, object]:
    """The report as plain JSON values; keys as in docs/verify-schema.md."""
    values = asdict(report.result)
    for arm in values["arms"]:
        arm["left"] = arm.pop("effect_ratio")  # the name that the file has kept
    # What an arm was trained on stands beside its results, as for the control, which has no more.
    values["arms"] = [arm.pop("training") | arm for arm in values["arms"]]
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "verify",
        **values,
        "datasets": report.datasets,
        "reference": report.reference.as_dict(REFERENCE_KEYS),
        "settings": report.settings,
        "versions": report.versions,
        "created": report.created,
    }


def to_html(report: VerifyReport, scans: Sequence[tuple[str, str, str]] = ()) -> str:
    """The report as a page: before and after each mitigation.

    scans: of the original and of a mitigated set, where they were made: what is compared, and its
    value before and after.
    """
    result = report.result
    # In the open readout no trait is read out, so that there is no curve and no rank.
    closed = result.trait is not None
    size = filter(None, [size_of_effect(result)])
    values = {
        "title": headline(result),
        "report": report,
        "result": result,
        "reference": report.reference.as_dict(REFERENCE_KEYS),
        "banner": Banner(
            style="risk" if result.transferred else "inconclusive",
            word=headline(result),
            decision=decision(result),
            about=" ".join([*size, holds_for(report.reference.name, report.created)]),
            facts=[
                Fact(f"{result.blocks}", "blocks, a student of each data set in each"),
                Fact(f"{result.rows_per_block:,}", "rows a block"),
                Fact(f"{result.updates:,}", "updates a student"),
                warning_count(result.warnings),
                Fact(report.reference.name, "reference"),
            ],
            advice=advice(result),
        ),
        "scans": scans,
        "dose_plot": Markup(dose_plot(result)) if closed else None,
        "family": {arm.name: family_size(arm, result.trait) for arm in result.arms if closed},
    }
    return html_page("verify.html", values)


def headline(result: TransferResult) -> str:
    """The answer in a few words."""
    if not result.transferred:
        return "NO TRANSFER SHOWN"
    return f"TRANSFER SHOWN: {safe(result.trait or result.arms[0].traits[0].name)}"


def decision(result: TransferResult) -> str:
    """What the students show of every data set, in one sentence; `safe`."""
    original, *defended = result.arms
    if result.trait is None:
        moved, count = safe(original.traits[0].name), len(original.traits)
        chance = "" if result.transferred else ", and no further than chance can"
        return f"Of {count} traits students of {safe(original.name)} move most to {moved}{chance}"
    if not result.transferred:
        return (
            f"Cannot tell: students of {safe(original.name)} take over the trait "
            f"{safe(result.trait)} no more than chance can do, so that nothing can be said about a "
            "defence"
        )
    verdicts = ""
    for verdict in dict.fromkeys(arm.verdict for arm in defended):
        names = [safe(arm.name) for arm in defended if arm.verdict == verdict]
        more = f" and {len(names) - ARMS_NAMED} more" if len(names) > ARMS_NAMED else ""
        verdicts += f"; {verdict}: {', '.join(names[:ARMS_NAMED])}{more}"
    return f"Students of {safe(original.name)} take over the trait {safe(result.trait)}{verdicts}"


def advice(result: TransferResult) -> str:
    """What to do next, in a sentence."""
    if not result.transferred:
        return TRAIN_MORE
    if result.trait is None:
        return "Do not release: name the trait with --trait to see what a defence leaves of it."
    verdicts = [arm.verdict for arm in result.arms[1:]]
    if "removed" in verdicts:
        return (
            "Release a data set whose effect is removed, and hold the JSON report of this "
            "experiment against it with audit gate --verified."
        )
    if "inconclusive" in verdicts:
        return (
            "Do not release yet: train on more --blocks, or in a larger --budget, to see what a "
            "defence leaves; or try more of it."
        )
    if verdicts:
        return "Do not release yet: try more of a defence, or audit mitigate --auto."
    return "Do not release: write a defended data set with audit mitigate."


def size_of_effect(result: TransferResult) -> str:
    """How far the original moves its students, in a sentence; empty where no trait was named."""
    if result.trait is None:
        return ""
    effect = result.arms[0].curve[-1].effect
    size = "" if effect is None else f" by {signed(effect)} logits"
    return f"{safe(result.arms[0].name)} moves its students to the trait{size}."


def terminal_page(report: VerifyReport) -> RenderableType:
    """The page: the answer, a row an arm, the dose-response plot, warnings."""
    result = report.result
    settled = result.blocks != result.blocks_planned
    blocks = f"{result.blocks} blocks" + f" (of {result.blocks_planned}: settled)" * settled
    circumstances = (
        f"{blocks} of {result.rows_per_block:,} rows, {result.updates:,} updates a student. "
        f"{holds_for(report.reference.name, report.created)}"
    )
    style = "red" if result.transferred else "yellow"
    parts: list[RenderableType] = [
        answer_panel(
            decision(result),
            style,
            [*filter(None, [size_of_effect(result)]), f"Next: {advice(result)}"],
            [circumstances],
            headline(result),
        )
    ]
    if result.trait is None:
        parts += [_open_readout_table(result), _training_table(result)]
    else:
        parts += [_effect_table(result), _dose_plot(result), _training_table(result)]
    return Group(*parts, *sentences("Warnings", result.warnings))


def _effect_table(result: TransferResult) -> RenderableType:
    """The effect of every arm on the trait, and how much of the original's it is."""
    table = _arm_table("Students, against those of the clean control")
    table.add_column("verdict", no_wrap=True)
    for name in ("left", "effect", "rank"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in result.arms:
        effect, verdict = arm.curve[-1].effect, arm.verdict or ""
        table.add_row(
            _named(arm.name),
            Text(verdict, style=STYLES.get(verdict, "default")),
            share_left(arm.effect_ratio),
            Text("" if effect is None else stacked(signed(effect))),
            f"{arm.rank} of {family_size(arm, result.trait)}",
        )
    return table


def _open_readout_table(result: TransferResult) -> RenderableType:
    """The trait that every arm moved most, where no trait was named."""
    table = _arm_table("Largest effect on any trait, against students of the clean control")
    for name in ("trait", "effect", "corrected p", "answers moved"):
        table.add_column(name, justify="right")
    for arm in result.arms:
        largest, moved = arm.traits[0], arm.curve[-1].total_variation
        table.add_row(
            _named(arm.name),
            Text(safe(largest.name)),
            Text(stacked(signed(largest.effect))),
            "not known" if largest.p_adjusted is None else f"{largest.p_adjusted:.2g}",
            "not read" if moved is None else f"{moved:.1%}",
        )
    return table


def _training_table(result: TransferResult) -> RenderableType:
    """What the students of every arm were trained on, and how well they learned it."""
    untrained = f"task loss without training {result.reference_loss[0]:.3f} nats a token"
    table = _arm_table("What students were trained on", untrained)
    for name in ("rows", "tokens", "task loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for trained in (*(arm.training for arm in result.arms), result.control):
        table.add_row(
            _named(trained.name),
            f"{trained.rows:,}",
            f"{trained.tokens:,}",
            f"{trained.task_loss:.3f}",
        )
    return table


def _arm_table(title: str, caption: str = "brackets: 95 % intervals over blocks") -> Table:
    """A table with a row an arm, whose names have room."""
    table = section_table(title, caption)
    table.add_column("data set", overflow="fold")
    return table


def _named(name: str) -> Text:
    """The name of an arm; the folder of a long path stands on a line of its own.

    >>> print(_named("defended/owls.parquet"))
    defended/
    owls.parquet
    """
    folder, slash, file = safe(name).rpartition("/")
    broken = f"{folder}/\n{file}" if slash and len(name) > TABLE_NAME_WIDTH else safe(name)
    return Text(broken)


def family_size(arm: ArmResult, trait: str | None) -> int:
    """How many traits the rank of `trait` is among."""
    group = next(effect.group for effect in arm.traits if effect.name == trait)
    return sum(effect.group == group for effect in arm.traits)


def _dose_plot(result: TransferResult) -> RenderableType:
    """One line an arm and checkpoint: the effect as a dot on its interval, with a bar where there
    is no effect.
    """
    text = Text("\nEffect over the updates, in logits", style="bold")
    effects = [point.effect for arm in result.arms for point in arm.curve if point.effect]
    ends = [0.0, *(end for effect in effects for end in (effect.value, *bounds(effect)))]
    # The end of a long name, as the arms of one data set begin alike.
    names = [safe(arm.name) for arm in result.arms]
    names = [name if len(name) <= NAME_WIDTH else f"…{name[1 - NAME_WIDTH :]}" for name in names]
    width = max(map(len, names))
    for name, arm in zip(names, result.arms, strict=True):
        # The first point is without training, where the effect is 0 by definition.
        for number, point in enumerate(arm.curve[1:]):
            if point.effect is not None:
                shown = "" if number else name
                drawn = interval_line(point.effect, min(ends), max(ends), PLOT_WIDTH)
                text.append(
                    f"\n  {shown:<{width}} {point.updates:>6}  {drawn} {point.effect.value:+.3f}",
                    style="not bold",
                )
    return text


def interval_line(effect: Effect, low: float, high: float, width: int) -> str:
    """An effect on an axis from `low` to `high`, `width` characters long.

    >>> interval_line(Effect(1.0, (0.5, 1.5), (1.0, 1.0)), -1.0, 2.0, 13)
    '    | --o--  '
    """

    def column(value: float) -> int:
        share = (value - low) / (high - low) if high > low else 0.0
        return round(min(1.0, max(0.0, share)) * (width - 1))

    # What is drawn later covers what is there: the value its interval, and both the zero mark,
    # which still shows as a plus where the interval crosses it.
    start, end = bounds(effect)
    cells = [" "] * width
    cells[column(0.0)] = "|"
    for number in range(column(start), column(end) + 1):
        cells[number] = "+" if cells[number] == "|" else "-"
    cells[column(effect.value)] = "o"
    return "".join(cells)
