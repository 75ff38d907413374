"""How every report is written as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

JsonObject = dict[str, Any]
"""An object of a JSON report. Its values are only known from the schema of the report."""


def json_text(values: Mapping[str, object]) -> str:
    """The values as indented JSON, ASCII only, so that text from outside cannot act on a terminal.

    Raises ValueError when a number is NaN or infinite: what was not measured must be `Skipped`.
    """
    return json.dumps(values, indent=2, allow_nan=False) + "\n"
