"""Read the rows of one large JSON array without holding it: `[row, ...]` or `{"data": [row, ...],
...}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TextIO

from auditor.data.batches import AmbiguousError, DamagedError, Record, oversized
from auditor.data.limits import IN_FORCE

_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
# A value that only lacks its end fails within the longest escape or literal of the buffer's end.
_TAIL = 16
# Python refuses to convert longer integers. No text of a row is a number, so that its value does
# not matter.
_DIGITS = 4000


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Raises AmbiguousError where a key stands twice: readers differ in which value they take."""
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        key = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise AmbiguousError(f"an object has the key {key[:60]!r} twice")
    return members


DECODER = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) <= _DIGITS else float(digits),
    object_pairs_hook=_object,
)
"""What reads every row, whatever its file type: integers of any length, too long ones as floats. It
raises AmbiguousError for an object with a repeated key.
"""


def array_records(stream: TextIO) -> Iterator[Record]:
    """Yield the elements of the array one by one, then what follows, in a record without a row.

    Joined, leads and rows are the whole text. Raises DamagedError, with the number of rows before,
    where the text is not JSON; AmbiguousError where rows stand elsewhere in it, too.
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
        scanner.leave_array()
    except json.JSONDecodeError as error:
        raise DamagedError(f"not valid JSON after {count:,} rows: {error.msg}") from error
    yield Record(scanner.passed(), "", "")


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
        self._keys: list[str] = []  # of the object that holds the rows, if any
        self._tables: list[str] = []  # those of its keys that hold rows, too
        self._is_open = False  # whether the list "data" was come to

    def enter_array(self) -> bool:
        """Move behind the "[" that opens the rows; False if the first value is an object without a
        list "data".
        """
        if self.peek() == "[":
            self.expect("[")
            return True
        self.expect("{")
        return self._members()

    def leave_array(self) -> None:
        """Move from the "]" of the rows to the end of the text.

        Raises AmbiguousError where anything but the rest of the object that holds them follows.
        """
        self.expect("]")
        if self._keys:
            if self.peek() == ",":
                self.expect(",")
                self._members()
            self.expect("}")
        if self.peek():
            raise AmbiguousError("something follows the rows")

    def _members(self) -> bool:
        """Move through the members of an object, to its end or into a list "data".

        Raises AmbiguousError for a key that stands twice, and for rows beside those of "data".
        """
        while self.peek() != "}":
            key = str(self.value())
            self.expect(":")
            if key in self._keys:
                raise AmbiguousError(f"an object has the key {key[:60]!r} twice")
            self._keys.append(key)
            if key == "data" and self.peek() == "[":
                self.expect("[")
                self._is_open = True
            elif _holds_rows(self.value()):
                self._tables.append(key)
            if self._is_open and self._tables:
                raise AmbiguousError(f"{self._tables[0][:60]!r} holds rows, and so does 'data'")
            if key == "data" and self._is_open:
                return True
            if self.peek() == ",":
                self.expect(",")
        return False

    def peek(self) -> str:
        """Return the next character that is not white space, "" at the end."""
        while True:
            if self._at < len(self._text):
                char = self._text[self._at]
                if char not in " \t\r\n":
                    return char
                match = _SPACE.match(self._text, self._at)
                self._at = match.end() if match else self._at
            elif not self._more():
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
            if end - self._at > IN_FORCE.get().row_bytes:
                raise oversized("a value")
            self._at = end
            return value

    def passed(self) -> str:
        """Return the text that was read since the last call."""
        text = self._before + self._text[self._passed : self._at]
        self._before, self._passed = "", self._at
        return text

    def _more(self) -> bool:
        if len(self._before) + len(self._text) - self._passed > IN_FORCE.get().row_bytes:
            raise oversized("a value")
        # At least double the window: one huge row would otherwise be parsed again for every chunk.
        chunk = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        self._before += self._text[self._passed : self._at]
        self._text = self._text[self._at :] + chunk
        self._at = self._passed = 0
        return bool(chunk)


def _holds_rows(value: object) -> bool:
    """Tell whether `value` is a table, of rows or of columns, or an object that holds one."""

    def is_table(item: object) -> bool:
        return isinstance(item, list) and any(isinstance(row, (dict, list)) for row in item)

    if isinstance(value, dict) and value:
        members = value.values()
        return all(isinstance(member, list) for member in members) or any(map(is_table, members))
    return is_table(value)
