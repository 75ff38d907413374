"""Claim `leakage`: logit leakage is not needed (2509.23886, section 3).

Sampling at T = 1 shows which tokens the teacher finds likely (its logits "leak" into the data);
greedy decoding shows its choices only. If students of greedy data take the trait over, leakage
cannot be what carries it.
"""

from __future__ import annotations

from collections.abc import Sequence

from auditor.inference.paired import effect_ratio
from auditor.students.result import TransferResult
from auditor.study.claims import NEARLY, Claim, Finding, difference, of_ratio

NAME = "leakage"
STUDENTS = 2  # of sampled data, beside the pair of greedy data that every part has

_GEMMA = "Gemma-3-4b, owl: base .065, T = 1 .187, greedy .322"


def findings(greedy: TransferResult, sampled: TransferResult) -> Sequence[Finding]:
    """Greedy data transfer at all; and more than sampled data.

    The first also fails when greedy data carry a quarter at most of what sampled data carry.
    """
    greedy_arm, sampled_arm = greedy.arms[0], sampled.arms[0]
    statement = "greedy data transfer the trait"
    alone = Claim(NAME, statement, _GEMMA, "effect of greedy data", "above", 0.0)
    more = Claim(
        NAME, "greedy data transfer more than sampled", _GEMMA, "greedy less sampled", "above", 0.0
    )
    transfer = difference(alone, greedy_arm)
    effects = greedy_arm.final_effect.blocks, sampled_arm.final_effect.blocks
    # Nothing told from 0 may still be told from what sampled data carry.
    interval = effect_ratio(*effects).interval
    if transfer.answer == "cannot be said" and interval is not None and interval[1] <= NEARLY:
        lost = Claim(NAME, statement, _GEMMA, "greedy as a share of sampled", "above", NEARLY)
        transfer = of_ratio(lost, *effects)
    return transfer, difference(more, greedy_arm, sampled_arm)
