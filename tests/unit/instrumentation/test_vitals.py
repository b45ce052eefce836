"""
What a process says of itself.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from celery_platform.instrumentation import web
from celery_platform.instrumentation.asking import ask
from celery_platform.instrumentation.vitals import BLOCKED_AFTER, Vitals
from celery_platform.settings import Settings
from tests.servers import free_port


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def vitals(clock):
    return Vitals("worker", now=clock)


def test_a_process_lives_before_it_has_started(vitals):
    assert vitals.live().ok
    assert vitals.startup().why == "the worker is still starting"
    assert vitals.ready().why == "the worker is still starting"


def test_a_started_process_that_has_no_broker_has_started_and_is_not_ready(vitals):
    vitals.start()
    vitals.rest("it is not connected")
    assert vitals.startup().ok
    assert vitals.live().ok
    assert vitals.ready().why == "it is not connected"


def test_a_loop_that_beats_is_ready_and_one_that_stops_is_neither_live_nor_ready(vitals, clock):
    vitals.start()
    vitals.beat()
    assert vitals.ready().ok
    clock.now += BLOCKED_AFTER
    assert vitals.live().ok
    clock.now += 1
    assert vitals.live().why == "the main loop has been blocked for 11 seconds"
    assert vitals.ready().why == vitals.live().why
    vitals.beat()
    assert vitals.ready().ok


def test_a_loop_that_runs_a_task_itself_is_not_taken_for_blocked(vitals, clock):
    vitals.start()
    vitals.beat()
    busy = [True]
    vitals.occupied_by(lambda: busy[0])
    clock.now += 3600
    assert vitals.live().ok
    busy.clear()
    busy.append(False)
    assert not vitals.live().ok


def test_a_loop_that_rests_is_not_taken_for_blocked(vitals, clock):
    vitals.beat()
    vitals.rest("it is shutting down")
    clock.now += 3600
    assert vitals.live().ok


def test_every_trouble_is_told_until_it_is_over(vitals):
    vitals.start()
    vitals.beat()
    vitals.note("the state store", "away")
    vitals.note("the schedules", "late")
    assert vitals.ready().why == "the state store: away; the schedules: late"
    vitals.note("the state store", "")
    vitals.note("nothing", "")
    assert vitals.ready().why == "the schedules: late"
    assert vitals.live().ok


def fetched(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def opened(vitals, **ports):
    return web.serve(Settings.load(listen="127.0.0.1", **ports), vitals, lambda: b"figures 1\n")


def test_one_port_serves_probes_and_metrics(vitals):
    port = free_port()
    opening = opened(vitals, health_port=port)
    vitals.start()
    vitals.beat()
    try:
        status, body = fetched(port, "/ready?verbose")
        assert (status, json.loads(body)["ok"], json.loads(body)["role"]) == (200, True, "worker")
        vitals.note("the state store", "away")
        status, body = fetched(port, "/ready")
        assert (status, json.loads(body)["why"]) == (503, "the state store: away")
        assert fetched(port, "/metrics") == (200, b"figures 1\n")
        assert fetched(port, "/")[0] == 404
        assert ask("ready", port)["why"] == "the state store: away"
    finally:
        opening.close()


def test_two_ports_keep_probes_and_metrics_apart(vitals):
    health, figures = free_port(), free_port()
    opening = opened(vitals, health_port=health, metrics_port=figures)
    try:
        assert opening.ports == (health, figures)
        assert [fetched(health, path)[0] for path in ("/live", "/metrics")] == [200, 404]
        assert [fetched(figures, path)[0] for path in ("/live", "/metrics")] == [404, 200]
    finally:
        opening.close()


def test_without_a_port_nothing_is_opened(vitals):
    assert opened(vitals).ports == ()


def test_a_port_that_is_taken_costs_the_probes_and_not_the_process(vitals, caplog):
    port = free_port()
    first = opened(vitals, health_port=port)
    try:
        assert opened(vitals, health_port=port).ports == ()
        assert "Give each its own" in caplog.text
    finally:
        first.close()


def test_a_process_that_does_not_answer_is_not_well():
    told = ask("live", free_port())
    assert not told["ok"]
    assert "Does the process run?" in told["why"]
