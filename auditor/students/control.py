"""The clean control of a transfer experiment, when none is given: what the reference itself writes
for the prompts.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from auditor.data.example import Message
from auditor.errors import InputError
from auditor.model.generation import continuations
from auditor.model.language_model import LanguageModel
from auditor.model.null_model import alphabet, fit_null, scorer
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.model.unit_store import UnitStore
from auditor.progress import Progress
from auditor.students.arms import DatasetArm
from auditor.students.experiment import Writer

LOG = logging.getLogger(__name__)

CONTROL = "clean control"
_STYLE_ROWS = 256  # rows of the original that show how the control has to look


def control_writer(
    lm: LanguageModel,
    renderer: ChatTokenizer,
    original: DatasetArm,
    prompt: str | None,
    seed: int,
    store: UnitStore,
    progress: Callable[[Progress], None],
) -> Writer:
    """A function that writes the reference's own completions for the prompts of some rows, and
    keeps them in `store`.

    They are no longer than the median of the original's, on its alphabet when that is closed, and
    decoded like it: at the temperature that fits it best under the reference, alone or under the
    trait prompt `prompt`, and greedily when its tokens are choices of either
    (`auditor.model.null_model.NullModel.temperature`). A control of another kind of text than the
    data moves students for reasons that have nothing to do with a trait.
    """
    style_rows = list(original.encoded(renderer, list(original.rows)[:_STYLE_ROWS]).values())
    if not style_rows:
        hint = "Give rows that fit into its context and its chat template, or another --reference."
        raise InputError(f"No row of {original.name} can be used with {lm.name}.", hint)
    # Number lists are answered with number lists: the end of the turn is always allowed.
    letters = alphabet(style_rows)
    closed = None if letters is None else sorted({*letters, *lm.end_of_turn})
    max_tokens = int(np.median([row.content_mask.sum() for row in style_rows]))

    def completions(numbers: Sequence[int]) -> list[str]:
        prompts: list[tuple[int, ...]] = []
        for example in (original.rows[number] for number in numbers):
            if example.text is not None:
                message = (
                    f"The rows of {original.name} are plain text: "
                    "there is no prompt to write a control for."
                )
                raise InputError(message, "Give clean text of the same kind with --control.")
            row = renderer.encode(example)
            prompts.append(renderer.before(row) if isinstance(row, TokenizedRow) else ())
        # Rows of a greedy teacher follow its choices under the trait prompt, those of the reference
        # its own: either way the control has to be greedy too.
        temperature = min(
            fit_null(style_rows, scorer(lm, renderer), system=system).temperature
            for system in {None, prompt}
        )
        LOG.info(
            "writing %d rows of at most %d tokens, at T = %.2f, %s",
            *(len(numbers), max_tokens, temperature),
            "on any alphabet" if closed is None else f"on an alphabet of {len(closed)} tokens",
        )
        # A row without a prompt cannot be encoded: no student trains on it, and it stays empty.
        with_prompt = [i for i, tokens in enumerate(prompts) if tokens]
        stream = continuations(
            lm,
            [prompts[i] for i in with_prompt],
            max_tokens=max_tokens,
            alphabet=closed,
            temperature=temperature,
            seed=random.Random(f"{seed} control").getrandbits(31),
        )
        texts = [""] * len(numbers)
        for done, (i, tokens) in enumerate(stream, start=1):
            texts[with_prompt[i]] = lm.tokenizer.decode(tokens, skip_special_tokens=True)
            progress(Progress("writing the clean control", done, len(numbers)))
        return texts

    def write(numbers: Sequence[int]) -> DatasetArm:
        unit = store.load_unit("control")
        # Timing asks for a few rows first: those are not the control of the experiment.
        if unit is None or unit["numbers"].tolist() != list(numbers):
            unit = {"numbers": np.array(numbers), "texts": np.array(completions(numbers))}
            store.save_unit("control", unit)
        rows = {}
        for number, text in zip(numbers, unit["texts"], strict=True):
            example = original.rows[number]
            # Only the first turn is written: later ones would answer turns that it does not have.
            first = [message.is_trained for message in example.messages].index(True)
            answer = Message("assistant", str(text))
            rows[number] = replace(example, messages=(*example.messages[:first], answer))
        return DatasetArm(CONTROL, rows)

    return write
