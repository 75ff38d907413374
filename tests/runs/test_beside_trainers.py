"""The table of trainers, by uv over a folder of packages that hold nothing but metadata."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from runs.beside_trainers import NoSolutionError, resolve, table

pytest.importorskip("uv")


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fits` lives with datasets 2; `old` asks for datasets 1 in its newest release only."""
    for name, version, needs in (
        ("fits", "1.0", "datasets<3"),
        ("old", "1.0", ""),
        ("old", "2.0", "datasets==1.0"),
        ("datasets", "1.0", ""),
        ("datasets", "2.0", ""),
    ):
        stem = f"{name}-{version}"
        requires = f"Requires-Dist: {needs}\n" if needs else ""
        with zipfile.ZipFile(tmp_path / f"{stem}-py3-none-any.whl", "w") as wheel:
            head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
            wheel.writestr(f"{stem}.dist-info/METADATA", head)
            tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            wheel.writestr(f"{stem}.dist-info/WHEEL", tag)
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    (tmp_path / "index").mkdir()  # an index without packages
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "index").as_uri())
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))


def test_the_current_release_must_fit_and_not_an_older_one() -> None:
    """What uv would resolve by going back to an old release is a pair that does not fit, and the
    reason names both sides.
    """
    made, reasons = table(("fits", "old"), ["datasets>=2"])
    assert made.splitlines()[2:] == [
        "| fits 1.0 | - | - | 2.0 | - |",
        "| old 2.0 |" + " - |" * 4,
    ]
    (reason,) = reasons
    assert (
        reason.startswith("old==2.0: Because ")
        and "datasets==1.0" in reason
        and "datasets>=2" in reason
    )
    assert resolve(["old", "datasets>=2"]) == {"old": "1.0", "datasets": "2.0"}


def test_what_is_nowhere_is_said() -> None:
    """A trainer that cannot be found is no row of the table."""
    with pytest.raises(NoSolutionError, match="nowhere"):
        resolve(["nowhere"])
