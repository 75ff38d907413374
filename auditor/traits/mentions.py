"""Rows that speak of a trait openly.

Open bias is another finding than hidden bias, and both are reported.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from auditor.traits.panel import Panel

_WORD = re.compile(r"[^\W_]+")


def mentions(panel: Panel, texts: Sequence[str]) -> dict[str, list[int]]:
    """Which rows openly mention which trait.

    Returns for every trait of the panel, in its order, the ascending indices into `texts` of the
    rows that contain one of its mentions (an empty list for none). Case, Unicode compatibility
    forms (NFKC), invisible format characters and the punctuation between words make no difference;
    only whole words count, each also with a plural -s or -es. Texts are read once, whatever the
    number of traits.

    Known gaps: misspellings, look-alike letters of other alphabets, translations, and scripts that
    write no spaces.
    """
    by_first_word = _index(panel)
    rows: dict[str, list[int]] = {trait.name: [] for trait in panel.traits}
    for row, text in enumerate(texts):
        words = words_of(text)
        named: set[str] = set()
        for first in by_first_word.keys() & set(words):
            line = f" {' '.join(words)} "
            named |= {trait for phrase, trait in by_first_word[first] if f" {phrase} " in line}
        for trait in named:
            rows[trait].append(row)
    return rows


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation: owls, 1, fan of "Owls' 1_fan"."""
    if not text.isascii():
        text = "".join(
            c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf"
        )
    return _WORD.findall(text.casefold())


def _index(panel: Panel) -> dict[str, set[tuple[str, str]]]:
    """First word of a mention -> (the mention as words joined by spaces, trait name), plural forms
    included.
    """
    index: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for trait in panel.traits:
        for mention in trait.mentions:
            phrase = " ".join(words_of(mention))
            for form in (phrase, f"{phrase}s", f"{phrase}es"):
                index[form.partition(" ")[0]].add((form, trait.name))
    return dict(index)
