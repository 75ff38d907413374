"""Defences of a data set: pure functions of one row and of what is known about it, one file each.

A mitigation gets a row and the `Facts` that scoring gave, never a detector or a model, and says
what becomes of the row: `Kept`, `Changed` or `Dropped`. It changes nothing but the texts of prompts
or completions, and the loss mask.
"""

from __future__ import annotations

from collections.abc import Callable

from mitigations import canonicalize, drop, mask, mix, replace, reword, shuffle
from mitigations.interface import Outcome

# (row, facts, **settings) -> outcome; the settings of each are its keyword arguments.
MITIGATIONS: dict[str, Callable[..., Outcome]] = {
    "paraphrase": reword.reword,
    "mix": mix.mix,
    "mask": mask.mask,
    "replace": replace.replace,
    "canonicalize": canonicalize.canonicalize,
    "drop": drop.drop,
    "shuffle": shuffle.shuffle,
}
