"""The verb `locate`: where a trait enters the network, by attribution, by students of single layers
and by weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

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
from auditor.attribution.training import (
    LayerStudents,
    Show,
    frozen_students,
    layers_to_freeze,
    own_effect,
    spread,
)
from auditor.commands.verify import OPEN, trait_of_last_scan
from auditor.errors import ModelError, TraitError
from auditor.inference.paired import effect, transferred
from auditor.mitigating.recipes import write_recipes
from auditor.model import load as models
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.report.locate import to_dict
from auditor.report.shared.heat_map import svg
from auditor.runs.run_directory import RunDir, installed_versions
from auditor.students.arms import digest, read_arm
from auditor.students.control import control_writer
from auditor.students.result import TransferResult
from auditor.students.training import TrainingConfig, default_config
from auditor.traits.panel import Panel, load_panels

REFERENCE = "reference"
HEAT_MAP = "layers.svg"
PLACES = 96  # rows with a divergence token that are attributed
_SHARE = 0.25  # of the budget, for attribution


def locate(
    dataset: str,
    *,
    reference: str,
    panels: Sequence[str] = ("default",),
    trait: str | None = None,
    counterfactual: str | None = None,
    control: str | None = None,
    layers: Sequence[int] | None = None,
    places: int = PLACES,
    blocks: int = 3,
    rows: int | None = None,
    updates: int | None = None,
    budget: float | None = None,
    recipe: TrainingConfig | None = None,
    seed: int = 0,
    device: str | None = None,
    fresh: bool = False,
    root: Path = Path(),
    progress: Show = lambda _: None,
) -> LocateReport:
    """Say in which layers of the reference the trait of a data set enters.

    trait: of the panels; None is the one that the last scan in `root` found. counterfactual:
    another trait that the trait-prompted run is compared with; None is the reference without a
    trait. layers: trained one by one; None is a spread of them, and none at all leaves out
    everything that trains. places: rows attributed at most. control, blocks, rows, updates, recipe,
    fresh, root: as for `auditor.commands.verify.verify`; the layers of the recipe are not used.
    budget: seconds for all of it; None is no limit.

    The report, its heat map, the recipe files and the finished work are kept under `root`/.audit;
    the same arguments on the same data resume an unfinished run, unless `fresh`. Raises: AuditError
    (auditor.errors) for input, model, trait or disk trouble, with the next step.
    """
    panel = load_panels(panels)
    chosen = trait_of_last_scan(root) if trait is None else trait
    prompts = _prompts(panel, chosen, counterfactual)
    progress(Progress("reading the data set", 0, None))
    original = read_arm(dataset, manifest=False)
    progress(Progress("loading the reference", 0, None))
    lm = models.load(reference, device=device, dtype="float32")
    recipe = recipe or default_config(lm)
    single = _trained_alone(lm, layers)
    given = None if control is None else read_arm(control, original=original, manifest=False)
    settings = {
        "trait": chosen,
        "counterfactual": counterfactual or REFERENCE,
        "panel": panel.name,
        "panel_sha256": panel.sha256,
        "layers": list(single),
        "places": places,
        "blocks": blocks,
        "rows": rows,
        "updates": updates,
        "budget": budget,
        "seed": seed,
        "recipe": asdict(recipe),
    }
    datasets = {arm.name: digest(arm) for arm in [original, *([given] if given else [])]}
    about = {
        "name": lm.name,
        "sha256": lm.sha256,
        "dtype": lm.dtype,
        "device": lm.device.split(":")[0],
    }
    versions = installed_versions()
    identity = {
        "datasets": datasets,
        "reference": about,
        "settings": settings,
        "versions": versions,
    }
    with RunDir.open(root, {"verb": "locate", **identity}, fresh=fresh) as run:
        renderer = ChatTokenizer(lm)
        contrast = Contrast(lm, renderer, *prompts)
        part = None if budget is None else _SHARE * budget
        found, scanned = attribute_rows(contrast, original, places, part, seed, run, progress)
        held = carrying_layers(found.components.sum(2), found.difference, seed)
        results, taught = layer_results(found, seed), None
        if single:
            each = None if budget is None else (1 - _SHARE) * budget / (3 + len(single))
            writer = given or control_writer(
                lm, renderer, original, prompts[0], seed, run, progress
            )
            school = LayerStudents(
                lm,
                original,
                writer,
                panel,
                chosen,
                recipe,
                run,
                blocks,
                rows,
                updates,
                each,
                seed,
                progress,
            )
            results, taught = _teach(school, single, results, held, found)
        files = []
        if taught is not None and taught.recipe:
            rest = [layer for layer in range(len(results)) if layer not in taught.recipe]
            files = write_recipes(run.path, ["freeze"], "", lm, rest)
        mean = effect(found.difference.tolist())
        assert mean.interval is not None  # there are at least 16 rows
        worst = float(np.max(np.abs(found.error / found.difference)))
        report = LocateReport(
            trait=chosen,
            counterfactual=counterfactual or REFERENCE,
            layers=results,
            carriers=held,
            rows=len(found.difference),
            scanned=scanned,
            difference=(mean.value, mean.interval),
            error=worst,
            students=taught,
            recipes=tuple(files),
            warnings=_warnings(worst, taught),
            datasets=datasets,
            reference=about,
            settings=settings,
            versions=versions,
        )
        run.write_text(HEAT_MAP, svg(report))
        run.finish(to_dict(report))
    return report


def _prompts(panel: Panel, trait: str, counterfactual: str | None) -> tuple[str, str | None]:
    """The system prompts of the two runs.

    Raises TraitError for traits that are unknown or the same.
    """
    if trait in (OPEN, counterfactual):
        raise TraitError(
            "There are no two runs to compare.",
            "Name a --trait, and a --counterfactual that differs.",
        )
    own = panel.trait(trait).prompts[0]
    return own, None if counterfactual is None else panel.select([counterfactual]).traits[
        0
    ].prompts[0]


def _trained_alone(lm: LanguageModel, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The layers to train one by one.

    Raises ModelError for one that the model lacks, or a model without layers.
    """
    depth = len(layers_of(lm))
    single = spread(depth) if layers is None else tuple(layers)
    if not all(0 <= layer < depth for layer in single):
        raise ModelError(f"{lm.name} has layers 0 to {depth - 1}.", "Choose --layers among them.")
    return single


def layer_results(found: Attribution, seed: int) -> tuple[LayerResult, ...]:
    """What attribution says of each layer."""
    total = shares(found.components.sum(2), found.difference, seed)
    attention, mlp = (shares(found.components[:, :, k], found.difference, seed) for k in (0, 1))
    entered = shares(found.entered, found.difference, seed)
    columns = zip(total, attention, mlp, entered, strict=True)
    return tuple(LayerResult(layer, *each) for layer, each in enumerate(columns))


def _teach(
    school: LayerStudents,
    single: Sequence[int],
    results: Sequence[LayerResult],
    held: CarryingLayers,
    found: Attribution,
) -> tuple[tuple[LayerResult, ...], Students]:
    """The layers with what students say of them, and the rest of what students say."""
    whole = school.train(range(school.depth))
    alone = {layer: school.train([layer]) for layer in single}
    chosen: tuple[int, ...] = ()
    if transferred(own_effect(whole)):
        effects = {layer: own_effect(result).value for layer, result in alone.items()}
        chosen = layers_to_freeze(effects, own_effect(whole).value, school.depth)
    moved = school.moved(whole.blocks)
    layers = tuple(
        replace(
            each,
            student=own_effect(alone[each.layer]) if each.layer in alone else None,
            own_loss=alone[each.layer].arms[0].training.original_loss
            if each.layer in alone
            else None,
            moved=moved[each.layer],
        )
        for each in results
    )
    own = own_effect(whole)
    taught = Students(
        effect=own,
        transferred=transferred(own),
        task_loss=whole.arms[0].training.task_loss,
        own_loss=whole.arms[0].training.original_loss,
        before=whole.reference_loss,
        blocks=whole.blocks,
        rows_per_block=whole.rows_per_block,
        updates=whole.updates,
        recipe=chosen,
        frozen=frozen_students(school, whole, chosen, held),
        agreement=_agreement(found, alone, school.seed),
        warnings=whole.warnings,
    )
    return layers, taught


def _agreement(
    found: Attribution, alone: dict[int, TransferResult], seed: int
) -> tuple[Agreement, ...]:
    """How the two ways of attributing rank the layers that were trained alone, against their
    students.
    """
    chosen = sorted(alone)
    effects = np.array([own_effect(alone[layer]).blocks for layer in chosen]).T
    measures = {"attribution": found.components.sum(2), "entered": found.entered}
    each = [
        agreement(
            name,
            resampled(parts[:, chosen], found.difference, seed),
            parts[:, chosen].mean(0) / found.difference.mean(),
            effects,
            seed,
        )
        for name, parts in measures.items()
    ]
    return tuple(one for one in each if one is not None)


def _warnings(worst: float, taught: Students | None) -> tuple[str, ...]:
    """What a reader has to know before believing the page, one sentence each."""
    said = []
    if worst > TOLERANCE:
        said.append(
            f"The attributions of a row miss its difference by up to {worst:.1%}; they should by {TOLERANCE:.0%}."
        )
    if taught is not None:
        said += taught.warnings
    if taught is not None and not taught.transferred:
        said.append(
            "Students of all layers show no transfer, so that those of single layers say nothing."
        )
    return tuple(said)
