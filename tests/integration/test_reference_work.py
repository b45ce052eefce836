"""
The reference work through a real worker, asked for by a plain Celery client that knows nothing of the platform.
"""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import pytest
from celery import Celery

from tests.deployment import ROOT, Deployment
from tests.servers import Answer
from tests.waiting import wait_until

SECRET = "whsec_" + base64.b64encode(b"a key of some length").decode()
WELCOME = {"name": "Adelaide", "link": "https://example.com/"}
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def place(tmp_path, broker_url, redis_url, smtp_server, http_server):
    """
    A deployment of the reference work, with its mail server and its endpoint.
    """
    place = Deployment(
        tmp_path,
        PLATFORM_BROKER_URL=broker_url,
        PLATFORM_STATE_URL=redis_url,
        PLATFORM_UNSAFE="warn",
        TASKS_SMTP_URL=smtp_server.url(),
        TASKS_WEBHOOK_ALLOW_PRIVATE="1",
    )
    (tmp_path / "tasks").symlink_to(ROOT / "tasks")
    yield place
    place.stop()


@pytest.fixture
def worker(place):
    """
    A worker of the reference work.
    """
    return place.worker("--concurrency=2")


@pytest.fixture
def client(worker, broker_url, redis_url):
    """
    A plain client; its calls end within their retries.
    """
    app = Celery(broker=broker_url, backend=redis_url)
    yield app
    app.close()


def _letters(place):
    listed = place.celery("dead", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    return json.loads(listed.stdout)


def test_mail_refused_for_now_is_sent_later_and_mail_refused_for_good_is_a_dead_letter(
    client, worker, place, smtp_server
):
    smtp_server.refuse(times=1, answer="451 4.7.1 greylisted")
    later = client.send_task("tasks.email.send_email", ("adelaide@example.com", "Hello", "welcome", WELCOME))
    assert later.get(timeout=60) == f"<{later.id}@localhost>"
    assert smtp_server.attempts == 2
    assert [received.recipients for received in smtp_server.messages] == [("adelaide@example.com",)]

    smtp_server.refuse(times=1, answer="550 5.1.1 <adelaide@example.com> unknown")
    never = client.send_task("tasks.email.send_email", ("adelaide@example.com", "Hello", "welcome", WELCOME))
    with pytest.raises(Exception, match="550"):
        never.get(timeout=60)

    (letter,) = _letters(place)
    assert (letter["call_id"], letter["attempts"], letter["reason"]) == (never.id, 1, "rejected")
    assert "delaide" not in worker.output() + json.dumps(letter)


def test_a_webhook_is_delivered_once_its_endpoint_is_well_again(client, http_server):
    http_server.script(Answer(503, headers={"Retry-After": "1"}), 500)

    sent = client.send_task("tasks.webhooks.deliver_webhook", (http_server.url("/hook"), "ping", {"a": 1}, SECRET))

    assert sent.get(timeout=60) == 200
    assert {request.headers["webhook-id"] for request in http_server.requests} == {sent.id}
    first, second, third = (request.at for request in http_server.requests)
    assert second - first >= 1
    assert third - second >= 0.5


def test_an_endpoint_that_is_gone_ends_its_call_without_a_dead_letter(client, worker, place, http_server):
    http_server.script(410)

    gone = client.send_task("tasks.webhooks.deliver_webhook", (http_server.url("/hook"), "ping", {}, SECRET))

    wait_until(lambda: gone.state == "REVOKED", what="the call to be discarded")
    assert _letters(place) == []
    assert SECRET not in worker.output()


def test_files_are_worked_on_and_named_in_the_result(client, tmp_path):
    (tmp_path / "orders.csv.gz").write_bytes(gzip.compress(b"region,amount\n" + b"north,0.10\n" * 40_000))
    report = client.send_task("tasks.reports.build_report", (str(tmp_path / "orders.csv.gz"), str(tmp_path / "out")))
    found = report.get(timeout=60)
    assert (found["rows"], found["amount"]) == (40_000, "4000.00")
    assert Path(found["path"]).exists()

    picture = ROOT / "demo" / "data" / "harbour.jpg"
    made = client.send_task("tasks.images.make_thumbnails", (str(picture), str(tmp_path / "out"), [64])).get(timeout=60)
    assert [(one["width"], one["height"]) for one in made] == [(43, 64)]
    assert Path(made[0]["path"]).exists()


def test_arguments_that_break_the_contract_are_a_dead_letter_and_nothing_is_sent(client, place, smtp_server):
    wrong = client.send_task("tasks.email.send_email", ("ada@example.com",))

    with pytest.raises(Exception, match="subject"):
        wrong.get(timeout=60)
    assert [letter["reason"] for letter in _letters(place)] == ["invalid"]
    assert smtp_server.attempts == 0
