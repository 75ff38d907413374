"""When something was made, by the clock or by SOURCE_DATE_EPOCH."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditor.errors import AuditError
from auditor.runs.clock import EPOCH, utc_now
from auditor.runs.run_directory import RunDir


def test_the_time_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of now, wherever this machine stands; that of the variable where it is set."""
    monkeypatch.delenv(EPOCH, raising=False)
    assert datetime.now(UTC) - datetime.fromisoformat(utc_now()) < timedelta(seconds=5)
    monkeypatch.setenv(EPOCH, "1000000000")
    assert utc_now() == "2001-09-09T01:46:40Z"


@pytest.mark.parametrize("epoch", ["yesterday", "1e9", "9" * 30])
def test_another_value_is_an_error(monkeypatch: pytest.MonkeyPatch, epoch: str) -> None:
    """A date is not made up."""
    monkeypatch.setenv(EPOCH, epoch)
    with pytest.raises(AuditError, match="not a number of seconds"):
        utc_now()


def test_a_finished_run_keeps_its_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the settings of its report; under others, and before it is finished, it is made now."""
    settings = {"seed": 0, "panels": ("animals",)}
    with RunDir.open(tmp_path, {"verb": "verify"}) as run:
        monkeypatch.setenv(EPOCH, "0")
        assert run.created(settings) == "1970-01-01T00:00:00Z"
        run.finish({"settings": settings, "created": run.created(settings)})
        monkeypatch.setenv(EPOCH, "86400")
        assert run.created(settings) == "1970-01-01T00:00:00Z"
        assert run.created({**settings, "seed": 1}) == "1970-01-02T00:00:00Z"
