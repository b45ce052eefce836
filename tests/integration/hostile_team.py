"""
A deployment of `team/hostile.py`, or of another module there, on a broker of its own.

Its tasks are imported into this process.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from celery_platform.celery_app import current_platform, forget_platform
from tests.deployment import Deployment
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_platform.dead_letters import DeadLetter

HERE = Path(__file__).parent


class HostileTeam:
    """Its *deployment* runs workers, *tasks* are called from here."""

    def __init__(self, folder: Path, broker: str, state: str, module: str = "hostile", **settings: str) -> None:
        shutil.copy(HERE / "team" / f"{module}.py", folder / f"{module}.py")
        self.broker = broker
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.settings = {
            "PLATFORM_BROKER_URL": broker,
            "PLATFORM_STATE_URL": state,
            "PLATFORM_TASKS": module,
            "PLATFORM_UNKNOWN_TTL": "0.05",
            "LEDGER": str(self.ledger),
            **settings,
        }
        self.deployment = Deployment(folder, **self.settings)
        self.tasks: Any = None

    @property
    def app(self) -> Any:
        return current_platform().app

    def notes(self) -> list[str]:
        return self.ledger.read_text().splitlines()

    def letters(self) -> list[DeadLetter]:
        return list(current_platform().dead_letters.newest(100))

    def letter(self, letter_id: str, *, timeout: float = 60) -> DeadLetter:
        """
        Wait for the dead letter *letter_id*.
        """
        find = current_platform().dead_letters.find
        return wait_until(lambda: find(letter_id), timeout=timeout, what=f"the dead letter {letter_id}")

    def publish(self, body: Any, **options: Any) -> None:
        """
        Publish a message as a foreign producer would.
        """
        queue = options.pop("queue", "default")
        declared = self.app.amqp.queues[queue]
        with self.app.connection_for_write() as connection, connection.Producer() as producer:
            producer.publish(
                body, exchange=declared.exchange, routing_key=declared.routing_key, declare=[declared], **options
            )


@contextlib.contextmanager
def hostile_team(
    folder: Path, broker: str, state: str, module: str = "hostile", **settings: str
) -> Iterator[HostileTeam]:
    """
    Make a team of *module* and import its tasks; everything is stopped and forgotten afterwards.
    """
    patch = pytest.MonkeyPatch()
    team = HostileTeam(folder, broker, state, module, **settings)
    try:
        for name, value in team.settings.items():
            patch.setenv(name, value)
        forget_platform()
        patch.syspath_prepend(str(folder))
        sys.modules.pop(module, None)
        team.tasks = importlib.import_module(module)
        yield team
    finally:
        team.deployment.stop()
        forget_platform()
        sys.modules.pop(module, None)
        patch.undo()
