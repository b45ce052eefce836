"""
`celery -A platform dead …` on letters of a team: what it lists, changes, refuses, and that nothing is half-done.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from celery_platform.celery_app import current_platform, forget_platform
from celery_platform.cli.dead import dead
from celery_platform.dead_letters import DeadLetter
from celery_platform.replay import Replay, ReplayPlan
from tests.servers.redis import DATABASES

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def team(redis_server, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("LEDGER", str(tmp_path_factory.mktemp("dead") / "ledger"))
    patch.setenv("PLATFORM_BROKER_URL", redis_server.url(DATABASES - 303))
    patch.setenv("PLATFORM_TASKS", "mortal")
    patch.setenv("PLATFORM_QUEUES", "slow")
    patch.syspath_prepend(str(HERE / "team"))
    forget_platform()
    sys.modules.pop("mortal", None)
    importlib.import_module("mortal")
    yield current_platform()
    forget_platform()
    sys.modules.pop("mortal", None)
    patch.undo()


@pytest.fixture
def platform(team):
    team.state.client.flushdb()
    return team


def letter(number=1, args=(1,), kwargs=None, **words):
    task = words.get("task", "mortal.plain")
    body = json.dumps([list(args), kwargs or {}, {"callbacks": None}])
    message = {
        "raw": base64.b64encode(body.encode()).decode(),
        "headers": {"id": f"call-{number}", "task": task, "retries": 3, "platform_failures": 3},
        "properties": {"content_type": "application/json", "content_encoding": "utf-8"},
    }
    known = {
        "id": f"call-{number}",
        "call_id": f"call-{number}",
        "task": task,
        "queue": "default",
        "reason": "exhausted",
        "error": f"LookupError: no row {number}",
        "buried_at": time.time() - 1000 + number,
        "attempts": 3,
        "deliveries": 1,
        "group": "LookupError-1",
        "message": message,
    }
    return DeadLetter(**known | words)


def run(*words, code=0):
    result = CliRunner().invoke(dead, words)
    assert result.exit_code == code, result.output
    return result


def answer(*words, code=0):
    return json.loads(run(*words, "--json", code=code).stdout)


def ids(*words):
    return [row["id"] for row in answer("list", *words)]


def waiting(platform, queue="default"):
    with platform.app.connection_for_read() as connection, connection.channel() as channel:
        return [json.loads(message) for message in channel.client.lrange(queue, 0, -1)]


@pytest.fixture
def letters(platform):
    kept = platform.dead_letters
    kept.bury(letter(1))
    kept.bury(letter(2, task="mortal.tried", queue="slow", group="ConnectionError-2", reason="rejected"))
    kept.bury(letter(3, key="invoice:7", error="OSError: the disk is Full"))
    kept.bury(letter(4, reason="poison", group="poison-4"))
    kept.bury(letter(5, reason="undecodable", group="undecodable-5", task="", message={"raw": "//8="}))
    return kept


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), [5, 4, 3, 2, 1]),
        (("--limit", "2"), [5, 4]),
        (("--task", "mortal.tried"), [2]),
        (("--queue", "slow"), [2]),
        (("--reason", "exhausted"), [3, 1]),
        (("--reason", "exhausted", "--task", "mortal.plain", "--limit", "1"), [3]),
        (("--group", "poison-4"), [4]),
        (("--key", "invoice:7"), [3]),
        (("--text", "FULL"), [3]),
        (("call-2", "call-4", "nobody"), [2, 4]),
        (("--since", "2999-01-01"), []),
        (("--until", "2001-01-01T00:00:00"), []),
        (("--task", "nobody"), []),
    ],
)
def test_letters_are_listed_by_every_word(letters, words, found):
    assert ids(*words) == [f"call-{number}" for number in found]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "--reason", "exausted"), "Did you mean 'exhausted'?"),
        (("list", "--since", "soon"), "'soon' is no time"),
        (("list", "--colour", "red"), "No such option"),
        (("discard",), "expected a selection"),
        (("purge",), "either --older-than DURATION or --all"),
        (("replay", "--to", "slwo"), "Did you mean 'slow'?"),
        (("replay", "--rate", "fast"), "is no rate"),
        (("replay", "--rate", "0/s"), "is no rate"),
        (("replay", "--stop-if-fail", "many"), "is no share"),
        (("replay", "--stop-if-fail", "0%"), "expected a share above 0"),
        (("replay", "--edit", "{"), "expected a JSON patch"),
        (("edit", "call-1", "--edit", '{"op": "remove"}'), "expected a list"),
    ],
)
def test_words_that_cannot_work_are_wrong_use_and_nothing_happens(letters, platform, words, said):
    result = run(*words, code=2)
    assert said in result.output
    assert letters.count() == 5
    assert waiting(platform) == waiting(platform, "slow") == []


def test_groups_are_listed_with_and_without_a_selection(letters):
    rows = {row["group"]: row for row in answer("groups")}
    assert {group: row["count"] for group, row in rows.items()} == {
        "LookupError-1": 2,
        "ConnectionError-2": 1,
        "poison-4": 1,
        "undecodable-5": 1,
    }
    assert rows["LookupError-1"]["sample"] == "call-3"
    assert rows["LookupError-1"]["first"] < rows["LookupError-1"]["last"]
    some = answer("groups", "--task", "mortal.plain", "--reason", "exhausted")
    assert [(row["group"], row["count"]) for row in some] == [("LookupError-1", 2)]
    assert "LookupError-1\tmortal.plain" in run("groups").stdout


def test_a_replay_sends_each_letter_once_with_its_attempts_unspent(letters, platform):
    report = answer("replay", "call-1", "--actor", "ada", "--because", "mended")
    assert (report["state"], report["sent"], report["total"]) == ("done", 1, 1)
    (message,) = waiting(platform)
    headers = message["headers"]
    assert (headers["task"], headers["retries"], headers["platform_lineage"]) == ("mortal.plain", 0, ["call-1"])
    assert headers["id"] != "call-1"
    assert "platform_failures" not in headers
    assert json.loads(base64.b64decode(message["body"]))[0] == [1]
    assert answer("replay", "call-1")["sent"] == 0
    assert len(waiting(platform)) == 1
    (sent,) = answer("list", "--replayed")
    assert (sent["id"], sent["sent_as"]) == ("call-1", headers["id"])
    assert "call-1" not in ids()
    line = answer("audit")[-1]
    assert (line["actor"], line["action"], line["because"], line["count"]) == ("ada", "replay", "mended", 1)


def test_a_replay_passes_over_poison_and_what_cannot_be_read(letters, platform):
    report = answer("replay")
    assert report["sent"] == 3
    assert {letter_id for letter_id, _ in report["passed_over"]} == {"call-4", "call-5"}
    assert len(waiting(platform)) == 2
    assert len(waiting(platform, "slow")) == 1
    assert answer("replay", "--reason", "poison")["sent"] == 1
    assert ids() == ["call-5"]


def test_a_replay_goes_to_another_queue_when_asked(letters, platform):
    answer("replay", "call-1", "--to", "slow")
    assert len(waiting(platform, "slow")) == 1


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(letters, platform):
    edit = '[{"op": "replace", "path": "/args/0", "value": 41}]'
    shown = answer("replay", "--task", "mortal.plain", "--edit", edit, "--dry-run")
    assert [row["argsrepr"] for row in shown["letters"]] == ["(41,)", "(41,)"]
    assert answer("discard", "--queue", "slow", "--dry-run") == {"action": "discard", "count": 1, "dry_run": True}
    assert answer("purge", "--all", "--dry-run")["count"] == 5
    run("replay", "--dry-run")
    assert waiting(platform) == []
    assert letters.count() == 5
    assert letters.find("call-1").arguments()[0] == [1]


def test_a_named_replay_is_done_once_whatever_dies_later(letters, platform):
    assert answer("replay", "--name", "monday", "--task", "mortal.plain")["sent"] == 2
    letters.bury(letter(9))
    again = answer("replay", "--name", "monday", "--task", "mortal.plain")
    assert (again["state"], again["sent"], again["total"]) == ("done", 0, 2)
    assert answer("replay", "--task", "mortal.plain")["sent"] == 1


def test_a_replay_keeps_its_pace(platform):
    for number in range(151):
        platform.dead_letters.bury(letter(number))
    moments = []
    report = Replay(platform, ReplayPlan(rate=50)).run(lambda _, __: moments.append(time.monotonic()))
    assert report.sent == 151
    assert moments[-1] - moments[0] == pytest.approx(150 / 50, rel=0.05)


def test_a_limit_counts_over_all_runs_of_a_replay(letters, platform):
    assert answer("replay", "--limit", "1", "--task", "mortal.plain")["sent"] == 1
    assert len(waiting(platform)) == 1


def test_an_edit_is_held_against_the_annotations_and_keeps_what_was_received(letters):
    before = letters.find("call-1")
    wrong = run("edit", "call-1", "--edit", '[{"op": "replace", "path": "/args/0", "value": "one"}]', code=1)
    assert "'number' expected int, got str" in wrong.stderr
    missing = run("edit", "call-1", "--edit", '[{"op": "remove", "path": "/args/7"}]', code=1)
    assert "The patch does not fit the dead letter call-1" in missing.stderr
    odd = run("edit", "call-1", "--edit", '[{"op": "add", "path": "/more", "value": 1}]', code=1)
    assert "nothing else" in odd.stderr
    assert letters.find("call-1") == before
    assert "There is no open dead letter" in run("edit", "nobody", "--edit", "[]", code=1).stderr
    assert "no message can be read from its 2 bytes" in run("edit", "call-5", "--edit", "[]", code=1).stderr

    run("edit", "call-1", "--edit", '[{"op": "replace", "path": "/args/0", "value": 2}]', "--because", "typo")
    after = letters.find("call-1")
    assert after.arguments()[0] == [2]
    assert base64.b64decode(after.message["received"]) == before.raw
    assert after.edited_at is not None
    assert answer("audit")[0]["action"] == "edit"


def test_an_edit_that_does_not_fit_one_letter_sends_none(letters, platform):
    letters.bury(letter(6, args=(), kwargs={"number": 6}))
    edit = '[{"op": "replace", "path": "/args/0", "value": 2}]'
    assert (
        "does not fit the dead letter call-6" in run("replay", "--task", "mortal.plain", "--edit", edit, code=1).stderr
    )
    assert waiting(platform) == []
    assert letters.count() == 6


def test_letters_leave_by_selection_and_by_age_but_not_while_they_are_held(letters):
    assert answer("hold", "call-1", "--because", "lawsuit")["count"] == 1
    assert answer("discard", "--task", "mortal.plain")["count"] == 2
    assert ids() == ["call-5", "call-2", "call-1"]
    assert answer("purge", "--older-than", "998.5s")["count"] == 0
    assert answer("purge", "--all")["count"] == 2
    assert ids() == ["call-1"]
    assert answer("release", "call-1")["count"] == 1
    assert answer("purge", "--older-than", "900s")["count"] == 1
    assert {line["action"] for line in answer("audit")} == {"hold", "discard", "purge", "release"}


def test_what_is_exported_can_be_imported_elsewhere(letters, tmp_path):
    before = {one.id: one for one in letters.list()}
    file = tmp_path / "letters.jsonl"
    run("export", "--output", str(file), "--task", "mortal.plain")
    assert len(file.read_text().splitlines()) == 3
    run("export", "--output", str(file))
    answer("purge", "--all")
    assert answer("import", str(file), "--dry-run")["count"] == 5
    assert letters.count() == 0
    assert answer("import", str(file))["count"] == 5
    assert answer("import", str(file))["count"] == 0
    assert {one.id: one for one in letters.list()} == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Line 3 is not JSON"),
        ("[]", "Line 3 is no dead letter: expected an object, got list"),
        ('{"id": 7}', "Line 3 is no dead letter: 'id' expected a text, got 7"),
        ('{"id": "x", "call_id": "x", "task": "t", "reason": "r", "error": "e"}', "'buried_at' expected a number"),
    ],
)
def test_a_corrupt_line_is_named_and_nothing_is_imported(letters, tmp_path, line, said):
    file = tmp_path / "letters.jsonl"
    run("export", "--output", str(file), "call-1", "call-2")
    answer("purge", "--all")
    file.write_text(file.read_text() + line + "\n")
    assert said in run("import", str(file), code=1).stderr
    assert letters.count() == 0


def test_a_letter_is_shown_with_its_history_and_without_its_payload(letters):
    shown = answer("show", "call-3")
    assert shown["key"] == "invoice:7"
    assert "message" not in shown
    assert "There is no dead letter 'nobody'" in run("show", "nobody", code=1).stderr
    assert "key: invoice:7" in run("show", "call-3").stdout
