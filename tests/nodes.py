"""
pytest-celery's nodes and clusters over local processes: its tests need no container engine.

Import this module only where nodes are used: pytest-celery takes a second to import.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from typing import TYPE_CHECKING, Any

import psutil
from celery import Celery, __version__
from celery._state import get_current_app
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerCluster,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.deployment import Deployment
    from tests.servers import Program, Server

#: The module of pytest-celery's own tasks (`ping`, `add`, …); a worker has to import it.
PING_TASKS = "pytest_celery.vendors.worker.tasks"


class ServerProcess:
    """What pytest-celery asks of a container, answered by a server of the tests."""

    def __init__(self, server: Server, url: str) -> None:
        self.server = server
        self.id = self.name = f"{type(server).__name__}-{server.running.pid}"
        self.celeryconfig = {"url": url, "host_url": url}

    @property
    def program(self) -> Program:
        """
        The running program.
        """
        return self.server.running

    @property
    def status(self) -> str:
        """
        A container's word for whether it runs.
        """
        return "running" if self.program.alive else "exited"

    def kill(self, signal: str | int = "SIGKILL") -> None:  # noqa: ARG002 - a server is killed, never asked
        """
        Kill the server.
        """
        self.server.kill9()

    def restart(self, timeout: int = 0) -> None:  # noqa: ARG002 - the server knows how long it takes
        """
        Start the server again, on the same port with the same data.
        """
        self.server.restart()

    def logs(self) -> str:
        """
        Return what it has written.
        """
        return self.program.output()

    def ready(self) -> bool:
        """
        Tell whether it answers.
        """
        return self.program.alive and self.server.answers()

    def reload(self) -> None:
        """Nothing is cached."""

    def teardown(self) -> None:
        """Who started the server stops it."""


class WorkerProcess:
    """What pytest-celery asks of a worker's container, answered by `celery -A platform worker`."""

    def __init__(self, deployment: Deployment, name: str, words: Sequence[str] = ()) -> None:
        self.id = socket.gethostname()
        self.name = name
        self.celeryconfig: dict[str, Any] = {}
        self.program = deployment.worker(*words, f"--hostname={name}@%h")
        self._starts = 1

    @property
    def status(self) -> str:
        """
        A container's word for whether it runs.
        """
        return "running" if self.program.alive else "exited"

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """
        Send *signal*; SIGKILL leaves the children to notice by themselves.
        """
        self.program.send(_number(signal))
        self.program.process.wait(60)

    def restart(self, timeout: int = 60) -> None:
        """
        Stop the worker unless it is dead, start it again, and wait until it takes calls.
        """
        self.program.stop(timeout=timeout)
        self._starts += 1
        self.program.start()
        self.program.wait_for_output(" ready.", times=self._starts)

    def logs(self) -> str:
        """
        Return what it has logged, in all its lives.
        """
        return self.program.output()

    def ready(self) -> bool:
        """
        Tell whether it takes calls.
        """
        return self.program.alive and self.logs().count(" ready.") >= self._starts

    def reload(self) -> None:
        """Nothing is cached."""

    def teardown(self) -> None:
        """
        Stop the worker.
        """
        self.program.stop(timeout=40)

    def version(self) -> str:
        """
        Return Celery's version.
        """
        return __version__

    def log_level(self) -> str:
        """
        Return the level of the worker's log.
        """
        return "INFO"

    def worker_name(self) -> str:
        """
        Return the part of the host name before the ``@``.
        """
        return self.name

    def worker_queue(self) -> str:
        """
        Return a queue that it serves.
        """
        return "celery"


class WorkerNode(CeleryTestWorker):
    """A worker of local processes."""

    def hostname(self) -> str:
        """
        Return the name it answers under.
        """
        return f"{self.worker_name}@{socket.gethostname()}"

    def get_running_processes_info(
        self, columns: list[str] | None = None, filters: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """
        Describe the worker's processes by psutil's attributes, its parent first.
        """
        found = []
        parent = psutil.Process(self.container.program.pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(process.as_dict(columns))
        return [info for info in found if all(info.get(key) == value for key, value in (filters or {}).items())]


class LocalSetup(CeleryTestSetup):
    """A broker, a result backend and workers of one deployment, with an app of plain Celery to talk to them."""


@contextlib.contextmanager
def celery_setup(
    broker: Server, broker_url: str, backend: Server, backend_url: str, deployment: Deployment, *, workers: int = 1
) -> Iterator[LocalSetup]:
    """
    Start *workers* workers of *deployment* and give the nodes of it all; the servers run already.
    """
    previous = get_current_app()
    app = Celery("nodes", broker=broker_url, backend=backend_url)
    # A broker that is restarted closes the connections of this process, too.
    app.conf.update(broker_pool_limit=0, result_backend_always_retry=True)
    nodes: list[WorkerNode] = []
    try:
        nodes += [WorkerNode(WorkerProcess(deployment, f"node{number}"), app) for number in range(1, workers + 1)]
        app.set_current()
        yield LocalSetup(
            CeleryWorkerCluster(*nodes),
            CeleryBrokerCluster(CeleryTestBroker(ServerProcess(broker, broker_url), app)),
            CeleryBackendCluster(CeleryTestBackend(ServerProcess(backend, backend_url), app)),
            app,
        )
    finally:
        for node in nodes:
            node.teardown()
        # A failed test keeps its AsyncResult longer than the servers live: it must not look for them then.
        app.backend.result_consumer.stop()
        app.backend.result_consumer._pubsub = None
        app.close()
        previous.set_current()


def _number(name: str | int) -> int:
    return name if isinstance(name, int) else signal.Signals[name]
