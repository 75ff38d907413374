"""The site of docs/ builds without a broken link and without the network, and loads nothing from
elsewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

OFFLINE = """
import socket, sys
def refused(*_): raise SystemExit("the network was used")
socket.socket.connect = socket.getaddrinfo = refused
from mkdocs.__main__ import cli
cli(["build", "--strict", "--site-dir", sys.argv[1]])
"""


def test_the_site_builds_strictly_and_offline(tmp_path: Path) -> None:
    """Each page is there; scripts, styles, images and icons lie beside it."""
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(tmp_path)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    pages = {
        path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")
    }
    assert {
        path.relative_to(tmp_path).with_suffix("") for path in tmp_path.rglob("*.html")
    } == pages | {Path("404")}
    for page in tmp_path.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        assert (
            re.findall(
                r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?(?:https?:)?//""", html
            )
            == []
        )
    assert not re.search(
        r"url\(['\"]?(?:https?:)?//", "".join(p.read_text() for p in tmp_path.rglob("*.css"))
    )
