"""
What the supervised pool promises when one of its processes, or all of them, die or are busy.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import time

import psutil
import pytest

from tests.deployment import Deployment
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NOOPS = int(os.environ.get("N", "2000"))
TASKS = """
import os, time
from celery_platform import app, platform_task

def note(word):
    descriptor = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{word} {os.getpid()} {time.time():.4f}\\n".encode())
    os.close(descriptor)

@platform_task
def nap(name: str, seconds: float) -> str:
    note(f"begin-{name}")
    time.sleep(seconds)
    note(f"end-{name}")
    return name

@platform_task
def noop(number: int) -> None:
    note("noop")

@app.task
def fork():
    note("fork")
    os.fork()

@app.task
def exit_at_once():
    note("exit")
    os._exit(7)

class Odd(BaseException):
    pass

@app.task
def raise_odd():
    note("odd")
    raise Odd("not even an Exception")

@app.task
def unwritable():
    return object()
"""


@pytest.fixture
def team(tmp_path, redis_url):
    ledger = tmp_path / "ledger"
    ledger.touch()
    deployment = Deployment(tmp_path, PLATFORM_BROKER_URL=redis_url, PLATFORM_LEASE="3", LEDGER=str(ledger))
    deployment.write("tasks/__init__.py", TASKS)
    yield deployment
    deployment.stop()


def call(team, text):
    answer = team.python(f"import tasks\n{text}", timeout=120)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def notes(team, word):
    lines = (line.split() for line in (team.folder / "ledger").read_text().splitlines())
    return [(int(pid), float(at)) for name, pid, at in lines if name == word]


def work(team, *words):
    return team.worker("-P", "supervised", "-c", "2", "--loglevel=WARNING", *words, wait=False)


def test_the_call_of_a_killed_process_starts_again_within_a_second(team):
    worker = work(team)
    call(team, "tasks.nap.delay('x', 3)")
    (pid, _), *_ = wait_until(lambda: notes(team, "begin-x"), timeout=60)
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(notes(team, "begin-x")) == 2, timeout=30)
    assert notes(team, "begin-x")[1][1] - killed <= 1
    wait_until(lambda: notes(team, "end-x"), timeout=30)
    assert worker.alive
    assert len(notes(team, "begin-x")) == 2


def test_processes_whose_parent_is_killed_end_within_a_second_and_others_take_over(team):
    worker = work(team)
    call(team, "tasks.nap.delay('x', 60)")
    wait_until(lambda: notes(team, "begin-x"), timeout=60)
    children = psutil.Process(worker.pid).children()
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: not any(_lives(child) for child in children), timeout=1, what="the children to end")
    work(team)
    wait_until(lambda: len(notes(team, "begin-x")) == 2, timeout=60, what="the lease to end")


def _lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_long_call_among_many_short_ones_holds_none_of_them_back(team):
    call(
        team,
        f"[tasks.noop.delay(n) for n in range({NOOPS // 2})]; tasks.nap.delay('long', 20);"
        f"[tasks.noop.delay(n) for n in range({NOOPS - NOOPS // 2})]",
    )
    work(team)
    wait_until(lambda: len(notes(team, "noop")) == NOOPS, timeout=120, what="the short calls")
    assert not notes(team, "end-long")
    times = sorted(at for _, at in notes(team, "noop"))
    begun = notes(team, "begin-long")[0][1]
    after = [at for at in times if at > begun]
    longest = max(later - earlier for earlier, later in itertools.pairwise(after))
    assert longest <= 0.2


def test_a_call_that_turns_out_long_lets_go_of_what_stands_behind_it(team):
    """
    The task was quick so far, so the whole batch was fetched before anybody could know.
    """
    call(
        team,
        "[tasks.nap.delay('quick', 0) for n in range(300)]; tasks.nap.delay('long', 20);"
        "[tasks.nap.delay('quick', 0) for n in range(300)]",
    )
    work(team)
    wait_until(lambda: len(notes(team, "end-quick")) == 600, timeout=60, what="the quick calls")
    assert not notes(team, "end-long")
    assert len(notes(team, "begin-quick")) == 600


@pytest.mark.parametrize(("task", "reason"), [("exit_at_once", "poison"), ("raise_odd", "poison")])
def test_a_call_that_ends_its_process_each_time_is_one_dead_letter_and_its_neighbours_run_once(team, task, reason):
    worker = work(team)
    call(
        team, f"[tasks.noop.delay(n) for n in range(5)]; tasks.{task}.delay(); [tasks.noop.delay(n) for n in range(5)]"
    )
    letters = wait_until(lambda: _reasons(team), timeout=60, what="the dead letter")
    assert letters == [reason]
    wait_until(lambda: len(notes(team, "noop")) == 10, timeout=30)
    assert worker.alive


def _reasons(team):
    return [letter["reason"] for letter in json.loads(team.celery("dead", "list", "--json").stdout or "[]")]


def test_a_body_that_forks_leaves_one_worker_process_and_not_two(team):
    work(team)
    call(team, "tasks.fork.delay().get(timeout=60); [tasks.noop.delay(n) for n in range(50)]")
    wait_until(lambda: len(notes(team, "noop")) == 50, timeout=30)
    assert len(notes(team, "fork")) == 1


def test_a_result_that_cannot_be_written_fails_its_call_alone(team):
    worker = work(team)
    said = call(
        team,
        "result = tasks.unwritable.delay()\n"
        "try:\n    result.get(timeout=60)\nexcept Exception as error:\n    print(type(error).__name__)\n"
        "tasks.noop.delay(1).get(timeout=30)",
    )
    assert "Error" in said
    assert worker.alive
