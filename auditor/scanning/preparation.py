"""From a sample of a data set to the context that the detectors of a scan work with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest

from auditor.data.coverage import Unread
from auditor.data.example import Sample, SkippedRow
from auditor.data.sample import read_sample
from auditor.errors import ModelError
from auditor.model import load as models
from auditor.model.builtin import BUILT_IN, BundledModel
from auditor.model.language_model import LanguageModel
from auditor.model.null_model import scorer
from auditor.model.precision import low_precision_copy
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir
from auditor.scanning.settings import AUTO_ROWS, ScanSettings
from auditor.traits.mentions import mentions
from auditor.traits.panel import Panel, with_control_traits
from detectors.interface import Detector, ScanContext


def prepare(
    settings: ScanSettings,
    detectors: Sequence[Detector],
    sample: Sample,
    lm: LanguageModel,
    teacher: LanguageModel | None,
    panel: Panel,
    tested: Panel,
    run: RunDir,
    progress: Callable[[Progress], None],
) -> tuple[ScanContext, dict[str, int], tuple[Unread, ...]]:
    """The context of a scan, how many rows were skipped for which reason, and what was left unread.

    teacher: the declared one, if there is one (`load_teacher`).
    """
    # To a bundled model another prompt is a mixture of those it knows, and no negative control.
    bundled = isinstance(BUILT_IN.get(lm.name), BundledModel)
    controlled = panel if bundled else with_control_traits(panel)
    renderer, screen = ChatTokenizer(lm), low_precision_copy(lm)
    rows, weights, skipped, unread = encode(renderer, sample)
    # A mention elsewhere hides nothing: a student is trained on completions, and those of the
    # reference are its own whatever their prompts say.
    completions = [example.completion for example in sample.examples]
    excluded = {
        name: {sample.examples[i].index for i in numbers}
        for name, numbers in mentions(tested, completions).items()
    }
    set_aside = set().union(*excluded.values()) if settings.exclude_open else set[int]()
    if count := sum(row.index in set_aside for row in rows):
        skipped["mentions_trait"] = count
        reason = "their completions mention a trait, and they were left out on request"
        unread = (*unread, Unread("rows", "set aside", count / len(rows), reason))
        rows = [row for row in rows if row.index not in set_aside]
    like, mentioned = earlier_rows(settings, renderer, tested, sample.seed)
    excluded_rows = {
        name: excluded.get(name, set()) | mentioned.get(name, set())
        for name in excluded.keys() | mentioned.keys()
    }
    context = ScanContext(
        lm=lm,
        renderer=renderer,
        score=scorer(lm, renderer, screen),
        panel=panel,
        tested=tested,
        controlled=controlled,
        # A trait counts once for every test, so that alpha holds for all tests together.
        hypotheses=len(tested.traits) * sum(detector.test is not None for detector in detectors),
        alpha=settings.alpha,
        exclude=settings.exclude,
        stop_early=settings.rows != "all",
        hazard=settings.hazard,
        budget=settings.budget if settings.rows == "auto" else math.inf,
        fast_dtype=screen.dtype,
        seed=sample.seed,
        examples={example.index: example for example in sample.examples},
        rows=rows,
        excluded_rows=excluded_rows,
        weights=weights,
        like=like,
        teacher=teacher,
        run=run,
        progress=progress,
    )
    return context, skipped, unread


def earlier_rows(
    settings: ScanSettings, renderer: ChatTokenizer, tested: Panel, seed: int
) -> tuple[list[TokenizedRow], dict[str, set[int]]]:
    """The rows of the earlier data sets of the same writer, as many of each as there are, with
    numbers below 0; and by trait, the numbers of those that mention it openly.

    The sets take turns, so that any first rows are of all of them alike. Raises InputError where
    one cannot be read.
    """
    if not settings.like:
        return [], {}
    share = math.ceil((settings.most_rows or AUTO_ROWS) / len(settings.like))
    by_set = []
    for source in settings.like:
        sample = read_sample(source, rows=share, seed=seed)
        rows, *_ = encode(renderer, sample)
        completions = {example.index: example.completion for example in sample.examples}
        by_set.append([(row, completions[row.index]) for row in rows])
    turns = [item for turn in zip_longest(*by_set) for item in turn if item is not None]
    mentioned = mentions(tested, [completion for _, completion in turns])
    numbered = [replace(row, index=-1 - i) for i, (row, _) in enumerate(turns)]
    return numbered, {name: {-1 - i for i in numbers} for name, numbers in mentioned.items()}


def encode(
    renderer: ChatTokenizer, sample: Sample
) -> tuple[list[TokenizedRow], dict[int, float], dict[str, int], tuple[Unread, ...]]:
    """The rows that can be scored; by row number, how often a completion token of the row stands
    in the rows looked at, on average, where that is more than once; how many rows were skipped for
    which reason; and the reasoning and the tool calls that the chat template does not write.
    """
    skipped = dict(sample.skipped)
    encoded, occurrences, unwritten = [], Counter[int](), Counter[str]()
    for example in sample.examples:
        row = renderer.encode(example)
        if isinstance(row, SkippedRow):
            skipped[row.reason] = skipped.get(row.reason, 0) + 1
            continue
        unwritten.update(row.unwritten)
        encoded.append(row)
        copies = sample.copies.get(row.index, 1)
        occurrences.update(dict.fromkeys(turn_keys(row).values(), copies))
    rows, weights, turns = [], dict[int, float](), set[int]()
    for row in encoded:
        new = without_repeated_turns(row, turns)
        if isinstance(new, SkippedRow):
            skipped[new.reason] = skipped.get(new.reason, 0) + 1
            continue
        keys = turn_keys(row)
        rows.append(new)
        weight = sum(occurrences[keys[turn]] for turn, _, _ in new.spans) / len(new.spans)
        if weight > 1:
            weights[new.index] = weight
    reason = "the chat template of the reference does not write it"
    unread = tuple(
        Unread(
            "column" if name in ("tools", sample.info.columns.get("reasoning")) else "turn key",
            name,
            count / len(sample.examples),
            reason,
        )
        for name, count in sorted(unwritten.items())
    )
    return rows, weights, skipped, unread


def turn_keys(row: TokenizedRow) -> dict[int, int]:
    """By assistant turn, a hash of the turn with all that comes before it."""
    ends = {turn: position for position, (turn, _, _) in zip(row.positions, row.spans, strict=True)}
    return {turn: hash((row.kind, row.tokens[: end + 1])) for turn, end in ends.items()}


def without_repeated_turns(row: TokenizedRow, turns: set[int]) -> TokenizedRow | SkippedRow:
    """The row without the assistant turns that stand in an earlier row as well, with all that comes
    before them.

    One conversation may be cut into rows that each repeat its beginning. Evidence counts once, or
    the same choices of a writer pass for several. turns: hashes of the turns so far; grows by those
    of this row. Reason: "repeats_turns", when nothing is left.
    """
    keys = turn_keys(row)
    new = [i for i, (turn, _, _) in enumerate(row.spans) if keys[turn] not in turns]
    turns.update(keys.values())
    if not new:
        return SkippedRow(row.index, "repeats_turns")
    positions, spans = tuple(row.positions[i] for i in new), tuple(row.spans[i] for i in new)
    return replace(row, tokens=row.tokens[: positions[-1] + 1], positions=positions, spans=spans)


def load_teacher(teacher: str, lm: LanguageModel) -> LanguageModel:
    """A declared teacher.

    Raises ModelError if it cannot be loaded or its tokenizer is not the reference's, `lm`'s.
    """
    try:
        model = models.load(
            teacher,
            device=lm.device,
            dtype=lm.dtype,
            chat_template=lm.chat_template,
            system=lm.system,
        )
    except ModelError as error:
        raise ModelError(error.message, error.hint.replace("--reference", "--teacher")) from error
    if model.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
        raise ModelError(
            f"The tokenizers of {teacher} and {lm.name} differ.",
            "Transfer needs a teacher that shares the reference's base: choose both from one base.",
        )
    return model
