"""The engine of many machines: actors of a Ray cluster, each with a worker of its own.

Ray starts the actors, moves tasks and results, and notices what dies. Which actor does which item
is decided here, one item an actor at a time, so that a file of the data set is read and written by
one process, in order and byte for byte. Ray Data would take the rows apart into blocks of its own.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, chdir, contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from auditor.engine.interface import A, EngineName, Pool, R, Tally, W
from auditor.errors import AuditError, RunError, import_optional
from auditor.isolation import leave_working_directory
from auditor.progress import Progress, Show

LOG = logging.getLogger(__name__)
_HOME = Path(__file__).resolve().parents[2]  # the folder that holds our packages
AUTO = "auto"  # the address of the cluster that runs on this machine, if one does
TRIES = 3  # workers that an item may kill before it ends the run
_POLL_SECONDS = 1.0
_WAIT_SECONDS = 5.0
_PACKAGES = ("auditor", "detectors", "mitigations")


@dataclass(frozen=True)
class RayEngine:
    """Workers on the nodes of the cluster at `address`: one a GPU where models run and there are
    GPUs, else one a core.

    show: is told where no cluster runs, and one is started on this machine.
    """

    address: str = AUTO
    show: Show = lambda _: None
    name: EngineName = "ray"

    @contextmanager
    def pool(
        self,
        make: Callable[[], AbstractContextManager[W]],
        *,
        most: int,
        on_device: bool,
        logs: Path,
    ) -> Iterator[Pool[W]]:
        """See `Engine.pool`. Raises AuditError where Ray is not installed, or the cluster cannot be
        reached.
        """
        with self._connected() as ray:
            available = ray.cluster_resources()
            gpus = int(available.get("GPU", 0)) if on_device else 0
            count = min(most, gpus or max(1, int(available.get("CPU", 1))))
            LOG.info("%d workers on %d nodes", count, len(ray.nodes()))
            actor = ray.remote(concurrency_groups={"progress": 1})(_actor_class(ray))
            actor = actor.options(num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=0)
            pool: _RayPool[W] = _RayPool(ray, actor, ray.put(make), logs.resolve(), count)
            try:
                yield pool
            finally:
                pool.close()

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        # Ray counts its uses on a server of its makers unless told not to.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray: Any = import_optional("ray", extra="ray", purpose="--engine ray")
        if ray.is_initialized():  # by the program that calls us
            yield ray
            return
        self._check_address()
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        # The workers import from the directory in which this is called. There may be data of
        # others in that of the command; the code of this one runs already.
        with chdir(_HOME):
            try:
                ray.init(address=self.address, **quiet)
            except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
                if self.address != AUTO or not isinstance(error, ConnectionError):
                    raise self._no_cluster() from error
                stage = "no Ray cluster runs here: one is started for this run"
                self.show(Progress(stage, 0, None))
                ray.init(include_dashboard=False, **quiet)
        try:
            yield ray
        finally:
            ray.shutdown()

    def _check_address(self) -> None:
        """Raise AuditError where nobody listens at a host and port: Ray would wait for minutes."""
        host, _, port = self.address.rpartition("://")[2].rpartition(":")
        if port.isdecimal():
            try:
                socket.create_connection((host.strip("[]"), int(port)), _WAIT_SECONDS).close()
            except OSError as error:
                raise self._no_cluster() from error

    def _no_cluster(self) -> AuditError:
        return AuditError(
            f"No Ray cluster answers at {self.address}.",
            "Start one with `ray start --head`, or leave --ray-address out; where clusters have a "
            "token, RAY_AUTH_MODE=token in the environment takes it along.",
        )


def _actor_class(ray: Any) -> type:
    class Worker:
        """A worker in a process of its own. `done` answers while `do` works."""

        def __init__(self) -> None:
            self._stack, self._rows, self._context = ExitStack(), 0, copy_context()

        def open(
            self, make: Callable[[], AbstractContextManager[Any]], place: Path, logs: Path
        ) -> None:
            """Make the worker, in the directory of the command."""
            try:
                os.chdir(place)
                leave_working_directory()
                _log_to(logs)
            except OSError as error:
                raise RunError(
                    f"{socket.gethostname()} cannot use {place}: {error.strerror or error}.",
                    "All nodes need the working directory and the data under the same path.",
                ) from error
            self._worker = self._context.run(lambda: self._stack.enter_context(make()))

        def do(self, work: Callable[..., Any], item: Any) -> tuple[Any, int]:
            """What `work` returns, and how many rows it told of."""
            self._rows = 0
            return self._context.run(work, self._worker, item, self._tell), self._rows

        @ray.method(concurrency_group="progress")  # type: ignore[untyped-decorator]
        def done(self) -> int:
            """Rows done of the item at work."""
            return self._rows

        def close(self) -> None:
            """Close what the worker holds open."""
            self._stack.close()

        def _tell(self, rows: int) -> None:
            self._rows = rows

    return Worker


def _log_to(folder: Path) -> None:
    """Write what this process logs into a file of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / f"{socket.gethostname()}-{os.getpid()}.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in _PACKAGES:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)


@dataclass
class _RayPool(Generic[W]):
    """idle: the actors without work. busy: the others, each with the number of its item, or None
    while it is made, by what will be the result.
    """

    ray: Any
    actor: Any
    make: Any
    logs: Path
    size: int
    idle: list[Any] = field(default_factory=list)
    busy: dict[Any, tuple[Any, int | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for _ in range(self.size):
            self._start()

    def map(
        self,
        do: Callable[[W, A, Any], R],
        items: Sequence[A],
        show: Callable[[Tally], None] = lambda _: None,
    ) -> Iterator[tuple[int, R]]:
        """See `Pool.map`. An item whose worker dies is given to another one. Raises RunError when
        that happens to an item again and again, or no worker can be started.
        """
        waiting, tries = deque(range(len(items))), [0] * len(items)
        rows, finished, died, shown = 0, 0, 0, 0.0
        while finished < len(items):
            while self.idle and waiting:
                actor, number = self.idle.pop(), waiting.popleft()
                self.busy[actor.do.remote(do, items[number])] = actor, number
            ready, _ = self.ray.wait([*self.busy], num_returns=1, timeout=_POLL_SECONDS)
            for ref in ready:
                actor, item = self.busy[ref]
                try:
                    result = self._result(ref)
                except self.ray.exceptions.RayError as error:
                    LOG.info("a worker died, or the node of its result: %s", error)
                    self.ray.kill(actor)
                    died += 1
                    if item is not None:
                        tries[item] += 1
                        waiting.appendleft(item)
                    if died > TRIES * self.size or TRIES in tries:
                        raise _killed(self.logs) from error
                    self._start()
                    continue
                finally:
                    del self.busy[ref]
                self.idle.append(actor)
                if item is not None:
                    finished, rows = finished + 1, rows + result[1]
                    yield item, result[0]
            if (now := time.monotonic()) - shown > _POLL_SECONDS:
                shown = now
                show(Tally(rows + self._rows_at_work(), finished, len(items), self._workers))

    def close(self) -> None:
        """End all workers."""
        refs = [actor.close.remote() for actor in self.idle]
        if refs:
            self.ray.wait(refs, num_returns=len(refs), timeout=_WAIT_SECONDS)
        for actor in (*self.idle, *(actor for actor, _ in self.busy.values())):
            self.ray.kill(actor)

    @property
    def _workers(self) -> int:
        return len(self.idle) + sum(item is not None for _, item in self.busy.values())

    def _result(self, ref: Any) -> Any:
        """What a task returned. Raises what it raised, and RayError where it did not come to an
        end.
        """
        try:
            return self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def _rows_at_work(self) -> int:
        """Rows done by the workers that are at work; of those that answer."""
        refs = [actor.done.remote() for actor, item in self.busy.values() if item is not None]
        if not refs:
            return 0
        ready, _ = self.ray.wait(refs, num_returns=len(refs), timeout=_POLL_SECONDS)
        total = 0
        for ref in ready:
            with suppress(self.ray.exceptions.RayError):
                total += self.ray.get(ref)
        return total

    def _start(self) -> None:
        actor = self.actor.remote()
        self.busy[actor.open.remote(self.make, Path.cwd(), self.logs)] = actor, None


def _killed(logs: Path) -> RunError:
    return RunError(
        "Workers of the Ray cluster die again and again.",
        f"Their memory may not suffice. What they logged is in {logs}; the same command goes on "
        "from what is finished.",
    )
