"""Read the rows of one large JSON array without holding it: `[row, ...]` or `{"data": [row, ...],
...}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from auditor.data.batches import DamagedError

_CHUNK = 1 << 20
# A value that only lacks its end fails within the longest escape or literal of the buffer's end.
_TAIL = 16
_SPACE = " \t\r\n"
# Python refuses to convert longer ones; no text of a row is a number, so that its value does not
# matter.
_DIGITS = 4000

DECODER = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) <= _DIGITS else float(digits)
)
"""What reads every row, whatever its file type: integers of any length, too long ones as floats."""


def array_rows(stream: TextIO) -> Iterator[Any]:
    """Yield the elements of the array one by one.

    Raises DamagedError, with the row, where the text is not JSON.
    """
    scanner = _Scanner(stream)
    count = 0
    try:
        if not _enter(scanner):
            raise DamagedError("no list of rows")
        while scanner.peek() != "]":
            if count:
                scanner.expect(",")
            yield scanner.value()
            count += 1
    except json.JSONDecodeError as error:
        raise DamagedError(f"not valid JSON after {count:,} rows: {error.msg}") from error


def array_parts(stream: TextIO) -> Iterator[tuple[str, str]]:
    """Yield (the text before an element, the element as it is written) and at last (the text after
    the list, "").

    Joined, the parts are the whole text. Raises DamagedError as `array_rows`, and for what follows
    the list.
    """
    scanner = _Scanner(stream, record=True)
    count = 0
    try:
        _enter(scanner)
        while scanner.peek() != "]":
            if count:
                scanner.expect(",")
                scanner.peek()
            before = scanner.passed()
            scanner.value()
            yield before, scanner.passed()
            count += 1
    except json.JSONDecodeError as error:
        raise DamagedError(f"not valid JSON after {count:,} rows: {error.msg}") from error
    yield scanner.passed() + scanner.rest(), ""


def is_array(stream: TextIO) -> bool:
    """Tell whether the text is a JSON array of rows, plain or under the key "data"; False if it is
    something else.
    """
    try:
        return _enter(_Scanner(stream))
    except json.JSONDecodeError:
        return False


def _enter(scanner: _Scanner) -> bool:
    """Move behind the "[" that opens the rows; False if the first value is an object without a list
    "data".
    """
    if scanner.peek() == "[":
        scanner.expect("[")
        return True
    scanner.expect("{")
    while scanner.peek() != "}":
        key = scanner.value()
        scanner.expect(":")
        if key == "data" and scanner.peek() == "[":
            scanner.expect("[")
            return True
        scanner.value()
        if scanner.peek() == ",":
            scanner.expect(",")
    return False


class _Scanner:
    """A JSON reader over a sliding window of the text."""

    def __init__(self, stream: TextIO, *, record: bool = False) -> None:
        self._stream = stream
        self._record = record
        self._before = ""
        self._text = ""
        self._at = self._passed = 0

    def peek(self) -> str:
        """Return the next character that is not white space, "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def passed(self) -> str:
        """Return the text since the last call; only where `record` is set."""
        text = self._before + self._text[self._passed : self._at]
        self._before, self._passed = "", self._at
        return text

    def rest(self) -> str:
        """Return the text from here to the end."""
        return self._text[self._at :] + self._stream.read()

    def expect(self, char: str) -> None:
        if self.peek() != char:
            raise json.JSONDecodeError(f"expected {char!r}", self._text, self._at)
        self._at += 1

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise json.JSONDecodeError("nested too deeply", self._text, self._at) from None
            except json.JSONDecodeError as error:
                if not (self._lacks_end(error) and self._more()):
                    raise
                continue
            # A number that ends with the window may go on behind it.
            if end == len(self._text) and not isinstance(value, (dict, list)) and self._more():
                continue
            self._at = end
            return value

    def _lacks_end(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _TAIL

    def _more(self) -> bool:
        # At least double the window, so that one huge row is not parsed again for every chunk of
        # it.
        chunk = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        if self._record:
            self._before += self._text[self._passed : self._at]
        self._text = self._text[self._at :] + chunk
        self._at = self._passed = 0
        return bool(chunk)
