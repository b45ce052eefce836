"""
A broker that is away is an error in time, never a hang.
"""

from __future__ import annotations

import json
import socket

import pytest

from tests.deployment import Deployment
from tests.servers import free_port

TIMEOUT = 4
# A loaded machine may take its time between the error and the print.
SLACK = 3

TEXT = """
import json, time
from tasks import add
import celery_platform.errors as errors, kombu.exceptions as kombu
add.app.amqp.producer_pool  # what the first call builds is no part of the measure
started = time.monotonic()
try:
    add.delay(1, 2)
except errors.PublishError as error:
    ours = isinstance(error, kombu.OperationalError)
    print(json.dumps({"took": time.monotonic() - started, "message": str(error), "celery": ours}))
"""


@pytest.fixture
def black_hole():
    """
    A port that takes connections and never says a word.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("place", ["refused", "silent"])
def test_a_call_to_a_broker_that_is_away_fails_within_the_publish_timeout(scheme, place, black_hole, tmp_path):
    port = free_port() if place == "refused" else black_hole
    url = {"redis": f"redis://127.0.0.1:{port}/0", "amqp": f"amqp://guest:tulip@127.0.0.1:{port}//"}[scheme]
    team = Deployment(
        tmp_path,
        PLATFORM_BROKER_URL=url,
        PLATFORM_STATE_URL=f"redis://127.0.0.1:{free_port()}/0",
        PLATFORM_PUBLISH_TIMEOUT=str(TIMEOUT),
    )
    team.write(
        "tasks/__init__.py",
        "from celery_platform import platform_task\n\n\n"
        "@platform_task\ndef add(x: int, y: int) -> int:\n    return x + y\n",
    )
    answer = team.python(TEXT)
    assert answer.returncode == 0, answer.stderr
    seen = json.loads(answer.stdout)
    assert seen["took"] < TIMEOUT + SLACK
    assert seen["celery"] is True
    assert "tasks.add was not enqueued" in seen["message"]
    assert "Check PLATFORM_BROKER_URL" in seen["message"]
    assert "tulip" not in answer.stdout + answer.stderr
