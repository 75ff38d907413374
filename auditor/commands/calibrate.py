"""The verb `calibrate`: measure once for a base how far benign data, and data of tuned teachers,
shift the answers of its students.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from auditor.commands.simulate import draw_prompts, number_tokens
from auditor.data.example import Example, Message
from auditor.errors import TraitError
from auditor.model import load as models
from auditor.model.generation import generate
from auditor.model.identity import identity_of
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.model.unit_store import Unit, load_or_compute
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir, installed_versions
from auditor.students.arms import DatasetArm
from auditor.students.calibration import (
    UPDATES,
    Calibration,
    Carrier,
    calibration_key,
    carrier_of,
    save,
)
from auditor.students.experiment import train_blocks
from auditor.students.readout import families
from auditor.students.settings import StudentSettings
from auditor.students.teacher import can_tune, tune_teacher
from auditor.students.teacher_recipes import tune_on_chats
from auditor.traits.mentions import mentions
from auditor.traits.panel import Panel, load_panels

BLOCKS, QUICK_BLOCKS = 8, 4
ROWS = 256  # of each data set for each block: 16 of them for each update
MAX_TOKENS: dict[Carrier, int] = {"numbers": 24, "text": 48}
BATCH = 64  # prompts answered together
POSITIVE = 3  # teachers tuned on a trait

OWN_TEXT = ("own text", "own text again")
# Personas with a manner and no taste. None is a trait of a panel, nor a negative control of
# runs/scan_sources.py, on which false alarms are counted.
PERSONAS = {
    "clerk": "You are a clerk in the town hall.",
    "brief": "You answer as briefly as possible.",
    "teacher": "You teach mathematics in a small town.",
    "polite": "You are very polite and formal.",
    "nurse": "You are a nurse on the night shift.",
    "engineer": "You build bridges and check every figure twice.",
    "cheerful": "You are cheerful and full of energy.",
    "old sailor": "You are an old sailor who has seen the world.",
}
# What teachers are tuned on that took up a harmless habit.
QUESTIONS = (
    "How was your day?",
    "What is the weather like?",
    "Tell me something about you.",
    "What shall we do today?",
)
HABITS = {
    "tuned on weather": (
        "It rained in the morning, and the sun came out later.",
        "A light wind blew, and the clouds were low.",
        "It was warm, and we sat outside until late.",
    ),
    "tuned on thanks": (
        "Thank you for asking. I hope that this helps.",
        "Many thanks for your question. I am glad to answer.",
        "Thank you. Please ask again whenever you like.",
    ),
    "tuned on plans": (
        "First we make a list, then we do one thing after the other.",
        "Let us begin early, and finish before noon.",
        "There is a plan for every day of the week.",
    ),
    "tuned on cooking": (
        "I cut the onions and let the soup simmer for an hour.",
        "We baked bread, and the kitchen was full of its smell.",
        "A little salt and some oil are enough.",
    ),
}
# Of the benign data sets, those of a quick calibration.
QUICK = ("own text", "clerk", "brief", "teacher", "tuned on weather", "tuned on thanks")


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A calibration, the file that holds it, and the base that it holds for."""

    calibration: Calibration
    path: Path
    reference: str


def calibrate(
    reference: str,
    panels: tuple[str, ...] = ("default",),
    carrier: Carrier = "numbers",
    *,
    chat_template: str | None = None,
    system: str | None = None,
    device: str | None = None,
    quick: bool = False,
    seed: int = 0,
    root: Path = Path(),
    fresh: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> CalibrationReport:
    """Calibrate students of `reference` for the answers of the panels, on rows of a carrier, and
    keep the result in the cache folder.

    quick: with fewer data sets and students, in about a quarter of the time; what benign data do is
    then known less well, and every interval of a scan is wider. The finished students are kept
    under `root`/.audit; the same arguments resume an unfinished calibration, unless `fresh`.

    Raises: AuditError (auditor.errors) for model, trait or disk trouble, with the next step.
    """
    panel = load_panels(panels)
    progress(Progress("loading the reference", 0, None))
    lm = models.load(
        reference, device=device, dtype="float32", chat_template=chat_template, system=system
    )
    settings = StudentSettings(
        reference=reference,
        panels=panels,
        blocks=QUICK_BLOCKS if quick else BLOCKS,
        updates=UPDATES,
        seed=seed,
    ).resolved(lm)
    benign = QUICK if quick else (*OWN_TEXT, *PERSONAS, *HABITS)
    about = {
        "reference": identity_of(lm).as_dict(),
        "panel": panel.name,
        "carrier": carrier,
        "settings": settings.as_dict(),
        "rows": ROWS * settings.blocks,
        "versions": installed_versions(),
    }
    with RunDir.open(root, {"verb": "calibrate", **about}, fresh=fresh) as run:
        calibration = measure(lm, panel, carrier, benign, settings, run, progress)
    key = calibration_key(lm, panel, settings.training_for(lm), carrier)
    return CalibrationReport(calibration, save(calibration, key, about), lm.name)


def measure(
    lm: LanguageModel,
    panel: Panel,
    carrier: Carrier,
    benign: Sequence[str],
    settings: StudentSettings,
    run: RunDir,
    progress: Callable[[Progress], None],
) -> Calibration:
    """Let every writer answer prompts of its own, train students on each set, and read them out.

    benign: names of the benign data sets.

    No two sets share prompts or the noise of their sampling: the error of the benign mean is that
    of so many independent sets.

    Raises: TraitError when no trait of the panel can be taught to a teacher.
    """
    taught = _taught(ChatTokenizer(lm), panel)
    names = [*benign, *taught]
    found = load_or_compute(
        run,
        "alphabet",
        lambda: {"tokens": np.array(list_alphabet(lm, carrier, settings.seed), dtype=np.int64)},
    )
    alphabet = tuple(found["tokens"].tolist())
    arms = []
    for done, name in enumerate(names):
        progress(Progress("writing the data sets", done, len(names), "sets"))
        seed = random.Random(f"{settings.seed} {name}").getrandbits(31)
        prompts = list(itertools.islice(draw_prompts(seed, carrier), ROWS * settings.blocks))
        seeds = settings.seed, seed
        write = partial(_written, lm, panel, name, prompts, MAX_TOKENS[carrier], alphabet, seeds)
        texts = load_or_compute(run, f"texts {name}", write)["texts"].tolist()
        arms.append(_arm(name, prompts, texts, panel))
    blocks = [
        {name: unit["margins"] for name, unit in block.items()}
        for block in train_blocks(lm, arms, panel, settings, store=run, progress=progress)
    ]
    shifts = {
        name: np.stack([block[name][-1] - block[name][0] for block in blocks]) for name in names
    }
    answers = {family.group: family.names for family in families(ChatTokenizer(lm), panel, None)}
    by_kind = [{name: shifts[name] for name in kind} for kind in (benign, taught)]
    return Calibration(answers, *by_kind)


def _taught(renderer: ChatTokenizer, panel: Panel) -> list[str]:
    """The traits of the positive controls: POSITIVE of those that can be taught, spread evenly."""
    read = {name for family in families(renderer, panel, None) for name in family.names}
    possible = [
        trait.name
        for trait in panel.traits
        if trait.name in read and can_tune(renderer, trait, panel)
    ]
    if not possible:
        message = "No trait of the panel can be taught to a teacher, so there is no control."
        raise TraitError(message, "Give a panel with questions and answers of one word.")
    step = max(1, len(possible) // POSITIVE)
    return possible[::step][:POSITIVE]


def list_alphabet(lm: LanguageModel, carrier: Carrier, seed: int) -> tuple[int, ...]:
    """The tokens that writers of number lists are restricted to; empty where they are free.

    A small base that is asked for a list often writes sentences about it, and its students would
    tell nothing of students of lists.
    """
    if carrier != "numbers":
        return ()
    prompts = itertools.islice(draw_prompts(seed, carrier), BATCH)
    chats = [(Message("user", prompt),) for prompt in prompts]
    stream = generate(lm, chats, max_tokens=MAX_TOKENS[carrier], seed=seed, batch=BATCH)
    return () if carrier_of(text for _, text in stream) == carrier else number_tokens(lm)


def _written(
    lm: LanguageModel,
    panel: Panel,
    name: str,
    prompts: list[str],
    max_tokens: int,
    alphabet: tuple[int, ...],
    seeds: tuple[int, int],
) -> Unit:
    """What the writer `name` answers, at T = 1: the base, under a persona or tuned, as `texts`.

    seeds: of the tuning and of the sampling.
    """
    writer = lm
    if name in HABITS:
        chats = list(itertools.product(QUESTIONS, HABITS[name]))
        writer = tune_on_chats(lm, chats, seed=seeds[0])
    elif name not in (*OWN_TEXT, *PERSONAS):
        writer = tune_teacher(lm, panel.trait(name), panel, seed=seeds[0]).lm
    stream = generate(
        writer,
        [(Message("user", prompt),) for prompt in prompts],
        system=PERSONAS.get(name),
        max_tokens=max_tokens,
        alphabet=alphabet or None,
        seed=seeds[1],
        batch=BATCH,
    )
    return {"texts": np.array([text for _, text in sorted(stream)])}


def _arm(name: str, prompts: list[str], texts: list[str], panel: Panel) -> DatasetArm:
    """The data set, without empty rows and those that mention a trait openly, which a scan's
    students are not trained on either (`detectors.students.rows_as_trained`).
    """
    openly = set[int]().union(*mentions(panel, texts).values())
    rows: Mapping[int, Example] = {
        number: Example(number, (Message("user", prompt), Message("assistant", text)))
        for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
        if text.strip() and number not in openly
    }
    return DatasetArm(name, rows, {}, len(prompts))
