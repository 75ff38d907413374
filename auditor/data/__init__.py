"""Read a data set and draw a sample of its rows: Parquet, JSONL, JSON, CSV, folders, stdin, the
hub.
"""

from __future__ import annotations

from auditor.data.formats import FORMATS
from auditor.data.sample import read_sample

__all__ = ["FORMATS", "read_sample"]
