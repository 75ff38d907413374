"""Read the rows of one large JSON array without holding it: `[row, ...]` or `{"data": [row, ...],
...}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TextIO

from auditor.data.batches import DamagedError, Record

_CHUNK = 1 << 20
# A value that only lacks its end fails within the longest escape or literal of the buffer's end.
_TAIL = 16
# Python refuses to convert longer integers. No text of a row is a number, so that its value does
# not matter.
_DIGITS = 4000

DECODER = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) <= _DIGITS else float(digits)
)
"""What reads every row, whatever its file type: integers of any length, too long ones as floats."""


def array_records(stream: TextIO) -> Iterator[Record]:
    """Yield the elements of the array one by one, then what follows them, in records without a row.

    Joined, leads and rows are the whole text. A reader of the rows may stop at the first record
    without one; only then is the text behind the array not read. Raises DamagedError, with the
    number of rows before, where the text is not JSON.
    """
    scanner = _Scanner(stream)
    count = 0
    try:
        scanner.enter_array()
        while scanner.peek() != "]":
            if count:
                scanner.expect(",")
                scanner.peek()
            lead = scanner.passed()
            value = scanner.value()
            row = value if isinstance(value, dict) else "wrong_type"
            yield Record(lead, scanner.passed(), row)
            count += 1
    except json.JSONDecodeError as error:
        raise DamagedError(f"not valid JSON after {count:,} rows: {error.msg}") from error
    yield Record(scanner.passed(), "", "")
    yield Record(scanner.rest(), "", "")


def is_array(stream: TextIO) -> bool:
    """Tell whether the text is a JSON array of rows, plain or under the key "data"; False if it is
    something else.
    """
    try:
        return _Scanner(stream).enter_array()
    except json.JSONDecodeError:
        return False


class _Scanner:
    """A JSON reader over a sliding window of the text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""  # the window
        self._at = 0  # how far it is read
        # What was read since the last call of `passed`: a part that has left the window, and the
        # window from here on.
        self._before, self._passed = "", 0

    def enter_array(self) -> bool:
        """Move behind the "[" that opens the rows; False if the first value is an object without a
        list "data".
        """
        if self.peek() == "[":
            self.expect("[")
            return True
        self.expect("{")
        while self.peek() != "}":
            key = self.value()
            self.expect(":")
            if key == "data" and self.peek() == "[":
                self.expect("[")
                return True
            self.value()
            if self.peek() == ",":
                self.expect(",")
        return False

    def peek(self) -> str:
        """Return the next character that is not white space, "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def expect(self, char: str) -> None:
        if self.peek() != char:
            raise json.JSONDecodeError(f"expected {char!r}", self._text, self._at)
        self._at += 1

    def value(self) -> object:
        """Read the next value, however far it goes on behind the window."""
        self.peek()
        while True:
            value: object
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise json.JSONDecodeError("nested too deeply", self._text, self._at) from None
            except json.JSONDecodeError as error:
                lacks_end = (
                    error.msg.startswith("Unterminated string")
                    or error.pos >= len(self._text) - _TAIL
                )
                if lacks_end and self._more():
                    continue
                raise
            # A number that ends with the window may go on behind it.
            if end == len(self._text) and not isinstance(value, (dict, list)) and self._more():
                continue
            self._at = end
            return value

    def passed(self) -> str:
        """Return the text that was read since the last call."""
        text = self._before + self._text[self._passed : self._at]
        self._before, self._passed = "", self._at
        return text

    def rest(self) -> str:
        """Return the text from here to the end."""
        return self._text[self._at :] + self._stream.read()

    def _more(self) -> bool:
        # At least double the window: one huge row would otherwise be parsed again for every chunk.
        chunk = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        self._before += self._text[self._passed : self._at]
        self._text = self._text[self._at :] + chunk
        self._at = self._passed = 0
        return bool(chunk)
