"""Every attack of the registry ends as is right; `make attacks` runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.attacks.harness import Place, Samples, Server, judge
from tests.attacks.registry import Attack, attacks

pytestmark = pytest.mark.attack


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The process whose forks run the command line."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def samples(server: Server, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Samples:
    """Simulated once, also where several processes test."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "samples"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "clean.parquet").exists():
            place = Place(folder / "made" / "here", Samples(folder), server)
            place.path.mkdir(parents=True)
            arguments = ["--trait", "owl", "--rows", "400", "--output", folder / "owl.parquet"]
            arguments += ["--control", folder / "clean.parquet"]
            arguments += ["--reference", "organism", "--panel", "animals"]
            run = place.audit("simulate", *arguments)
            assert run.code == 0, run.err
    return Samples(folder)


@pytest.fixture
def place(tmp_path: Path, samples: Samples, server: Server) -> Place:
    """An empty working directory."""
    (tmp_path / "here").mkdir()
    return Place(tmp_path / "here", samples, server)


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: attack.name)
def test_attack(attack: Attack, place: Place) -> None:
    """The outcome is the right one."""
    outcome = attack.carry_out(place)
    run, words = outcome if isinstance(outcome, tuple) else (outcome, ())
    judge(attack.right, attack.says, run, words)
