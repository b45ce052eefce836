"""
`celery -A platform …` from a folder that holds nothing but the package `tasks`.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.deployment import CELERY, Deployment
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TASKS = """
from celery_platform import Backoff, Secret, platform_task


@platform_task
def add(x: int, y: int) -> int:
    return x + y


@platform_task(queue="billing", priority="high", retry=Backoff(on=OSError, attempts=2, first=0.1))
def charge(invoice: str, card: Secret[str]) -> None:
    raise OSError(f"the bank refused {card.reveal()} for {invoice}")


@platform_task
def greet(name: str = "you") -> str:
    return f"hello {name}"
"""


@pytest.fixture
def team(redis_url, tmp_path):
    """
    A folder with `tasks/__init__.py` alone, on a real Redis.
    """
    made = Deployment(tmp_path, PLATFORM_BROKER_URL=redis_url, PLATFORM_QUEUES="billing")
    made.write("tasks/__init__.py", TASKS)
    yield made
    made.stop()


def answer_of(result, code=0):
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def test_settings_lists_every_setting_with_its_source_and_no_secret(team, redis_url):
    result = team.celery(
        "settings", "--json", PLATFORM_LEASE="45", PLATFORM_STATE_URL=redis_url.replace("//", "//:tulip-4711@")
    )
    rows = {row["name"]: row for row in answer_of(result)}
    assert rows["PLATFORM_LEASE"]["value"] == "45.0"
    assert rows["PLATFORM_LEASE"]["source"] == "environment"
    assert rows["PLATFORM_NAMESPACE"]["source"] == "default"
    assert "***" in rows["PLATFORM_STATE_URL"]["value"]
    assert "tulip-4711" not in result.stdout
    assert all(row["description"] for row in rows.values())


def test_settings_for_people_is_a_plain_table_without_colours(team):
    result = team.celery("settings")
    assert result.returncode == 0, result.stderr
    assert "PLATFORM_BROKER_URL\t" in result.stdout
    assert "\x1b" not in result.stdout


def test_settings_that_contradict_each_other_are_told_in_one_sentence(team):
    result = team.celery("settings", PLATFORM_METRICS_PORT="9000", PLATFORM_HEALTH_PORT="9000")
    assert result.returncode != 0
    assert "Give each its own port" in result.stdout + result.stderr


def test_route_explain_names_the_rule_that_decides(team):
    charge = answer_of(team.celery("route", "explain", "tasks.charge", "--json"))
    assert charge == {
        "task": "tasks.charge",
        "queue": "billing",
        "priority": "high",
        "number": 3,
        "rule": "queue of the task's decorator",
        "broker": "redis",
    }
    greet = answer_of(team.celery("route", "explain", "tasks.greet", "--json", PLATFORM_ROUTES="tasks.*=billing:bulk"))
    assert (greet["queue"], greet["priority"], greet["rule"]) == ("billing", "bulk", "route pattern 'tasks.*'")
    given = answer_of(team.celery("route", "explain", "tasks.add", "[1, 2]", "--queue", "celery", "--json"))
    assert (given["queue"], given["rule"]) == ("celery", "queue given with the call")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["explain", "tasks.ad"], 1, "Did you mean 'tasks.add'"),
        (["explain", "tasks.add", '[1, "2"]'], 1, "'y'"),
        (["explain", "tasks.add", "[1]"], 1, "missing 'y'"),
        (["explain", "tasks.add", "--queue", "biling"], 1, "Did you mean 'billing'"),
        (["explain", "tasks.add", "[1"], 2, "expected a JSON list"),
        (["explain", "tasks.add", "{}"], 2, "expected a JSON list, got dict"),
        (["explain"], 2, "Missing argument"),
        (["explian", "tasks.add"], 2, "No such command"),
    ],
    ids=str,
)
def test_route_explain_says_what_is_wrong(team, words, code, told):
    result = team.celery("route", *words)
    assert result.returncode == code, result.stdout + result.stderr
    assert told in result.stderr
    assert result.stdout == ""


def test_report_tells_about_the_app_and_hides_the_password(team, redis_url):
    result = team.celery("report", PLATFORM_STATE_URL=redis_url.replace("//", "//:tulip-4711@"))
    assert result.returncode == 0, result.stderr
    assert "platform" in result.stdout
    assert "broker_url" in result.stdout
    assert "tulip-4711" not in result.stdout


def test_a_worker_serves_the_folder_and_answers_to_celerys_own_commands(team):
    worker = team.worker("-c", "2")
    ping = team.celery("inspect", "ping", "--json", "--timeout", "10")
    assert ping.returncode == 0, ping.stderr
    assert "pong" in ping.stdout
    called = team.celery("call", "tasks.add", "--args", "[2, 3]")
    assert called.returncode == 0, called.stderr
    call_id = called.stdout.strip()
    wait_until(lambda: f"tasks.add[{call_id}] succeeded" in worker.output(), what="the called task to succeed")
    result = team.celery("result", call_id)
    assert result.stdout.strip() == "5"


def test_a_buried_call_is_listed_and_shown_without_its_private_values(team):
    team.worker("-c", "2")
    text = "from tasks import charge; print(charge.delay('inv-7', 'tulip-4711').id)"
    call_id = team.python(text).stdout.strip()
    letters = wait_until(lambda: answer_of(team.celery("dead", "list", "--json")), what="a dead letter", timeout=60)
    assert [letter["call_id"] for letter in letters] == [call_id]
    letter = letters[0]
    assert {"id", "call_id", "task", "queue", "reason", "error", "group", "buried_at", "attempts", "deliveries"} <= set(
        letter
    )
    assert (letter["task"], letter["queue"], letter["reason"], letter["attempts"]) == (
        "tasks.charge",
        "billing",
        "exhausted",
        2,
    )
    shown = team.celery("dead", "show", letter["id"], "--json")
    assert answer_of(shown)["error"].startswith("OSError: the bank refused ***")
    people = team.celery("dead", "show", letter["id"])
    table = team.celery("dead", "list")
    assert "inv-7" in people.stdout
    assert call_id in table.stdout
    for result in (shown, people, table):
        assert "tulip-4711" not in result.stdout + result.stderr
    assert answer_of(team.celery("dead", "list", "--task", "tasks.add", "--json")) == []
    assert answer_of(team.celery("dead", "list", "--reason", "exhausted", "--queue", "billing", "--json")) == letters


def test_a_letter_that_does_not_exist_is_an_answer_of_no(team):
    assert answer_of(team.celery("dead", "list", "--json")) == []
    result = team.celery("dead", "show", "nobody", "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert "There is no dead letter 'nobody'" in result.stderr
    assert team.celery("dead", "list", "--limit", "0").returncode == 2


def test_help_lists_our_commands_and_does_not_build_the_app(team):
    broken = {"PLATFORM_BROKER_URL": "nonsense://", "PLATFORM_LEASE": "-1"}
    result = team.run([str(CELERY), "--help"], timeout=60, **broken)
    assert result.returncode == 0, result.stderr
    for command in ("settings", "route", "dead", "embedded", "worker"):
        assert f"  {command} " in result.stdout
    own = team.run([str(CELERY), "route", "explain", "--help"], timeout=60, **broken)
    assert own.returncode == 0, own.stderr
    assert "TASK" in own.stdout
    refused = team.celery("report", **broken)
    assert refused.returncode != 0
    assert "PLATFORM_BROKER_URL" in refused.stdout + refused.stderr


def test_a_broken_tasks_module_stops_the_worker_and_shows_the_true_cause(team):
    team.write("tasks/__init__.py", "import tasks.billing\n")
    team.write("tasks/billing.py", "from decimal import Decimal\n\nRATE = Decimal.of('0.19')\n")
    worker = team.worker(wait=False)
    wait_until(lambda: not worker.alive, timeout=60, what="the worker to refuse")
    assert worker.process.returncode != 0
    told = worker.output()
    assert "Traceback" in told
    assert "billing.py" in told
    assert "RATE = Decimal.of('0.19')" in told
    assert "type object 'decimal.Decimal' has no attribute 'of'" in told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("@platform_task(quue='billing')\ndef pay() -> None: ...\n", "Did you mean 'queue'"),
        ("@platform_task(queue='biling')\ndef pay() -> None: ...\n", "Did you mean 'billing'"),
        ("import nonexistent_package\n", "No module named 'nonexistent_package'"),
        ("def (:\n", "SyntaxError"),
    ],
    ids=["word", "queue", "import", "syntax"],
)
def test_a_mistake_in_a_task_stops_the_worker_with_its_reason(team, line, told):
    team.write("tasks/__init__.py", f"from celery_platform import platform_task\n\n{line}")
    worker = team.worker(wait=False)
    wait_until(lambda: not worker.alive, timeout=60, what="the worker to refuse")
    assert worker.process.returncode != 0
    assert told in worker.output()
    assert "Traceback" in worker.output()


def test_a_folder_without_tasks_is_told_so(team, tmp_path_factory):
    elsewhere = Deployment(tmp_path_factory.mktemp("bare"), **team.environment)
    worker = elsewhere.worker(wait=False)
    wait_until(lambda: not worker.alive, timeout=60, what="the worker to refuse")
    assert worker.process.returncode != 0
    assert "No module named 'tasks'" in worker.output()


def test_another_folder_is_named_with_workdir(team, tmp_path_factory):
    argv = [str(CELERY), "--workdir", str(team.folder), "-A", "platform", "route", "explain", "tasks.add", "--json"]
    result = subprocess.run(
        argv,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=team.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer_of(result)["queue"] == "default"


def test_the_standard_librarys_platform_still_works_for_the_tasks(team):
    team.write(
        "tasks/__init__.py",
        "import platform\n\nfrom celery_platform import platform_task\n\n\n"
        "@platform_task\ndef system() -> str:\n    return platform.system()\n",
    )
    worker = team.worker("-c", "1")
    call_id = team.celery("call", "tasks.system").stdout.strip()
    wait_until(lambda: f"tasks.system[{call_id}] succeeded" in worker.output(), what="the task to succeed")
    assert "'Linux'" in worker.output()
