"""
A folder that holds nothing but tasks, served by one command, called by clients that know nothing of the platform.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.deployment import Deployment
from tests.servers.process import need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = """
from celery_platform import platform_task

@platform_task
def add(a: int, b: int) -> int:
    return a + b

@platform_task
def greet(name: str) -> str:
    return f"Hello, {name}"

@platform_task
def nothing() -> None:
    pass
"""

# A plain client: no platform is importable in its process.
PLAIN_CLIENT = """
import os, sys
sys.modules["celery_platform"] = None
from celery import Celery
app = Celery(broker=os.environ["BROKER"], backend=os.environ["RESULTS"])
print(app.send_task("tasks.add", (2, 3)).get(timeout=30))
"""

NODE_CLIENT = """
const celery = require("celery-node");
const client = celery.createClient(process.env.BROKER, process.env.RESULTS);
client.createTask("tasks.add").applyAsync([2, 3]).get(30000)
  .then((sum) => { console.log(sum); process.exit(0); })
  .catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    celery-node as npm installs it.
    """
    folder = tmp_path_factory.mktemp("node")
    npm = need("npm")
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "celery-node@0.5.9"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=150)
    return folder


@pytest.fixture
def served(tmp_path: Path, broker_url: str, redis_url: str) -> Iterator[dict[str, str]]:
    """
    A worker over a bare folder; yields where a client finds broker and results.
    """
    deployment = Deployment(tmp_path, PLATFORM_BROKER_URL=broker_url, PLATFORM_STATE_URL=redis_url)
    deployment.write("tasks/__init__.py", TASKS)
    deployment.worker("--concurrency=2")
    yield {"BROKER": broker_url, "RESULTS": redis_url}
    deployment.stop()


def test_a_plain_celery_client_is_served_from_a_bare_folder(served: dict[str, str], tmp_path: Path) -> None:
    client = subprocess.run(
        [sys.executable, "-c", PLAIN_CLIENT],
        env={**os.environ, **served},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (client.stdout, client.returncode) == ("5\n", 0), client.stderr


def test_a_client_in_another_language_is_served_too(served: dict[str, str], node_modules: Path) -> None:
    client = subprocess.run(
        [need("node"), "-e", NODE_CLIENT],
        env={**os.environ, **served},
        cwd=node_modules,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (client.stdout, client.returncode) == ("5\n", 0), client.stderr
