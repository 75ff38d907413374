"""The key of this machine: made once, for its user alone, and what follows from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.errors import RunError
from auditor.runs import signing
from auditor.runs.signing import is_signed, machine_key, read_plain, secret_seed, sign

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs modes and links of POSIX")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path / "cache"))
    signing._key_in.cache_clear()
    return tmp_path / "cache"


@POSIX
def test_the_key_is_made_once_and_for_its_user_alone(cache: Path) -> None:
    """32 bytes that nobody else may read; later processes find the same."""
    key = machine_key()
    assert len(key) == 32
    assert (cache / "key").read_bytes() == key
    assert (cache / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in cache.iterdir()] == ["key"]
    signing._key_in.cache_clear()
    assert machine_key() == key


def test_processes_that_start_together_have_one_key(cache: Path) -> None:
    """Whoever is first makes it, and the others take it."""
    code = "from auditor.runs.signing import machine_key; print(machine_key().hex())"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    keys = {process.communicate(timeout=60)[0].strip() for process in started}
    assert keys == {(cache / "key").read_bytes().hex()}


@POSIX
@pytest.mark.parametrize(("size", "mode"), [(32, 0o644), (32, 0o660), (31, 0o600)])
def test_a_key_that_others_know_is_refused(cache: Path, size: int, mode: int) -> None:
    """As one that came with a checkout is: git keeps no mode of 0600."""
    cache.mkdir()
    (cache / "key").write_bytes(b"k" * size)
    (cache / "key").chmod(mode)
    with pytest.raises(RunError, match="no key that only this user can read"):
        machine_key()


@POSIX
def test_a_key_is_no_link(cache: Path, tmp_path: Path) -> None:
    """A link to bytes that others know gives a key of the process alone."""
    cache.mkdir()
    (tmp_path / "known").write_bytes(b"k" * 32)
    (tmp_path / "known").chmod(0o600)
    (cache / "key").symlink_to(tmp_path / "known")
    assert machine_key() != b"k" * 32


def test_a_cache_that_cannot_be_written(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key then lasts as long as the process; several processes would not believe one another,
    and are refused.
    """
    cache.write_text("no folder")
    assert len(machine_key()) == 32
    assert machine_key() == machine_key()
    signing._key_in.cache_clear()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="cannot be kept"):
        machine_key()


def test_a_signature_is_for_one_run_name_and_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """And for one machine."""
    signature = sign("run", "name", b"content")
    assert is_signed("run", "name", b"content", signature)
    for other in (("run2", "name", b"content"), ("run", "n", b"content"), ("run", "name", b"c")):
        assert not is_signed(*other, signature)
    assert not is_signed("run", "name", b"content", "\u00e9")
    monkeypatch.setattr(signing, "machine_key", lambda: b"o" * 32)
    assert not is_signed("run", "name", b"content", signature)


def test_the_secret_seed_follows_from_data_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same again here; another for other data, and elsewhere."""
    seed = secret_seed("ab" * 32)
    assert 0 <= seed < 2**32
    assert secret_seed("ab" * 32) == seed != secret_seed("cd" * 32)
    monkeypatch.setattr(signing, "machine_key", lambda: b"o" * 32)
    assert secret_seed("ab" * 32) != seed


@POSIX
def test_a_pipe_or_device_is_no_file(tmp_path: Path) -> None:
    """Reading one would wait or never end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert [read_plain(tmp_path / name) for name in ("pipe", "zero", "none", ".")] == [None] * 4
