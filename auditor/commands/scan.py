"""The verb `scan`: score a data set for hidden traits and reach a verdict."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from auditor import plugins
from auditor.data.example import Sample
from auditor.data.sample import read_sample
from auditor.inference.estimates import Estimate
from auditor.inference.thresholds import MIN_ROWS
from auditor.model import language_model
from auditor.model import load as models
from auditor.model.builtin import BUILT_IN, BundledModel
from auditor.model.identity import template_sha256, tokenizer_sha256
from auditor.model.null_model import NullModel, find_null
from auditor.model.precision import low_precision_copy
from auditor.model.scoring import TokenScores, score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.plugins import Plugin
from auditor.progress import Progress
from auditor.report.scan.json import from_dict, to_dict
from auditor.runs.run_directory import RunDir, installed_versions, set_last
from auditor.scanning import context as stages
from auditor.scanning import example_rows
from auditor.scanning import score_tables as tables
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.third_party import third_party_evidence
from auditor.scanning.verdict import decide, lost_share, with_copies, writing_of
from auditor.traits.families import families
from auditor.traits.mentions import mentions
from auditor.traits.panel import Panel, load_panels, with_control_traits
from detectors import DEFAULT, DETECTORS, divergence, first_step, fit, trait
from detectors.context import ScanContext
from detectors.interface import Evidence, Skipped
from detectors.surface import compare_with_reference
from detectors.trait import PanelTestState, between_trait_sd, estimates, panel_test, trait_evidence
from detectors.tuned import TunedCopies, score_tuned_copies

AUTO_ROWS = 400

Rows = int | Literal["auto"] | None
Outcomes = dict[str, Evidence | Skipped]


def scan(
    source: str,
    *,
    reference: str,
    panels: Sequence[str] = ("default",),
    traits: Sequence[str] = (),
    teacher: str | None = None,
    rows: Rows = "auto",
    seed: int = 0,
    detectors: Sequence[str] = DEFAULT,
    format_of: str | None = None,
    columns: Mapping[str, str] | None = None,
    exclude_open: bool = False,
    alpha: float = 0.01,
    device: str | None = None,
    dtype: str | None = None,
    fresh: bool = False,
    root: Path = Path(),
    remember: bool = True,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ScanReport:
    """Score the data set `source` and return the report, which is also kept under `root`/.audit.

    rows: how many to score at most; "auto" is AUTO_ROWS, or fewer long ones (`stages.affordable`);
        None is all of them, without stopping early. traits: the hypotheses, all of the panel when
        empty. teacher: a model said to have written the data. alpha: the rate of false alarms.
        remember: whether later commands go on from this scan. The others are as `audit scan --help`
        says.

    The same arguments on the same data resume an unfinished run and show a finished one again,
    unless `fresh`. Raises: AuditError (auditor.errors) for input, model, trait or disk trouble,
    with the next step.
    """
    panel = load_panels(panels)
    tested = panel.select(list(traits)) if traits else panel
    progress(Progress("reading the data set", 0, None))
    third_party = [plugins.load("detector", name) for name in detectors if name not in DETECTORS]
    wanted = AUTO_ROWS if rows == "auto" else rows
    sample = read_sample(source, rows=wanted, seed=seed, format_of=format_of, columns=columns)
    progress(Progress("loading the reference", 0, None))
    lm = models.load(reference, device=device, dtype=dtype)
    settings = {
        "panel": panel.name,
        "panel_sha256": panel.sha256,
        "tested": [trait.name for trait in tested.traits],
        "teacher": teacher,
        "rows": "all" if rows is None else rows,
        "seed": seed,
        "detectors": list(detectors),
        "exclude_open": exclude_open,
        "alpha": alpha,
    }
    versions = installed_versions(third_party)
    with RunDir.open(root, _identity(sample, lm, settings, versions), fresh=fresh) as run:
        finished = run.report()
        if finished is not None:
            report = from_dict(finished)
        else:
            examples = {example.index: example for example in sample.examples}
            by = (
                stages.load_teacher(teacher, lm) if teacher else None
            )  # before the long part, which it may end
            # To the organism another prompt is a mixture of those it knows, and no stranger.
            surveyed = (
                panel
                if isinstance(BUILT_IN.get(lm.name), BundledModel)
                else with_control_traits(panel)
            )
            audit = ScanContext(
                lm,
                low_precision_copy(lm),
                ChatTokenizer(lm),
                panel,
                surveyed,
                examples,
                run,
                progress,
                seed,
                by,
            )
            report = _scan(audit, sample, tested, settings, third_party, versions)
            run.finish(to_dict(report))
        if remember:
            set_last(root, run.path, source)
    # Not from the notes of a finished run: the directory may have been moved since.
    return replace(report, run=os.path.relpath(run.path))


def _identity(
    sample: Sample,
    lm: language_model.LanguageModel,
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """What determines the result: two scans with the same identity are the same run."""
    return {
        "dataset": asdict(sample.info),
        "reference": _reference(lm),
        "settings": settings,
        "versions": versions,
    }


def _reference(lm: language_model.LanguageModel) -> dict[str, Any]:
    return {
        "name": lm.name,
        "sha256": lm.sha256,
        "tokenizer_sha256": tokenizer_sha256(lm.tokenizer),
        "template_sha256": template_sha256(lm.tokenizer),
        "dtype": lm.dtype,
        "device": lm.device.split(":")[0],
    }


def _scan(
    audit: ScanContext,
    sample: Sample,
    tested: Panel,
    settings: dict[str, Any],
    third_party: Sequence[Plugin],
    versions: dict[str, str],
) -> ScanReport:
    started = time.monotonic()
    openly, encoded, skipped = _rows(audit, sample, tested, settings)
    state = _survey(audit, encoded, tested, openly, settings)
    half_way = time.monotonic()
    doses = estimates(state, audit.surveyed, openly) if state else {}
    evidence = trait_evidence(state, audit.surveyed, doses, settings["alpha"]) if state else ()
    leader = evidence[0].name if evidence else tested.traits[0].name
    scored = state.rows if state else encoded
    null = partial(
        _null, audit, encoded, state
    )  # not all detectors need it, and it takes a look at the first rows
    outcomes, compared, scores = _detect(audit, encoded, scored, state, null, leader, settings)
    if scored:
        outcomes |= {
            each.name: third_party_evidence(audit, each, scored, scores) for each in third_party
        }
    if state:
        outcomes["trait"] = trait.trait_outcome(
            state, evidence, between_trait_sd(state, audit.surveyed, openly, leader)
        )
    copies = _tuned(audit, scored, null, tested, openly, settings)
    outcomes["tuned"] = copies.evidence if isinstance(copies, TunedCopies) else copies
    looked_at = len(sample.examples) + sum(sample.skipped.values())
    lost = lost_share(skipped, looked_at)
    judge = partial(
        decide, alpha=settings["alpha"], skipped_share=lost, writing=writing_of(outcomes)
    )
    prompted = judge(evidence, _bounds(doses, audit.surveyed, tested), scanned=len(scored))
    verdict = with_copies(prompted, copies, judge, settings["detectors"])
    _write_tables(audit, scored, scores, compared)
    return ScanReport(
        dataset=sample.info,
        verdict=verdict,
        rows_scanned=len(scored),
        rows_skipped=skipped,
        reference=_reference(audit.lm),
        traits=evidence,
        divergence=divergence.values(compared) if compared else Skipped("no rows, or switched off"),
        detectors={**dict.fromkeys(DETECTORS, Skipped("switched off")), **outcomes},
        openly={name: len(rows) for name, rows in openly.items() if rows},
        examples=example_rows.example_rows(audit, compared) if compared else (),
        timing=_timing(started, half_way, state),
        settings=settings,
        versions=versions,
        rows_read=looked_at,
    )


def _timing(started: float, half_way: float, state: PanelTestState | None) -> dict[str, float]:
    return {
        "survey_seconds": half_way - started,
        "total_seconds": time.monotonic() - started,
        "trait_tokens": float(sum(state.tokens.values())) if state else 0.0,
    }


def _null(
    audit: ScanContext, rows: Sequence[TokenizedRow], state: PanelTestState | None
) -> NullModel:
    return state.null if state else find_null(rows, audit.score, audit.run)


def _rows(
    audit: ScanContext, sample: Sample, tested: Panel, settings: Mapping[str, Any]
) -> tuple[dict[str, set[int]], list[TokenizedRow], dict[str, int]]:
    """Rows that mention each trait openly, the rows to score, and how many are skipped for which
    reason.
    """
    encoded, skipped = stages.encode(audit.renderer, sample)
    indices = list(audit.examples)
    texts = [
        "\n".join(m.content for m in each.messages) or each.text or ""
        for each in audit.examples.values()
    ]
    openly = {name: {indices[i] for i in rows} for name, rows in mentions(tested, texts).items()}
    if settings["exclude_open"]:
        spoken = set().union(*openly.values())
        if count := sum(row.index in spoken for row in encoded):
            skipped["mentions_trait"] = count
        encoded = [row for row in encoded if row.index not in spoken]
    if settings["rows"] == "auto":
        places = audit.surveyed.trait_indices(settings["tested"])
        encoded = encoded[
            : stages.rows_within_budget(
                encoded, families(audit.surveyed, audit.seed), places, audit.screen
            )
        ]
    return openly, encoded, skipped


def _survey(
    audit: ScanContext,
    rows: list[TokenizedRow],
    tested: Panel,
    openly: Mapping[str, set[int]],
    settings: Mapping[str, Any],
) -> PanelTestState | None:
    if len(rows) < MIN_ROWS or "trait" not in settings["detectors"]:
        return None
    return panel_test(
        rows,
        audit.surveyed,
        audit.score,
        tested=audit.surveyed.trait_indices(settings["tested"]),
        hypotheses=_hypotheses(tested, settings),
        hidden_from=openly,
        seed=audit.seed,
        alpha=settings["alpha"],
        stop_early=settings["rows"] != "all",
        store=audit.run,
        progress=audit.progress,
    )


def _hypotheses(tested: Panel, settings: Mapping[str, Any]) -> int:
    """Each trait counts twice where both its prompt and a copy tuned on it are tested, so that
    alpha holds for all.
    """
    return len(tested.traits) * len({"trait", "tuned"} & set(settings["detectors"]))


def _tuned(
    audit: ScanContext,
    rows: Sequence[TokenizedRow],
    null: Callable[[], NullModel],
    tested: Panel,
    openly: Mapping[str, set[int]],
    settings: Mapping[str, Any],
) -> TunedCopies | Skipped:
    if "tuned" not in settings["detectors"]:
        return Skipped("not asked for; --tuned turns it on")
    if not rows:
        return Skipped("no row could be scored")
    return score_tuned_copies(audit, rows, null(), tested, openly, _hypotheses(tested, settings))


def _detect(
    audit: ScanContext,
    encoded: Sequence[TokenizedRow],
    rows: Sequence[TokenizedRow],
    state: PanelTestState | None,
    null: Callable[[], NullModel],
    leader: str,
    settings: Mapping[str, Any],
) -> tuple[Outcomes, divergence.Divergence | None, Sequence[TokenScores]]:
    """Every detector but `trait`: its outcome, the divergence tokens, and the reference's scores of
    `rows`.

    encoded: all rows drawn; some need more than the survey did.
    """
    chosen = settings["detectors"]
    if not rows:
        return {name: Skipped("no row could be scored") for name in chosen}, None, ()
    outcomes: Outcomes = {}
    scores = state.reference if state else next(audit.score(rows, [None]))
    by_teacher = (
        score_under(audit.teacher, audit.renderer, rows, None, top=1) if audit.teacher else None
    )
    compared = None
    if "divergence" in chosen:
        compared = divergence.compare(audit, rows, state, leader, by_teacher)
        outcomes["divergence"] = divergence.evidence(divergence.values(compared))
    if "fit" in chosen:
        outcomes["fit"] = fit.fit(rows, by_teacher or scores)
    if "first_step" in chosen:
        audit.progress(Progress("taking a first step", 0, None))
        outcomes["first_step"] = first_step.take_first_step(audit, encoded, null())
    if "surface" in chosen:
        outcomes["surface"] = compare_with_reference(audit, encoded, null())
    if "trait" in chosen:
        outcomes["trait"] = Skipped(f"{len(rows)} rows; the panel survey needs at least {MIN_ROWS}")
    return outcomes, compared, scores


def _bounds(doses: Mapping[int, Estimate], panel: Panel, tested: Panel) -> dict[str, float | None]:
    """One-sided upper 95 % bound of the dose of every trait tested, None where there is no
    estimate.
    """
    named = {panel.traits[k].name: each.upper() for k, each in doses.items()}
    return {trait.name: named.get(trait.name) for trait in tested.traits}


def _write_tables(
    audit: ScanContext,
    rows: Sequence[TokenizedRow],
    scores: Sequence[TokenScores],
    compared: divergence.Divergence | None,
) -> None:
    if rows:
        audit.run.write_table(
            "rows.parquet", tables.row_table(rows, scores, compared, audit.examples)
        )
        audit.run.write_table("tokens.parquet", tables.token_table(rows, scores, compared))
