"""Choices that depend on the prompt, the seed and the variant alone, so that the order of rows does
not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chooser:
    """Picks drawn from one hash of (prompt, seed, variant, attempt).

    Same arguments, same picks, on every machine.
    """

    def __init__(self, prompt: str, seed: int, variant: int = 0, attempt: int = 0) -> None:
        key = f"{seed} {variant} {attempt} {prompt}".encode("utf-8", "surrogatepass")
        self._state = int.from_bytes(hashlib.blake2b(key, digest_size=24).digest(), "big")

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, evenly; the first one after some dozens of picks, when the hash is used
        up.
        """
        # The hash is a number of 192 bits, read digit by digit. The base of each digit is its
        # number of options.
        self._state, i = divmod(self._state, len(options))
        return options[i]
