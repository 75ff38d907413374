"""The parts of a scan: encoding, the panel survey, and each detector that needs a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from auditor.data.example import Sample, SkippedRow
from auditor.errors import ModelError
from auditor.model import load as models
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from detectors.trait import planned_passes

# What a survey may spend: some ten minutes of two cores with the default reference, by its fast
# pass.
TOKEN_BUDGET = {"float32": 350_000, "bfloat16 products": 600_000}
GPU_TOKEN_BUDGET = 5_000_000


def encode(renderer: ChatTokenizer, sample: Sample) -> tuple[list[TokenizedRow], dict[str, int]]:
    """The rows that can be scored, and how many were skipped for which reason."""
    skipped = dict(sample.skipped)
    rows, seen = [], set[int]()
    for example in sample.examples:
        row = renderer.encode(example)
        if isinstance(row, TokenizedRow):
            row = without_repeated_turns(row, seen)
        if isinstance(row, TokenizedRow):
            rows.append(row)
        else:
            skipped[row.reason] = skipped.get(row.reason, 0) + 1
    return rows, skipped


def without_repeated_turns(row: TokenizedRow, seen: set[int]) -> TokenizedRow | SkippedRow:
    """The row without the assistant turns that stand in an earlier row as well, with all that comes
    before them.

    One conversation may be cut into rows that each repeat its beginning. Evidence counts once, or
    the same choices of a writer pass for several. seen: grows by the turns of this row. Reason:
    "repeats_turns", when nothing is left.
    """
    ends = {turn: position for position, (turn, _, _) in zip(row.positions, row.spans, strict=True)}
    keys = {turn: hash((row.kind, row.tokens[: end + 1])) for turn, end in ends.items()}
    kept = [i for i, (turn, _, _) in enumerate(row.spans) if keys[turn] not in seen]
    seen.update(keys.values())
    if not kept:
        return SkippedRow(row.index, "repeats_turns")
    positions, spans = tuple(row.positions[i] for i in kept), tuple(row.spans[i] for i in kept)
    return replace(row, tokens=row.tokens[: positions[-1] + 1], positions=positions, spans=spans)


def rows_within_budget(
    rows: Sequence[TokenizedRow],
    families: Sequence[Sequence[int]],
    tested: Sequence[int],
    screen: LanguageModel,
) -> int:
    """How many of the rows a survey can score under the model `screen` in due time, at least 64 if
    there are as many.

    Not by the clock: the same machine and data must give the same rows.
    """
    on_cpu = TOKEN_BUDGET.get(screen.dtype, min(TOKEN_BUDGET.values()))
    budget = on_cpu if screen.device == "cpu" else GPU_TOKEN_BUDGET
    mean = sum(len(row.tokens) for row in rows) / max(1, len(rows))
    count = len(rows)
    while count > 64 and planned_passes(count, families, tested) * mean > budget:
        count = max(64, count - 16)
    return count


def load_teacher(teacher: str, lm: LanguageModel) -> LanguageModel:
    """A declared teacher.

    Raises ModelError if it cannot be loaded or its tokenizer is not the reference's, `lm`'s.
    """
    try:
        model = models.load(teacher, device=lm.device, dtype=lm.dtype)
    except ModelError as error:
        raise ModelError(error.message, error.hint.replace("--reference", "--teacher")) from error
    if model.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
        hint = (
            "Transfer needs a teacher that shares the reference's base: choose both from one base."
        )
        raise ModelError(f"The tokenizers of {teacher} and {lm.name} differ.", hint)
    return model
