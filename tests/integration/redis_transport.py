"""
What the tests of the Redis transport share: consumers, plain Celery apps, workers, and a ledger outside of both.
"""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import kombu
import redis
from celery import Celery

from celery_platform.transport.keys import TransportKeys
from celery_platform.transport.options import ConsumerOptions
from celery_platform.transport.redis import Transport, install, open_consumer
from tests.servers.process import Program

if TYPE_CHECKING:
    from celery_platform.transport.consumer import Consumer

KEYS = TransportKeys()
STOCK = "kombu.transport.redis:Transport"
OURS = "celery_platform.transport.redis:Transport"

APP = textwrap.dedent(
    """
    import os, signal, time
    import redis
    from celery import Celery
    if os.environ["TRANSPORT"] == "ours":
        from celery_platform.transport.redis import install
        install()
    ledger = redis.Redis.from_url(os.environ["LEDGER"])
    app = Celery("t", broker=os.environ["BROKER"], backend=os.environ["LEDGER"])
    app.conf.update(
        task_acks_late=True, task_reject_on_worker_lost=True, task_ignore_result=True,
        worker_prefetch_multiplier=int(os.environ.get("PREFETCH", "1")), worker_send_task_events=True,
        broker_connection_retry_on_startup=True, broker_connection_max_retries=None,
        broker_transport_options={"lease": float(os.environ["LEASE"])} if os.environ["TRANSPORT"] == "ours" else {},
    )

    @app.task(name="run", bind=True)
    def run(self, number, seconds=0.0):
        ledger.rpush(f"started:{number}", f"{time.time()} {os.getpid()}")
        time.sleep(seconds)
        ledger.rpush(f"finished:{number}", time.time())

    @app.task(name="die")
    def die(number, whole_worker=False):
        ledger.rpush(f"started:{number}", time.time())
        os.kill(os.getppid() if whole_worker else os.getpid(), signal.SIGKILL)
        time.sleep(60)

    @app.task(name="add", ignore_result=False)
    def add(x, y):
        return x + y

    @app.task(name="total", ignore_result=False)
    def total(values):
        return sum(values)
    """
)


def connection(url: str, transport: str = OURS, **options: Any) -> kombu.Connection:
    """
    Return a connection that uses *transport*, whatever is installed.
    """
    return kombu.Connection(url, transport=transport, transport_options=options)


def publisher(url: str, transport: str = OURS, **options: Any) -> Celery:
    """
    Return a plain Celery app that publishes through *transport*.
    """
    app = Celery(set_as_current=False, broker=url)
    app.conf.update(broker_transport=transport, broker_transport_options=options, task_ignore_result=True)
    app.conf.result_backend = None
    return app


def consumer(url: str, *queues: str, owner: str | None = None, **options: Any) -> Consumer:
    """
    Return a consumer of *queues* with a short lease that only it renews, when told to.
    """
    words = {"lease": 30.0, "renew": False, **options}
    with connection(url) as link:
        return open_consumer(link, queues, options=ConsumerOptions(**words), owner=owner)


def send(url: str, queue: str, *bodies: Any, transport: str = OURS, **options: Any) -> None:
    """
    Publish *bodies* straight to *queue*.
    """
    with connection(url, transport) as link, link.Producer() as producer:
        for body in bodies:
            producer.publish(body, routing_key=queue, serializer="json", **options)


def bodies(deliveries: Any) -> list[Any]:
    """
    Return the decoded bodies of *deliveries*.
    """
    import base64
    import json

    return [json.loads(base64.b64decode(delivery.message["body"])) for delivery in deliveries]


class Worker(Program):
    """A real `celery worker` with the app above, in its own process group."""

    def __init__(
        self,
        folder: Path,
        broker: str,
        ledger: str,
        *words: str,
        transport: str = "ours",
        lease: float = 3.0,
        prefetch: int = 1,
        name: str = "w1",
    ) -> None:
        (folder / "transport_app.py").write_text(APP)
        root = Path(__file__).resolve().parents[2]
        argv = [sys.executable, "-m", "celery", "-A", "transport_app", "worker", "-l", "INFO", "-n", f"{name}@test"]
        super().__init__(
            [*argv, *words],
            log=folder / f"{name}.log",
            cwd=folder,
            env={
                "BROKER": broker,
                "LEDGER": ledger,
                "TRANSPORT": transport,
                "LEASE": str(lease),
                "PREFETCH": str(prefetch),
                "PYTHONPATH": os.pathsep.join((str(folder), str(root / "platform"))),
                "PYTHONWARNINGS": "ignore",
            },
        )

    def ready(self) -> Self:
        """
        Start the worker and wait until it consumes.
        """
        times = self.output().count("ready.") + 1
        self.start()
        self.wait_for_output("ready.", times=times)
        return self


class Ledger:
    """Who started and finished what, outside of the system under test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url, decode_responses=True)

    def started(self, number: int) -> int:
        """
        Return how often call *number* started.
        """
        return int(self.client.llen(f"started:{number}"))

    def finished(self, number: int) -> int:
        """
        Return how often call *number* finished.
        """
        return int(self.client.llen(f"finished:{number}"))

    def missing(self, numbers: Any) -> list[int]:
        """
        Return the calls of *numbers* that never finished.
        """
        numbers = list(numbers)
        with self.client.pipeline() as pipe:
            for number in numbers:
                pipe.exists(f"finished:{number}")
            return [number for number, done in zip(numbers, pipe.execute(), strict=True) if not done]


__all__ = [
    "APP",
    "KEYS",
    "OURS",
    "STOCK",
    "Ledger",
    "Transport",
    "Worker",
    "bodies",
    "connection",
    "consumer",
    "install",
    "publisher",
    "send",
]
