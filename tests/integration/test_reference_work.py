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
from tests.servers import Answer, HttpServer, RedisServer, SmtpServer
from tests.waiting import wait_until

SECRET = "whsec_" + base64.b64encode(b"a key of some length").decode()
WELCOME = {"name": "Adelaide", "link": "https://example.com/"}
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def mail_server():
    """
    The mail server of the deployment.
    """
    with SmtpServer() as server:
        yield server


@pytest.fixture(scope="module")
def endpoint():
    """
    The endpoint its webhooks go to.
    """
    with HttpServer() as server:
        yield server


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def place(request, tmp_path_factory, mail_server, endpoint):
    """
    A deployment of the reference work with one worker, on a broker and a Redis of its own.
    """
    with RedisServer() as state:
        rabbit = request.getfixturevalue("rabbitmq_server") if request.param == "rabbitmq" else None
        place = Deployment(
            tmp_path_factory.mktemp("deployment"),
            PLATFORM_BROKER_URL=rabbit.url(rabbit.vhost()) if rabbit else state.url(),
            PLATFORM_STATE_URL=state.url(),
            PLATFORM_UNSAFE="warn",
            TASKS_SMTP_URL=mail_server.url(),
            TASKS_WEBHOOK_ALLOW_PRIVATE="1",
        )
        (place.folder / "tasks").symlink_to(ROOT / "tasks")
        place.worker("--concurrency=2")
        yield place
        place.stop()


@pytest.fixture
def client(place, mail_server, endpoint):
    """
    A plain client, and servers that have received nothing yet.
    """
    mail_server.clear()
    endpoint.clear()
    urls = place.environment
    with Celery(broker=urls["PLATFORM_BROKER_URL"], backend=urls["PLATFORM_STATE_URL"]) as app:
        yield app


def _letters(place, call):
    listed = place.celery("dead", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    return [letter for letter in json.loads(listed.stdout) if letter["call_id"] == call.id]


def _log(place):
    return (place.folder / "worker-1.log").read_text()


def test_mail_refused_for_now_is_sent_later_and_mail_refused_for_good_is_a_dead_letter(client, place, mail_server):
    mail_server.refuse(times=1, answer="451 4.7.1 greylisted")
    later = client.send_task("tasks.email.send_email", ("adelaide@example.com", "Hello", "welcome", WELCOME))
    assert later.get(timeout=60) == f"<{later.id}@localhost>"
    assert mail_server.attempts == 2
    assert [received.recipients for received in mail_server.messages] == [("adelaide@example.com",)]

    mail_server.refuse(times=1, answer="550 5.1.1 <adelaide@example.com> unknown")
    never = client.send_task("tasks.email.send_email", ("adelaide@example.com", "Hello", "welcome", WELCOME))
    with pytest.raises(Exception, match="550"):
        never.get(timeout=60)

    (letter,) = _letters(place, never)
    assert (letter["call_id"], letter["attempts"], letter["reason"]) == (never.id, 1, "rejected")
    assert "delaide" not in _log(place) + json.dumps(letter)


def test_a_webhook_is_delivered_once_its_endpoint_is_well_again(client, endpoint):
    endpoint.script(Answer(503, headers={"Retry-After": "1"}), 500)

    sent = client.send_task("tasks.webhooks.deliver_webhook", (endpoint.url("/hook"), "ping", {"a": 1}, SECRET))

    assert sent.get(timeout=60) == 200
    assert {request.headers["webhook-id"] for request in endpoint.requests} == {sent.id}
    first, second, third = (request.at for request in endpoint.requests)
    assert second - first >= 1
    assert third - second >= 0.5


def test_an_endpoint_that_is_gone_ends_its_call_without_a_dead_letter(client, place, endpoint):
    endpoint.script(410)

    gone = client.send_task("tasks.webhooks.deliver_webhook", (endpoint.url("/hook"), "ping", {}, SECRET))

    wait_until(lambda: gone.state == "REVOKED", what="the call to be discarded")
    assert _letters(place, gone) == []
    assert SECRET not in _log(place)


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


def test_arguments_that_break_the_contract_are_a_dead_letter_and_nothing_is_sent(client, place, mail_server):
    wrong = client.send_task("tasks.email.send_email", ("ada@example.com",))

    with pytest.raises(Exception, match="subject"):
        wrong.get(timeout=60)
    assert [letter["reason"] for letter in _letters(place, wrong)] == ["invalid"]
    assert mail_server.attempts == 0
