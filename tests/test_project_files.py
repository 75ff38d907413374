"""The files that people expect at the root of a project: they are whole, and agree on the
version.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import yaml

from auditor import __version__

ROOT = Path(__file__).parents[1]


def test_the_licence_is_the_canonical_text() -> None:
    """The digest is that of https://www.apache.org/licenses/LICENSE-2.0.txt, to the byte."""
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_version_is_named_wherever_it_stands() -> None:
    """Whoever raises the version has written what changed, and how to cite it."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]
    links = re.findall(r"^\[(.+?)\]: https://\S+$", changelog, re.MULTILINE)
    assert links == headings
    assert f"compare/v{__version__}...main" in changelog
