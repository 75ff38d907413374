"""Manifests beside data files, as `audit mitigate` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from auditor.data.files import digest_of


def write_manifest(data: Path, content: Any, rows: int) -> None:
    """Write a manifest.json about `data` with `rows` rows; `content` is taken for it as it stands
    where it is no mapping, and otherwise goes before what is filled in.
    """
    if isinstance(content, dict):
        written = {
            "output": {"name": data.name, "sha256": digest_of(str(data)), "rows": rows},
            "masked": {},
        } | content
        origin = {"name": data.name, "sha256": "0" * 64, "rows": rows}
        content = written | {"input": origin | content.get("input", {})}
    (data.parent / "manifest.json").write_text(json.dumps(content))
