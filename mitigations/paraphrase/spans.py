"""What no rewording may touch: numbers, and spans such as quotations, code, placeholders
and links.
"""

from __future__ import annotations

import re

# Possessive quantifiers: a mark that is never closed costs one look ahead, not a search.
_PROTECTED = re.compile(
    r"""
      ```(?s:.{0,20000}?)```                          # a code block
    | ``?[^`\n]++``?                                  # code in a line
    | (?:https?|ftp)://[^\s<>"]++ | www\.[^\s<>"]++   # a link
    | [\w.+-]++@[\w-]++\.[\w.-]++                     # an address
    | "[^"\n]{1,2000}+"  | “[^”\n]{1,2000}+” | «[^»\n]{1,2000}+» | „[^“”\n]{1,2000}+[“”]
    | (?<!\w)'(?=\S)[^'\n]{1,200}(?:'(?=\w)[^'\n]{0,200}){0,3}(?<=\S)'(?!\w)
    | \{(?:[^{}]{1,5000}+|\{(?:[^{}]{1,5000}+|\{[^{}]{0,5000}+\}){0,99}+\}){0,99}+\}   # {x}, JSON
    | \[(?:[^\[\]]{1,5000}+|\[[^\[\]]{0,5000}+\]){0,99}+\]                             # [x], a list
    | <[^<>\n]{1,200}+>                               # <x>, a tag
    | \$\$?[^$\n]{1,500}+\$\$?                        # a formula
    """,
    re.VERBOSE,
)
# No span is without one of these, so that most prompts need no closer look.
_MARK = re.compile(r"[`\"“«„'{\[<$@]|://|www\.")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*%?")
# One private-use character stands for each protected span while rules work on the rest.
_FIRST, _LAST = 0xE000, 0xF8FF
MASK = f"[{chr(_FIRST)}-{chr(_LAST)}]"
_MASK = re.compile(MASK)


def protected(text: str) -> list[str]:
    """The quotations, code, links, placeholders, bracketed and JSON spans of `text`, in order,
    without overlap.
    """
    return _PROTECTED.findall(text) if _MARK.search(text) else []


def numbers(text: str) -> list[str]:
    """All numbers of `text` that are written in digits, in order, with sign, decimals, ratio and
    percent.
    """
    values = []
    for match in _NUMBER.finditer(text):
        start = match.start()
        # What stands before the number: a sign, unless a word, a number or a bracket is joined to
        # it, as in "3-4" or "x-2".
        sign, joint = text[max(0, start - 1) : start], text[max(0, start - 2) : max(0, start - 1)]
        signed = sign in "-−+" and not (joint.isalnum() or joint in ("_", ")"))
        values.append(f"{sign if signed else ''}{match.group()}")
    return values


def mask(text: str) -> tuple[str, list[str]] | None:
    """`text` with one private-use character for each protected span, and the spans.

    None when that cannot be undone: the text has private-use characters of its own, or thousands of
    spans.
    """
    if not text.isascii() and _MASK.search(text):
        return None
    if not _MARK.search(text):
        return text, []
    spans: list[str] = []

    def hide(match: re.Match[str]) -> str:
        spans.append(match.group())
        # Beyond the last private-use character the count is refused below.
        return chr(min(_FIRST + len(spans) - 1, _LAST))

    masked = _PROTECTED.sub(hide, text)
    return (masked, spans) if len(spans) < _LAST - _FIRST else None


def unmask(masked: str, spans: list[str]) -> str:
    """Undo `mask`."""
    return _MASK.sub(lambda mark: spans[ord(mark.group()) - _FIRST], masked) if spans else masked
