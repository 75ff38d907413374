"""Reports as one HTML file: no network, no style or script but its own, readable on a phone, in
print and in the dark.

The templates in page/ escape everything that comes out of an expression; `safe` first writes out
what could mislead a reader (control, bidirectional and zero-width characters). A content security
policy forbids all else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from auditor.inference.trait_evidence import TraitEvidence
from auditor.report.scan.charts import forest, forest_scale, looks_plot, places_plot
from auditor.report.scan.terminal import next_steps
from auditor.report.shared.dose_plot import svg
from auditor.report.shared.words import headline, p_text, power, safe, two_decimals
from auditor.report.verify import REFERENCE_KEYS, family_size, sentence
from auditor.report.verify import headline as experiment_headline
from auditor.scanning.scan_report import ExampleRow, ScanReport, TokenSpan
from auditor.scanning.verdict import text_profile
from auditor.students.result import VerifyReport
from detectors.interface import Evidence

ROWS_SHOWN = 200
TOKENS_SHOWN = 400  # of a row
PROMPT_SHOWN = 2_000  # characters
TRAITS_SHOWN = 200
TRAITS_OPEN = 12  # the others are folded away


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as it is shown.

    parts: consecutive tokens of no flag are one. left_out: tokens beyond TOKENS_SHOWN.
    """

    index: int
    prompt: str
    parts: tuple[TokenSpan, ...]
    tokens: int
    flagged: int
    ties: int
    left_out: int


def render(report: ScanReport) -> str:
    """The report of a scan as a page. What it leaves out of a large report it says."""
    traits = report.traits
    shown = traits[:TRAITS_SHOWN]
    looks = _looks(report)
    limit = text_profile(report.detectors).target
    projected = projection(report, looks, limit)
    divergence = report.divergence if isinstance(report.divergence, dict) else {}
    return _page("scan.html").render(
        title=f"{headline(report.verdict)} · {report.dataset.name}",
        report=report,
        headline=headline(report.verdict),
        power=power(report.verdict.min_effect),
        steps=next_steps(report),
        traits=shown[:TRAITS_OPEN],
        more_traits=shown[TRAITS_OPEN:],
        traits_left_out=len(traits) - len(shown),
        level=f"{100 * report.settings['alpha']:g} %"
        if "alpha" in report.settings
        else "the level asked for",
        tested=len(report.settings.get("tested") or report.traits),
        scale=forest_scale(shown),
        looks=looks,
        looks_plot=Markup(looks_plot(looks, limit, projected)) if looks else None,
        limit=limit,
        projected=projected[-1][0] if projected else None,
        divergence=divergence,
        places_plot=Markup(places_plot(divergence["places"]))
        if divergence.get("places") and divergence["flagged"]
        else None,
        rows=[_row(row) for row in report.examples[:ROWS_SHOWN]],
        rows_left_out=max(0, len(report.examples) - ROWS_SHOWN),
    )


def render_verify(report: VerifyReport) -> str:
    """The report of a student-transfer experiment as a page: before and after each mitigation."""
    result = report.result
    return _page("verify.html").render(
        title=experiment_headline(result),
        report=report,
        result=result,
        reference=report.reference.as_dict(REFERENCE_KEYS),
        headline=experiment_headline(result),
        sentence=sentence(result),
        dose_plot=None if result.trait is None else Markup(svg(result)),
        family={arm.name: family_size(arm, result.trait) for arm in result.arms}
        if result.trait
        else {},
    )


def projection(
    report: ScanReport, looks: Sequence[Mapping[str, Any]], limit: float
) -> list[tuple[float, float]]:
    """How the excluded dose would go on to fall, as points (rows, dose) from the last look to the
    one at `limit`.

    By the standard errors alone: with estimates that stay, the bound's distance to the estimate
    falls with the square root of the trait's rows. Only for an inconclusive verdict, and empty
    where it cannot be said: no bound, an estimate that is itself at the limit, or a weakest trait
    that is not scored any more.
    """
    if report.verdict.name != "inconclusive" or not looks or looks[-1]["excluded"] is None:
        return []
    rows, bound = float(looks[-1]["rows"]), float(looks[-1]["excluded"])
    weakest = next((trait for trait in report.traits if trait.name == looks[-1]["weakest"]), None)
    if (
        weakest is None
        or weakest.eliminated_at is not None
        or weakest.effect >= limit
        or bound < limit
    ):
        return []
    more = weakest.rows * (((bound - weakest.effect) / (limit - weakest.effect)) ** 2 - 1)
    steps = [more * part / 8 for part in range(9)]
    gap = bound - weakest.effect
    return [
        (rows + step, weakest.effect + gap * (weakest.rows / (weakest.rows + step)) ** 0.5)
        for step in steps
    ]


def _looks(report: ScanReport) -> list[Mapping[str, Any]]:
    outcome = report.detectors.get("trait")
    return list(outcome.values.get("looks", ())) if isinstance(outcome, Evidence) else []


def _row(row: ExampleRow) -> _Row:
    flags = [token.flag for token in row.tokens]
    prompt = row.prompt if len(row.prompt) <= PROMPT_SHOWN else f"{row.prompt[: PROMPT_SHOWN - 1]}…"
    shown = row.tokens[:TOKENS_SHOWN]
    return _Row(
        index=row.index,
        prompt=prompt,
        parts=tuple(_joined(shown)),
        tokens=len(flags),
        flagged=flags.count("divergence"),
        ties=flags.count("tie"),
        left_out=len(flags) - len(shown),
    )


def _joined(tokens: Sequence[TokenSpan]) -> Iterator[TokenSpan]:
    for flagged, group in groupby(tokens, key=lambda token: bool(token.flag)):
        if flagged:
            yield from group
        else:
            yield TokenSpan("".join(token.text for token in group), "")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("auditor.report", "page"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "lines": _lines,
        "p": p_text,
        "percent": _percent,
        "dose": two_decimals,
        "forest": _forest,
    }
    return made


def _page(name: str) -> Template:
    style, script = (
        (files("auditor.report") / "page" / file).read_text("utf-8")
        for file in ("page.css", "page.js")
    )
    policy = f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:"
    own = {
        "style": Markup(style),
        "script": Markup(script),
        "policy": f"{policy}; base-uri 'none'; form-action 'none'",
    }
    return _environment().get_template(name, globals=own)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _shown(value: object) -> object:
    """What an expression may put on the page; Jinja escapes it afterwards."""
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> Markup:
    """Text that keeps its line breaks."""
    return Markup("\n").join(safe(line) for line in text.split("\n"))


def _percent(share: float) -> str:
    """A probability in a few characters; never "0 %" for what is only rare."""
    return f"{share:.1%}" if share >= 5e-4 or share == 0 else "< 0.1%"


def _forest(trait: TraitEvidence, scale: tuple[float, float]) -> Markup:
    return Markup(forest(trait.effect, trait.interval, scale))
