"""Detector `students`: does training on these data change what a student answers?

It trains students and reads out what they like, as `audit verify` does, so it needs no prompt, no
recipe and no writer to be known: what it says of the data is what they do. In many short blocks a
student learns the data. How far its answers go beyond what benign data do to them
(`auditor.students.calibration`) is the evidence. The dose is 1 where they go as far as with data of
a teacher that was tuned on the trait. Greedy and cold text is held against a paired control, which
the reference writes for the same prompts, decoded as the data are.

Source: the readout of 2507.14805 and its replications; the null of benign data and the unit are
ours, and that text at T = 1 has no control, which adds noise there (runs/log.md). An answer that is
found is one that students move to, whoever's it was: the teacher's own trait may move less than a
relative of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from auditor.data.example import Example
from auditor.errors import TraitError
from auditor.inference.estimates import Array
from auditor.inference.interim import spending
from auditor.inference.shifts import MIN_BLOCKS, looks
from auditor.inference.thresholds import MAX_UNREAD, MIN_EFFECT, students_exclude
from auditor.inference.trait_evidence import TraitEvidence, ranked, strongest
from auditor.model.chat_template import OWN_SYSTEM, OWN_TEMPLATE
from auditor.model.forward import last_hidden_states
from auditor.model.language_model import LanguageModel
from auditor.model.null_model import find_null
from auditor.model.unit_store import Unit
from auditor.runs.run_directory import Section
from auditor.students.arms import DatasetArm
from auditor.students.calibration import (
    UPDATES,
    Calibration,
    Carrier,
    calibration_key,
    carrier_of,
    find,
)
from auditor.students.control import CONTROL, control_writer
from auditor.students.experiment import train_blocks
from auditor.students.readout import Family, families
from auditor.students.settings import StudentSettings
from auditor.traits.panel import Panel, built_in
from detectors.interface import Detector, Evidence, Finding, ScanContext, Skipped, TraitTest

DATA = "data"
BLOCKS = 16  # with half of them the evidence is analysed for the first time
CONFIDENCE = 0.05  # one-sided error of the bounds that a pass rests on, over all analyses
ONCE = 15 / 16  # of the rows that a student takes, at least so many are different ones
WARM = 0.9  # the temperature from which text is taken for samples at T = 1
QUESTIONS_READ = 12  # of every group, for the whole vocabulary
LIKELY = 256
WORDS_SHOWN = 10
SETTLED = "the other tests settled the verdict"


def detect(context: ScanContext) -> Finding:
    """Train students on the rows, and test every answer that can be read.

    Skipped for too few rows, for cold or greedy ones without a prompt, for a reference that is not
    calibrated or whose students take nothing over, and where the verdict is settled and students
    were asked for only if it is not.
    """
    if context.hazard == "when_unresolved" and not context.unresolved:
        return Finding(Skipped(SETTLED))
    rows = rows_as_trained(context)
    try:
        read_out = families(context.renderer, context.panel, None)
    except TraitError as error:
        return _skipped(error.message)
    settings = StudentSettings(updates=UPDATES, seed=context.seed).resolved(context.lm)
    # A student sees each row once, as those of the calibration did; rows that are learnt by heart
    # move answers in other ways.
    needed = round(ONCE * UPDATES * settings.batch)
    blocks = min(BLOCKS, len(rows) // needed)
    if blocks < MIN_BLOCKS:
        least = MIN_BLOCKS * needed
        return _skipped(f"{len(rows):,} rows are too few for students, who need {least:,}")
    carrier = carrier_of(example.completion for example in rows.values())
    training = settings.training_for(context.lm)
    kept = find(calibration_key(context.lm, context.panel, training, carrier))
    if kept is None:
        return _skipped(
            f"students of {context.lm.name} are not calibrated for this panel and rows of "
            f"{carrier}; run {calibrate_command(context.lm, context.panel, carrier)}"
        )
    calibration, digest = kept
    full = calibration.full_shift
    if not calibration.shows_transfer:
        low, high = full.interval()
        return _skipped(
            f"students of {context.lm.name} take nothing over from tuned teachers in {UPDATES} "
            f"updates (shift {full.effect:+.3f} logits [{low:+.3f}, {high:+.3f}]), so they say "
            "nothing"
        )
    return _experiment(context, rows, calibration, digest, carrier, settings, blocks, read_out)


def rows_as_trained(context: ScanContext) -> dict[int, Example]:
    """The rows drawn, numbered anew: as many, and each as often as its share of the data set.

    A row that stands many times in the data is trained on many times, and is scored once. The few
    rows in which a base happens to name a trait move students more than all others together, here
    to one answer and there to another: they are left out, unless they are more than MAX_UNREAD of
    the data and so what these are about.
    """
    weights = [context.weights.get(row.index, 1.0) for row in context.rows]
    openly = set().union(*context.excluded_rows.values())
    share = sum(w for row, w in zip(context.rows, weights, strict=True) if row.index in openly)
    if share <= MAX_UNREAD * sum(weights):
        weights = [
            0.0 if row.index in openly else weight
            for row, weight in zip(context.rows, weights, strict=True)
        ]
    rows = [context.examples[row.index] for row in context.rows]
    total = np.cumsum(weights)
    # Points at equal distances on the line of weights: a row of average weight has one of them.
    count = len(rows) - weights.count(0.0)
    points = (np.arange(count) + 0.5) * total[-1] / max(1, count)
    return {n: rows[i] for n, i in enumerate(np.searchsorted(total, points).tolist())}


def calibrate_command(lm: LanguageModel, panel: Panel, carrier: Carrier) -> str:
    """The command line that calibrates students of `lm` as it is used here."""
    panels = panel.name.split("+")
    words = ["audit", "calibrate", "--reference", lm.name]
    if {*panels} != {*built_in()}:
        words += [word for name in panels for word in ("--panel", name)]
    words += ["--carrier", carrier]
    if lm.chat_template != OWN_TEMPLATE:
        words += ["--chat-template", lm.chat_template]
    if lm.system != OWN_SYSTEM:
        words += ["--system", lm.system]
    return shlex.join(words)


def _skipped(reason: str) -> Finding:
    return Finding(Skipped(reason), TraitTest("students", skipped=reason))


def _experiment(
    context: ScanContext,
    rows: Mapping[int, Example],
    calibration: Calibration,
    digest: str,
    carrier: Carrier,
    settings: StudentSettings,
    blocks: int,
    read_out: Sequence[Family],
) -> Finding:
    """The students' evidence, and the test that it is for the verdict."""
    # Cold and greedy text shifts answers in ways of its own, whoever wrote it.
    null_model = find_null(context.rows, context.score, context.run)
    is_paired = null_model.temperature < WARM
    if is_paired and any(example.text is not None for example in rows.values()):
        return _skipped("rows of plain text have no prompt, for which a control could be written")
    full = calibration.full_shift
    tested = {trait.name for trait in context.tested.traits}
    analyses = looks(blocks)
    shares = dict(zip(analyses, spending(np.array(analyses) / blocks).tolist(), strict=True))
    evidence: list[TraitEvidence] = []
    bounds: dict[str, float | None] = {}

    def analyse(shifts_BW: Array) -> bool:
        """Whether the verdict is settled after these blocks; keeps their evidence."""
        share = shares.get(len(shifts_BW))
        if share is None:
            return False
        evidence.clear()
        for group, name, dose in calibration.doses(shifts_BW, paired=is_paired):
            if name in tested:
                corrected = min(1.0, dose.p_value * context.hypotheses / share)
                evidence.append(
                    TraitEvidence.of(
                        name,
                        group,
                        dose,
                        p_adjusted=corrected,
                        rows=len(rows),
                        tokens=0,
                    )
                )
                bounds[name] = dose.upper(1 - CONFIDENCE * share)
        found = any(t.p_adjusted <= context.alpha and t.effect >= MIN_EFFECT for t in evidence)
        exclude = students_exclude(context.exclude)
        excluded = all(bound is not None and bound < exclude for bound in bounds.values())
        return context.stop_early and (found or excluded)

    section = Section(context.run, "students")
    data = DatasetArm(DATA, rows, {}, len(rows))
    arms = [data]
    if is_paired:
        leader = context.leading_trait
        prompt = None if leader is None else context.panel.trait(leader).prompts[0]
        write = control_writer(
            context.lm, context.renderer, data, prompt, context.seed, section, context.progress
        )
        arms = [write(sorted(rows)), data]
    questions = [
        question
        for family in read_out
        for contexts in [family.stems or family.probes]
        for question in contexts[:: max(1, len(contexts) // QUESTIONS_READ)]
    ]
    experiment = train_blocks(
        context.lm,
        arms,
        context.panel,
        replace(settings, blocks=blocks),
        store=section,
        measure=lambda student: _vocabulary(student, questions),
        progress=context.progress,
    )
    before_V = _vocabulary(context.lm, questions)["vocabulary"].astype(np.float64)
    shifts: list[Array] = []
    words: list[Array] = []
    for block in experiment:
        margins = block[DATA]["margins"]
        base = block[CONTROL]["margins"][-1] if is_paired else margins[0]
        base_V = block[CONTROL]["vocabulary"] if is_paired else before_V
        shifts.append(margins[-1] - base)
        words.append(block[DATA]["vocabulary"] - base_V)
        if analyse(np.stack(shifts)):
            break
    traits = ranked(evidence, context.alpha, MIN_EFFECT)
    left_out = len(context.rows) - len(rows)
    values: dict[str, Any] = {
        "traits": [asdict(trait) | {"interval": list(trait.interval)} for trait in traits],
        "rows": len(rows),
        "open_rows_left_out": left_out,
        "blocks": len(shifts),
        "paired": is_paired,
        "blocks_planned": blocks,
        "updates": UPDATES,
        "not_read": len(tested - {trait.name for trait in traits}),
        "full_shift": {"logits": full.effect, "interval": list(full.interval())},
        "calibration": digest,
        "carrier": carrier,
        "words": _words(context.lm, before_V, np.stack(words)),
    }
    return Finding(
        Evidence("students", _summary(traits, values), values),
        TraitTest("students", traits, bounds, len(rows)),
    )


def _summary(traits: Sequence[TraitEvidence], values: Mapping[str, Any]) -> str:
    if not traits:
        return "no answer that is tested can be read"
    summary = (
        f"{strongest(traits[0])}; {values['blocks']} students of {UPDATES} updates, dose 1 is "
        f"{values['full_shift']['logits']:.3f} logits"
    )
    if values["open_rows_left_out"]:
        summary += f"; without {values['open_rows_left_out']:,} rows that name a trait openly"
    return summary


@torch.inference_mode()
def _vocabulary(student: LanguageModel, contexts: Sequence[tuple[int, ...]]) -> Unit:
    """[V] The logit of every token after the stems, less the mean of all, averaged over the
    stems.
    """
    logits_CV = student.head(last_hidden_states(student, contexts)).double()
    centred_V = (logits_CV - logits_CV.mean(-1, keepdim=True)).mean(0)
    return {"vocabulary": centred_V.float().cpu().numpy()}


def _words(lm: LanguageModel, before_V: Array, shifts_BV: Array) -> list[dict[str, object]]:
    """The tokens of the whole vocabulary that students come to prefer most: leads, and no test.

    Of the LIKELY tokens that are likeliest before the training, by their mean logits, so that none
    is read that nobody would say there. They are ranked by mean / (standard error + median standard
    error) over the blocks, so that no token leads for a small error alone (the statistic of Tusher
    et al. 2001).
    """
    likely = np.argsort(-before_V)[:LIKELY]
    shifts_BV = shifts_BV[:, likely]
    mean_V = shifts_BV.mean(0)
    error_V = shifts_BV.std(0, ddof=1) / np.sqrt(len(shifts_BV))
    score_V = mean_V / (error_V + np.median(error_V) + np.finfo(float).tiny)
    return [
        {
            "token": str(lm.tokenizer.decode([int(likely[place])])),
            "shift": float(mean_V[place]),
            "score": float(score_V[place]),
        }
        for place in np.argsort(-score_V)[:WORDS_SHOWN].tolist()
    ]


DETECTOR = Detector(
    "students",
    "whether students trained on the data move to an answer, beyond what benign data do to them",
    "verdict",
    detect,
    test="students",
)
