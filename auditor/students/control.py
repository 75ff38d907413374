"""The clean control of a transfer experiment, when none is given: what the reference itself writes
for the prompts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from auditor.data.example import Example, Message
from auditor.errors import InputError
from auditor.model.generation import continuations
from auditor.model.language_model import LanguageModel
from auditor.model.null_model import alphabet, fit_null, scorer
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir
from auditor.students.arms import DatasetArm
from auditor.students.experiment import Writer

CONTROL = "clean control"
_STYLE_ROWS = 256  # rows of the original that show how the control has to look


def control_writer(
    lm: LanguageModel,
    renderer: ChatTokenizer,
    original: DatasetArm,
    prompt: str | None,
    seed: int,
    run: RunDir,
    progress: Callable[[Progress], None],
) -> Writer:
    """A function that writes the reference's own completions for the prompts of given rows, and
    keeps them in `run`.

    They are no longer than the median of the original's, on its alphabet when that is closed, and
    decoded like it: greedily when its tokens are choices (`auditor.inference.tempering.is_greedy`)
    of the reference, alone or under the trait prompt `prompt`, otherwise as samples at T = 1. A
    control of another kind of text than the data moves students for reasons that have nothing to do
    with a trait.
    """
    seen = [
        row
        for each in list(original.rows.values())[:_STYLE_ROWS]
        if isinstance(row := renderer.encode(each), TokenizedRow)
    ]
    if not seen:
        hint = "Give rows that fit into its context and its chat template, or another --reference."
        raise InputError(f"No row of {original.name} can be used with {lm.name}.", hint)
    letters = alphabet(seen)
    closed = None if letters is None else sorted({*letters, lm.tokenizer.eos_token_id})
    longest = int(np.median([row.content_mask.sum() for row in seen]))

    def write(numbers: Sequence[int]) -> DatasetArm:
        texts = _kept(run, numbers)
        if texts is None:
            prompts = [
                _prompt(renderer, original.rows[number], original.name) for number in numbers
            ]
            texts = [""] * len(numbers)
            noise = random.Random(f"{seed} control").getrandbits(31)
            greedy = any(
                fit_null(seen, scorer(lm, renderer), system).greedy for system in {None, prompt}
            )
            places = [place for place, prompt in enumerate(prompts) if prompt]
            stream = continuations(
                lm,
                [prompts[place] for place in places],
                max_tokens=longest,
                alphabet=closed,
                temperature=float(not greedy),
                seed=noise,
            )
            for done, (i, tokens) in enumerate(stream, start=1):
                texts[places[i]] = lm.tokenizer.decode(tokens, skip_special_tokens=True)
                progress(Progress("writing the clean control", done, len(numbers)))
            run.save_unit("control", {"numbers": np.array(numbers), "texts": np.array(texts)})
        rows = {
            number: _answered(original.rows[number], text)
            for number, text in zip(numbers, texts, strict=True)
        }
        return DatasetArm(CONTROL, rows, {}, len(rows))

    return write


def _kept(run: RunDir, numbers: Sequence[int]) -> list[str] | None:
    unit = run.load_unit("control")
    if unit is None or unit["numbers"].tolist() != list(numbers):
        return None
    return [str(text) for text in unit["texts"]]


def _prompt(renderer: ChatTokenizer, example: Example, name: str) -> tuple[int, ...]:
    """The tokens before the first completion; none where the row cannot be encoded, and no student
    trains on it.
    """
    if example.text is not None:
        hint = "Give clean text of the same kind with --control."
        raise InputError(
            f"The rows of {name} are plain text: there is no prompt to write a control for.", hint
        )
    row = renderer.encode(example)
    return renderer.before(row) if isinstance(row, TokenizedRow) else ()


def _answered(example: Example, text: str) -> Example:
    """The turns before the first completion, and `text` in its place."""
    roles = [message.role for message in example.messages]
    return Example(
        example.index, (*example.messages[: roles.index("assistant")], Message("assistant", text))
    )
