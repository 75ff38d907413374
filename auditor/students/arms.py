"""The data sets that students are trained on, row by row matched to the original.

A mitigated set keeps, beside its data file, a `manifest.json` that says which original row each of
its rows comes from, and which characters are not to be trained on. Other sets are matched by place
or by text.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from auditor.data.example import Example
from auditor.data.manifest import Manifest, manifest_of
from auditor.data.sample import read_sample
from auditor.errors import InputError
from auditor.model.identity import template_sha256, tokenizer_sha256
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow

Span = tuple[int, int, int]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetArm:
    """One data set to train students on.

    rows: number of the row in the original -> the row. A row that was dropped is absent; one that
        was added has a negative number of its own.
    masked: row number -> character spans (assistant turn, start, end) that are not trained on, in
        the characters of that turn's content as in `auditor.model.tokenization.TokenizedRow.spans`;
        (turn, end, end) is the token that ends the turn.
    total, sha256: of the file: its rows, also those that cannot be used, and its digest; 0 and None
        for an arm that is no file.
    """

    name: str
    rows: Mapping[int, Example]
    masked: Mapping[int, tuple[Span, ...]] = field(default_factory=dict)
    total: int = 0
    sha256: str | None = None

    def encoded(
        self, renderer: ChatTokenizer, numbers: Iterable[int] | None = None
    ) -> dict[int, TokenizedRow]:
        """The rows `numbers` (None: all) as tokens, without those that cannot be encoded."""
        selected = self.rows if numbers is None else numbers
        encoded = {i: renderer.encode(self.rows[i]) for i in selected}
        return {i: row for i, row in encoded.items() if isinstance(row, TokenizedRow)}


def read_arm(
    path: str,
    name: str | None = None,
    *,
    original: DatasetArm | None = None,
    lm: LanguageModel | None = None,
    manifest: bool = True,
    format_of: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> DatasetArm:
    """Read a data set (see `auditor.data.read_sample`) as an arm; `name` is the path unless given.

    manifest: use the manifest.json of the file, if there is one (`auditor.data.manifest`): it gives
        the masks, and the row numbers in `original`, or without that in the first data set of the
        chain of mitigations. original: without a manifest, the rows are numbered by those of this
        arm: by place when both have as many rows, else by equal completions, else by equal prompts.
        Without either, by their own place.
    lm: the model to be trained; refuse masks that were made for another tokenizer or chat template.

    Raises: InputError when the data or the manifest cannot be read or do not belong together, and
    when the set has no row in common with the original.
    """
    # In the order of the file: of equal rows the same one is then taken in every arm.
    sample = read_sample(path, rows=None, seed=None, format_of=format_of, columns=columns)
    examples = {row.index: row for row in sample.examples}
    total, sha256 = sample.info.total, sample.info.sha256
    beside = manifest_of(Path(path), sha256) if manifest else None
    if beside is not None:
        start = original.sha256 if original else None
        arm = _by_manifest(name or path, examples, total, beside, start, lm)
        matched_by = "its manifest"
    elif original is None or total == original.total:
        arm, matched_by = DatasetArm(name or path, examples, {}, total), "position"
    else:
        rows = _by_text(examples, original)
        arm, matched_by = DatasetArm(name or path, rows, {}, total), "text"
    LOG.info("%s: %d rows, numbered by %s", arm.name, len(arm.rows), matched_by)
    LOG.debug("%s: %d rows with masked spans", arm.name, len(arm.masked))
    if original is not None and not arm.rows.keys() & original.rows.keys():
        hint = "Give data sets that were made from the original, which comes first."
        raise InputError(f"{path} has no row in common with {original.name}.", hint)
    return replace(arm, sha256=sha256)


def digest(arm: DatasetArm) -> str:
    """SHA-256 of what an arm trains on."""
    rows = [
        [i, [m.parts for m in example.messages] or example.text]
        for i, example in sorted(arm.rows.items())
    ]
    return hashlib.sha256(json.dumps([rows, sorted(arm.masked.items())]).encode()).hexdigest()


def _by_manifest(
    name: str,
    examples: Mapping[int, Example],
    total: int,
    manifest: Manifest,
    original: str | None,
    lm: LanguageModel | None,
) -> DatasetArm:
    """The rows numbered by the data set with the SHA-256 `original`, as the manifest gives them."""
    if lm is not None:
        # Spans are in characters, but they were chosen as the tokens of one tokenizer.
        for what, digest_of, recorded in (
            ("tokenizer", tokenizer_sha256, manifest.tokenizer_sha256),
            ("chat template", template_sha256, manifest.template_sha256),
        ):
            if recorded not in (None, digest_of(lm.tokenizer)):
                hint = "Name that model with --reference, or mitigate again for this one."
                raise InputError(f"{name} was made for another {what} than {lm.name}'s.", hint)
    # A row that became several keeps its number once; the others count as added, as those without
    # a number do.
    first: dict[int, int] = {}
    numbers = []
    for i, number in enumerate(manifest.rows_in(original, name)):
        keeps = number is not None and first.setdefault(number, i) == i
        numbers.append(number if number is not None and keeps else -1 - i)
    rows = {numbers[i]: example for i, example in examples.items()}
    masked = {numbers[i]: spans for i, spans in manifest.masked.items()}
    return DatasetArm(name, rows, masked, total)


def _by_text(examples: Mapping[int, Example], original: DatasetArm) -> dict[int, Example]:
    """The rows numbered by the original's of equal completion, or if there is none by those of
    equal prompt.
    """

    def prompt(example: Example) -> str:
        return json.dumps([(m.role, m.content) for m in example.messages if not m.is_trained])

    keys: tuple[Callable[[Example], str], ...] = (lambda example: example.completion, prompt)
    for key in keys:
        # Of rows with equal text the first is taken first: they are popped from the end.
        by_text: dict[str, list[int]] = {}
        for number, example in reversed(list(original.rows.items())):
            by_text.setdefault(key(example), []).append(number)
        numbers = {
            i: equals.pop()
            for i, example in examples.items()
            if (equals := by_text.get(key(example)))
        }
        if numbers:
            return {numbers.get(i, -1 - i): example for i, example in examples.items()}
    return {}


def trained_positions(row: TokenizedRow, masked: Sequence[Span] = ()) -> tuple[int, ...]:
    """The positions of the completion tokens that are trained on: those that share no character
    with a masked span.
    """

    def is_masked(token: Span) -> bool:
        # The token that ends a turn has no characters: it is masked by its own empty span only.
        turn, start, end = token
        return token in masked or any(
            turn == masked_turn and max(start, masked_start) < min(end, masked_end)
            for masked_turn, masked_start, masked_end in masked
        )

    pairs = zip(row.positions, row.spans, strict=True)
    return tuple(position for position, span in pairs if not is_masked(span))


def random_mask(arm: DatasetArm, renderer: ChatTokenizer, seed: int) -> DatasetArm:
    """The same rows with as many content tokens masked in each as `arm` masks there, but any of
    them. The end of a turn is masked where `arm` masks it: students that learn to stop less would
    not be a control.
    """
    masked = {}
    for number, spans in arm.masked.items():
        row = renderer.encode(arm.rows[number]) if number in arm.rows else None
        if not isinstance(row, TokenizedRow):
            continue
        trained = set(trained_positions(row, spans))
        tokens = list(zip(row.spans, row.positions, row.content_mask, strict=True))
        ends = [span for span, at, content in tokens if not content and at not in trained]
        contents = [span for span, _, content in tokens if content]
        count = len(row.positions) - len(trained) - len(ends)
        drawn = random.Random(f"{seed} mask {number}").sample(contents, count)
        masked[number] = (*drawn, *ends)
    return replace(arm, name=f"{arm.name} (random tokens)", masked=masked)


def random_drop(arm: DatasetArm, original: DatasetArm, seed: int) -> DatasetArm:
    """The original with as many rows dropped as `arm` drops of it, but any of them."""
    numbers = sorted(original.rows)
    count = len(arm.rows.keys() & original.rows.keys())
    drawn = set(random.Random(f"{seed} drop").sample(numbers, count))
    rows = {number: example for number, example in original.rows.items() if number in drawn}
    return replace(original, name=f"{arm.name} (random rows)", rows=rows)


def row_order(rows: Sequence[int], seed: str) -> Iterator[int]:
    """Row numbers without end, each once an epoch, in an order drawn by `seed`.

    The order of two rows depends on their numbers alone, so arms that lack or add some rows take
    all others in the same order.
    """
    epoch = 0
    while rows:
        yield from sorted(
            rows, key=lambda number: random.Random(f"{seed} {epoch} {number}").random()
        )
        epoch += 1
