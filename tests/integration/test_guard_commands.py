"""
Operators see and steer guards: every command against a real store.
"""

from __future__ import annotations

import importlib
import json
import time

import pytest
from click.testing import CliRunner

from celery_platform.celery_app import current_platform, forget_platform
from celery_platform.stores.guard_state import Admitted, BreakerRule, Claim, ClaimRule, RateRule, Request, Settlement

KEY = ClaimRule("7", "until_ttl", "return_existing", "same", keep=60, hold=3600, lease=30)
SHOP = BreakerRule("shop|a", 0.5, 4, 60, 0, 0, 1.0, 30, 2, 60, 2, 10, 30)


@pytest.fixture
def state(monkeypatch, redis_url):
    monkeypatch.setenv("PLATFORM_BROKER_URL", redis_url)
    forget_platform()
    yield current_platform().guards
    current_platform().state.client.close()
    forget_platform()


def ask(*words, code=0):
    command = getattr(importlib.import_module(f"celery_platform.cli.{HOMES.get(words[0], words[0])}"), words[0])
    result = CliRunner().invoke(command, words[1:], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


HOMES = {"resume": "pause"}


def told(*words, code=0):
    return json.loads(ask(*words, "--json", code=code))


def test_keys_are_listed_inspected_and_released(state):
    state.claim(Claim("call-1", "tasks.pay", KEY))
    (listed,) = told("locks", "list")
    assert (listed["task"], listed["key"], listed["holder"], listed["state"]) == ("tasks.pay", "7", "call-1", "waiting")
    request = Request("call-1", "tasks.pay", "n", (KEY,))
    admitted = state.admit(request)
    shown = told("locks", "inspect", "7")
    assert (shown["state"], shown["fence"]) == ("running", 1)
    assert told("locks", "release", "tasks.pay|7") == {"key": "tasks.pay|7", "released": True}
    assert told("locks", "list") == []
    # The holder was still running: its result does not count any more.
    assert state.settle(request, admitted, Settlement("done", "1")).fenced
    assert "is not held" in ask("locks", "inspect", "7", code=1)


def test_the_doctor_finds_every_orphan_and_repairs_only_those(state):
    brief = ClaimRule("dead", "until_ttl", "return_existing", "same", keep=60, hold=3600, lease=0.05)
    for n in range(5):
        rule = ClaimRule(f"dead-{n}", brief.scope, brief.conflict, "same", 60, 3600, 0.05)
        assert isinstance(state.admit(Request(f"dead-{n}", "t", "n", (rule,))), Admitted)
        rule = ClaimRule(f"alive-{n}", brief.scope, brief.conflict, "same", 60, 3600, 30)
        assert isinstance(state.admit(Request(f"alive-{n}", "t", "n", (rule,))), Admitted)
        state.claim(
            Claim(f"waiting-{n}", "t", ClaimRule(f"waiting-{n}", brief.scope, brief.conflict, "same", 60, 3600, 30))
        )
    time.sleep(0.1)
    found = told("locks", "doctor", code=1)
    assert {entry["key"] for entry in found} == {f"dead-{n}" for n in range(5)}
    told("locks", "doctor", "--repair")
    assert told("locks", "doctor") == []
    assert len(told("locks", "list")) == 10


def test_breakers_are_listed_opened_and_closed(state):
    for n in range(4):
        request = Request(f"{n}", "t", f"n{n}", (SHOP,))
        state.settle(request, state.admit(request), Settlement("freed", verdicts={"shop|a": "failure"}))
    (listed,) = told("breakers", "list")
    assert set(listed) >= {"name", "key", "state", "since", "until", "failures", "calls"}
    assert (listed["name"], listed["key"], listed["state"]) == ("shop", "a", "open")
    assert (listed["failures"], listed["calls"]) == (4, 4)
    assert told("breakers", "close", "shop|a")["was"] == "open"
    opened = told("breakers", "open", "shop|a", "--for", "1h", "--reason", "maintenance")
    assert opened == {"name": "shop|a", "was": "closed", "state": "forced_open"}
    (listed,) = told("breakers", "list")
    assert (listed["state"], listed["reason"]) == ("forced_open", "maintenance")
    assert told("breakers", "disable", "shop|a")["was"] == "forced_open"
    assert isinstance(state.admit(Request("x", "t", "x", (SHOP,))), Admitted)
    assert "expected a duration" in ask("breakers", "open", "shop", "--for", "soon", code=2)


def test_a_limit_is_changed_for_the_next_call_and_set_back(state):
    rule = RateRule("api", 1, 60, 1, 1, sliding=False)

    def admitted(*calls):
        return [isinstance(state.admit(Request(call, "t", call, (rule,))), Admitted) for call in calls]

    assert admitted("a", "b") == [True, False]
    ask("limits", "set", "api", "--limit", "100", "--per", "1s")
    assert admitted(*"cdefg") == [True] * 5
    changed = [entry["change"] for entry in told("limits", "list") if entry["name"] == "api"]
    assert changed == [{"limit": 100, "per": 1000.0, "burst": 100}]
    ask("limits", "set", "api", "--dry-run")
    assert admitted(*(f"dry-{n}" for n in range(200))) == [True] * 200
    ask("limits", "reset", "api")
    assert admitted("late", "later")[-1] is False
    assert "Nothing to set" in ask("limits", "set", "api", code=2)


def test_a_pause_is_listed_with_its_reason_and_ends(state):
    assert told("pause") == []
    told("pause", "queue", "billing", "--for", "10m", "--reason", "bank holiday")
    (paused,) = told("pause")
    assert (paused["subject"], paused["reason"]) == ("queue:billing", "bank holiday")
    assert paused["until"] is not None
    assert told("resume", "queue", "billing") == {"subject": "queue:billing", "resumed": True}
    assert told("resume", "queue", "billing", code=1)["resumed"] is False


def test_explain_says_in_one_sentence_what_a_call_waits_for(state):
    for n in range(4):
        request = Request(f"{n}", "t", f"n{n}", (SHOP,))
        state.settle(request, state.admit(request), Settlement("freed", verdicts={"shop|a": "failure"}))
    state.admit(Request("late", "t", "late", (SHOP,)))
    answer = told("explain", "late")
    assert answer["sentence"].startswith("late is parked by circuit breaker shop|a, open since ")
    assert "next trial" in answer["sentence"]
    assert [(entry["guard"], entry["name"]) for entry in answer["history"]] == [("breaker", "shop|a")]
    state.cancel("late")
    assert told("explain", "late")["sentence"] == "late is cancelled and will not run."
    assert told("explain", "nobody", code=1)["sentence"].startswith("Nothing is known of nobody")
