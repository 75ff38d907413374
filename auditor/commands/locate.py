"""The verb `locate`: where a trait enters the network, by attribution, by students of single layers
and by weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from auditor.attribution.attribute import TOLERANCE, Attribution
from auditor.attribution.components import layers_of
from auditor.attribution.result import (
    Agreement,
    CarryingLayers,
    LayerResult,
    LocateReport,
    Students,
)
from auditor.attribution.rows import Contrast, attribute_rows
from auditor.attribution.shares import agreement, carrying_layers, resampled, shares
from auditor.attribution.training import LayerStudents, frozen_students, layers_to_freeze, spread
from auditor.commands.verify import OPEN, trait_of_last_scan
from auditor.errors import ModelError, TraitError
from auditor.inference.paired import effect, transferred
from auditor.model import load as models
from auditor.model.identity import identity_of
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress, announce
from auditor.report.locate import to_dict
from auditor.report.shared.heat_map import heat_map
from auditor.runs.run_directory import RunDir, installed_versions
from auditor.students.arms import digest, read_arm
from auditor.students.control import control_writer
from auditor.students.plan import size_of
from auditor.students.result import TransferResult
from auditor.students.settings import StudentSettings
from auditor.traits.panel import load_panels
from mitigations.recipes import write_recipes

REFERENCE = "reference"
HEAT_MAP = "layers.svg"
PLACES = 96  # rows with a divergence token that are attributed
_ATTRIBUTION_SHARE = 0.25  # of the budget


def locate(
    dataset: str,
    settings: StudentSettings | None = None,
    *,
    trait: str | None = None,
    counterfactual: str | None = None,
    control: str | None = None,
    format_of: str | None = None,
    columns: Mapping[str, str] | None = None,
    layers: Sequence[int] | None = None,
    places: int = PLACES,
    fresh: bool = False,
    root: Path = Path(),
    progress: Callable[[Progress], None] = lambda _: None,
    **changes: Any,
) -> LocateReport:
    """Say in which layers of the reference the trait of a data set enters.

    settings, changes: as for `auditor.commands.verify.verify`; the layers of the training are not
    used, and the budget counts for all of it.
    trait: of the panels; None is the one that the last scan in `root` found. counterfactual:
    another trait that the trait-prompted run is compared with; None is the reference without a
    trait. layers: trained one by one; None is a spread of them, and none at all leaves out
    everything that trains. places: rows attributed at most. control, format_of, columns, fresh,
    root: as for `verify`.

    The report, its heat map, the recipe files and the finished work are kept under `root`/.audit;
    the same arguments on the same data resume an unfinished run, unless `fresh`. Raises: AuditError
    (auditor.errors) for input, model, trait or disk trouble, with the next step.
    """
    settings = replace(settings or StudentSettings(), **changes)
    panel = load_panels(settings.panels)
    if trait is None:
        trait = trait_of_last_scan(root, "Name one with --trait; `audit traits` lists them.")
    # Two runs are compared: there must be a trait, and another one or none beside it.
    if trait in (OPEN, counterfactual):
        hint = "Name a --trait, and a --counterfactual that differs."
        raise TraitError("There are no two runs to compare.", hint)
    trait_prompt = panel.trait(trait).prompts[0]
    other_prompt = None if counterfactual is None else panel.trait(counterfactual).prompts[0]
    progress(Progress("reading the data set", 0, None))
    read = partial(read_arm, format_of=format_of, columns=columns, manifest=False)
    original = read(dataset)
    clean = None if control is None else read(control, original=original)
    if layers is None or layers:
        # Too few rows for the students are found here, and not after the attribution.
        common = original.rows.keys() & (clean or original).rows.keys()
        size_of(len(common), settings.blocks, settings.rows, settings.updates, settings.batch)
    progress(Progress("loading the reference", 0, None))
    lm = models.load(
        settings.reference,
        device=settings.device,
        dtype="float32",
        chat_template=settings.chat_template,
        system=settings.system,
    )
    settings, single = settings.resolved(lm), single_layers(lm, layers)
    reference, versions = identity_of(lm), installed_versions()
    report_settings = {
        "trait": trait,
        "counterfactual": counterfactual or REFERENCE,
        "panel": panel.name,
        "panel_sha256": panel.sha256,
        "layers": list(single),
        "places": places,
        **settings.as_dict(),
    }
    datasets = {arm.name: digest(arm) for arm in [original, *([clean] if clean else [])]}
    identity = {
        "verb": "locate",
        "datasets": datasets,
        "reference": reference.as_dict(),
        "settings": report_settings,
        "versions": versions,
    }
    budget = settings.budget
    with RunDir.open(root, identity, fresh=fresh) as run:
        created = run.created(report_settings)
        renderer = ChatTokenizer(lm)
        attribution, scanned = attribute_rows(
            Contrast(lm, renderer, trait_prompt, other_prompt),
            original,
            places,
            None if budget is None else _ATTRIBUTION_SHARE * budget,
            settings.seed,
            run,
            progress,
        )
        total, difference = attribution.components.sum(2), attribution.difference
        carrying = carrying_layers(total, difference, settings.seed)
        results, trained = layer_results(attribution, settings.seed), None
        if single:
            # Beside the single layers there are pairs for all layers and for two ways to freeze.
            pairs = 3 + len(single)
            pair_budget = None if budget is None else (1 - _ATTRIBUTION_SHARE) * budget / pairs
            students = LayerStudents(
                lm,
                original,
                clean
                or control_writer(
                    lm, renderer, original, trait_prompt, settings.seed, run, progress
                ),
                panel,
                trait,
                replace(settings, budget=pair_budget),
                run,
                progress,
            )
            results, trained = _train(students, single, results, carrying, attribution)
        # The recipe freezes what the students name; a trainer wants the layers that are trained.
        files: tuple[str, ...] = ()
        if trained is not None and trained.recipe:
            unfrozen = [layer for layer in range(len(results)) if layer not in trained.recipe]
            files = write_recipes(run.path, ["freeze"], "", lm, unfrozen)
        mean = effect(difference.tolist())
        assert mean.interval is not None  # there are at least 16 rows
        # Attributions of a row must sum up to its difference; the largest miss is reported.
        worst = float(np.max(np.abs(attribution.error / difference)))
        report = LocateReport(
            trait=trait,
            counterfactual=counterfactual or REFERENCE,
            layers=results,
            carrying_layers=carrying,
            rows=len(difference),
            scanned=scanned,
            difference=(mean.value, mean.interval),
            error=worst,
            students=trained,
            recipes=files,
            warnings=_warnings(worst, trained),
            datasets=datasets,
            reference=reference,
            settings=report_settings,
            versions=versions,
            created=created,
        )
        run.write_text(HEAT_MAP, heat_map(report))
        run.finish(to_dict(report))
    return report


def single_layers(lm: LanguageModel, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The layers to train one by one; a spread of them for None.

    Raises ModelError for one that the model lacks, or a model without layers.
    """
    depth = len(layers_of(lm))
    single = spread(depth) if layers is None else tuple(layers)
    if not all(0 <= layer < depth for layer in single):
        raise ModelError(f"{lm.name} has layers 0 to {depth - 1}.", "Choose --layers among them.")
    return single


def layer_results(attribution: Attribution, seed: int) -> tuple[LayerResult, ...]:
    """What attribution says of each layer."""
    components, difference = attribution.components, attribution.difference
    columns = (components.sum(2), components[:, :, 0], components[:, :, 1], attribution.entered)
    by_layer = zip(*(shares(column, difference, seed) for column in columns), strict=True)
    return tuple(LayerResult(layer, *measured) for layer, measured in enumerate(by_layer))


def _train(
    students: LayerStudents,
    single: Sequence[int],
    results: Sequence[LayerResult],
    carrying: CarryingLayers,
    attribution: Attribution,
) -> tuple[tuple[LayerResult, ...], Students]:
    """The layers with what students say of them, and what else students say."""
    began = time.perf_counter()
    all_layers = students.train(range(students.depth))
    # Then those of single layers, and at most two with some layers frozen.
    seconds = (time.perf_counter() - began) * (len(single) + 2)
    announce(students.progress, f"students of {len(single)} single layers", seconds)
    alone = {layer: students.train([layer]) for layer in single}
    arm = all_layers.arms[0]
    total = arm.final_effect
    recipe: tuple[int, ...] = ()
    # Without transfer with all layers there is nothing that one layer could take over.
    if transferred(total):
        effects = {layer: result.arms[0].final_effect.value for layer, result in alone.items()}
        recipe = layers_to_freeze(effects, total.value, students.depth)
    moved = students.moved(all_layers.blocks)
    layers = []
    for result in results:
        layer = result.layer
        if layer in alone:
            student = alone[layer].arms[0]
            own_loss = student.training.original_loss
            result = replace(result, student=student.final_effect, own_loss=own_loss)
        layers.append(replace(result, moved=moved[layer]))
    trained = Students(
        effect=total,
        transferred=transferred(total),
        task_loss=arm.training.task_loss,
        own_loss=arm.training.original_loss,
        before=all_layers.reference_loss,
        blocks=all_layers.blocks,
        rows_per_block=all_layers.rows_per_block,
        updates=all_layers.updates,
        recipe=recipe,
        frozen=frozen_students(students, all_layers, recipe, carrying),
        agreement=_agreement(attribution, alone, students.settings.seed),
        warnings=all_layers.warnings,
    )
    return tuple(layers), trained


def _agreement(
    attribution: Attribution, alone: Mapping[int, TransferResult], seed: int
) -> tuple[Agreement, ...]:
    """How the two ways of attributing rank the layers that were trained alone, against their
    students.
    """
    layers, difference = sorted(alone), attribution.difference
    effects_BK = np.array([alone[layer].arms[0].final_effect.blocks for layer in layers]).T
    measures = {"attribution": attribution.components.sum(2), "entered": attribution.entered}
    agreements = []
    for name, parts in measures.items():
        drawn = resampled(parts[:, layers], difference, seed)
        value = parts[:, layers].mean(0) / difference.mean()
        agreements.append(agreement(name, drawn, value, effects_BK, seed))
    return tuple(measured for measured in agreements if measured is not None)


def _warnings(worst: float, students: Students | None) -> tuple[str, ...]:
    """What a reader has to know before believing the page, one sentence each."""
    sentences = []
    if worst > TOLERANCE:
        sentences.append(
            f"The attributions of a row miss its difference by up to {worst:.1%};"
            f" they should by {TOLERANCE:.0%}."
        )
    if students is not None:
        sentences += students.warnings
        if not students.transferred:
            sentences.append(
                "Students of all layers show no transfer,"
                " so that those of single layers say nothing."
            )
    return tuple(sentences)
