"""
Overlap policies that stop a run, on a worker with real processes.
"""

from __future__ import annotations

import json

import pytest

from tests.deployment import CELERY, Deployment
from tests.servers import Program
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TASKS = """
import os, time
from celery_platform import current_call, platform_task

def note(*words):
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(" ".join(map(str, (*words, f"{time.time():.3f}"))) + "\\n")

@platform_task
def slow(word: str) -> None:
    nominal = current_call().scheduled_for.isoformat()
    note(word, "start", nominal)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.02)
    except BaseException:
        note(word, "stopped", nominal)
        raise
    note(word, "end", nominal)
"""

BEAT = """
from celery_platform.beat import every

schedule = [
    every("tasks.slow", seconds=3, name=policy, kwargs={"word": policy}, overlap=policy)
    for policy in ("cancel_other", "terminate_other")
]
"""


@pytest.fixture
def deployment(tmp_path, redis_url):
    deployment = Deployment(tmp_path, PLATFORM_BROKER_URL=redis_url, LEDGER=str(tmp_path / "ledger"))
    (tmp_path / "ledger").touch()
    deployment.write("tasks/__init__.py", TASKS)
    deployment.write("beat/__init__.py", BEAT)
    yield deployment
    deployment.stop()


def test_a_run_in_the_way_is_asked_to_stop_or_killed(deployment, tmp_path):
    deployment.worker("-c", "4", "-P", "prefork")
    beat = Program(
        [CELERY, "-A", "platform", "beat"], log=tmp_path / "beat.log", env=deployment.environment, cwd=tmp_path
    ).start()

    def seen(policy):
        lines = [line.split() for line in (tmp_path / "ledger").read_text().splitlines()]
        return [(what, nominal) for word, what, nominal, _ in lines if word == policy]

    try:
        wait_until(
            lambda: all(len(seen(policy)) >= 5 for policy in ("cancel_other", "terminate_other")),
            timeout=90,
            what="some runs of each policy",
        )
    finally:
        beat.stop()
    # One at a time: each has heard the question and ended before the next began.
    asked = seen("cancel_other")[:5]
    assert [what for what, _ in asked] == ["start", "stopped", "start", "stopped", "start"]
    assert (asked[0][1], asked[2][1]) == (asked[1][1], asked[3][1])
    # Killed without a word, and never run again.
    killed = seen("terminate_other")
    assert {what for what, _ in killed} == {"start"}
    assert len({nominal for _, nominal in killed}) == len(killed)
    history = json.loads(deployment.celery("schedule", "history", "--state", "cancelled", "--json").stdout)
    assert {line["entry"] for line in history} == {"cancel_other", "terminate_other"}
    # What had to make way is not dead.
    assert json.loads(deployment.celery("dead", "list", "--json").stdout) == []
