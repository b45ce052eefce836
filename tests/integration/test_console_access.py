"""
Who gets into the console and what they can do there: a real Flower on a real Redis.
"""

from __future__ import annotations

import base64
import json
import re

import pytest
from tornado.web import create_signed_value

from celery_platform.audit import AuditLog
from celery_platform.console.gate import HIDDEN
from celery_platform.stores.keys import Keys
from celery_platform.stores.redis import RedisStore
from tests.console import USERS, Console, log_ins
from tests.deployment import Deployment
from tests.servers import free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TASKS = """
from celery_platform import platform_task


@platform_task
def greet(name: str) -> str:
    return f"hello {name}"
"""
PAGES = ["queues", "dead-letters", "breakers", "limits", "schedules", "calls", "audit"]


@pytest.fixture(scope="module")
def deployment(redis_server, tmp_path_factory):
    url = redis_server.url(0)
    with redis_server.client(0) as client:
        client.flushdb()
    made = Deployment(tmp_path_factory.mktemp("console"), PLATFORM_BROKER_URL=url, PLATFORM_QUEUES="billing")
    made.write("tasks/__init__.py", TASKS)
    yield made
    made.stop()
    with redis_server.client(0) as client:
        client.flushdb()


@pytest.fixture(scope="module")
def console(deployment):
    with Console(deployment, **log_ins(), PLATFORM_CONSOLE_METRICS_TOKEN="scrape-me") as opened:
        yield opened


@pytest.fixture(scope="module")
def store(deployment):
    opened = RedisStore(deployment.environment["PLATFORM_BROKER_URL"], Keys())
    yield opened
    opened.client.close()


def form(client, page, **fields):
    """
    Send a form of *page* as a browser does.
    """
    shown = client.get(page)
    token = re.search(r'name="_xsrf" value="([^"]+)"', shown.text)
    fields |= {"_xsrf": token.group(1) if token else client.cookies["_xsrf"]}
    return client.post(page, data=fields, headers={"Origin": str(client.base_url).rstrip("/")})


@pytest.mark.parametrize("page", [*(f"/platform/{page}" for page in PAGES), "/", "/tasks", "/broker", "/api/workers"])
def test_nobody_sees_a_page_without_a_password(console, page):
    assert console.visitor().get(page).status_code == 401
    wrong = base64.b64encode("véra:tülip".encode()).decode()
    for given in ("Basic dmVyYTp4", f"Basic {wrong}", "Basic ???", "Basic", "Bearer x", ""):
        assert console.visitor().get(page, headers={"Authorization": given}).status_code == 401


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_a_twin_for_programs_with_the_same_headers(console, page):
    viewer = console.visitor("vera")
    html, twin = viewer.get(f"/platform/{page}"), viewer.get(f"/api/platform/{page}")
    assert (html.status_code, twin.status_code) == (200, 200), html.text
    assert json.loads(twin.text)
    for answer in (html, twin):
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"].partition("style-src")[0]
        assert answer.headers["Cache-Control"] == "no-store"
    assert "SameSite=Lax" in html.headers["Set-Cookie"]
    # Nothing comes from anywhere else.
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!flower\.readthedocs|github\.com/mher)', html.text)


def test_a_viewer_is_shown_no_action_and_may_do_none(console, store):
    viewer = console.visitor("vera")
    assert "<form" not in viewer.get("/platform/queues").text
    refused = form(viewer, "/platform/queues", action="pause", queue="billing", reason="mine")
    assert refused.status_code == 403
    assert "needs the role operator" in refused.text
    viewer = console.visitor("vera")  # a program, without cookies
    twin = viewer.post("/api/platform/queues", json={"action": "pause", "queue": "billing", "reason": "mine"})
    assert twin.status_code == 403
    assert "needs the role operator" in twin.json()["error"]
    assert viewer.post("/api/worker/shutdown/celery@here").status_code == 403
    assert viewer.post("/api/task/revoke/7?terminate=1").status_code == 403
    assert store.client.hgetall("{platform}:pauses") == {}
    assert not [action for action in AuditLog(store).newest() if action.actor == "vera"]


def test_an_operator_acts_with_a_reason_and_it_is_written_down(console, store):
    operator = console.visitor("otto")
    answer = form(operator, "/platform/queues", action="pause", queue="billing", reason="bank <b>holiday</b>")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/platform/queues")
    page = operator.get("/platform/queues").text
    assert "billing is paused" in page
    assert "bank &lt;b&gt;holiday&lt;/b&gt;" in page
    # Said once.
    assert "billing is paused;" not in operator.get("/platform/queues").text
    (paused,) = AuditLog(store).newest(1)
    assert (paused.actor, paused.role, paused.action, paused.target) == ("otto", "operator", "queues.pause", "billing")
    assert (paused.reason, paused.outcome, paused.address) == ("bank <b>holiday</b>", "done", "127.0.0.1")
    operator = console.visitor("otto")  # a program, without cookies
    ended = operator.post("/api/platform/queues", json={"action": "resume", "queue": "billing", "reason": "over"})
    assert ended.json() == {"done": True, "message": "billing runs again."}
    (resumed,) = AuditLog(store).newest(1)
    assert (resumed.action, resumed.before["reason"]) == ("queues.resume", "bank <b>holiday</b>")
    seen = operator.get("/api/platform/audit").json()["actions"]
    assert [action["action"] for action in seen[:2]] == ["queues.resume", "queues.pause"]


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"action": "pause", "queue": "billing"}, 400, "'reason' is missing"),
        ({"action": "pause", "reason": "x"}, 400, "'queue' is missing"),
        ({"action": "pause", "queue": "billing", "reason": "x", "for": "soon"}, 400, "expected a duration"),
        ({"action": "pause", "queue": "billing", "reason": "x" * 501}, 400, "at most 500"),
        ({"action": "pause", "queue": "biling", "reason": "x"}, 409, "Did you mean 'billing'"),
        ({"action": "pasue", "queue": "billing", "reason": "x"}, 400, "Did you mean 'pause'"),
        ({}, 400, "'action' is missing"),
        ([], 400, "expected a JSON object"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said_and_not_done(console, store, fields, status, told):
    answer = console.visitor("otto").post("/api/platform/queues", json=fields)
    assert answer.status_code == status, answer.text
    assert told in answer.json()["message"]
    assert store.client.hgetall("{platform}:pauses") == {}


def test_a_request_that_another_site_sent_gets_403(console, store):
    operator = console.visitor("otto")
    token = {"_xsrf": re.search(r'name="_xsrf" value="([^"]+)"', operator.get("/platform/queues").text).group(1)}
    order = {"action": "pause", "queue": "billing", "reason": "mine"}
    forged = [
        ({**order, **token}, {"Origin": "http://evil.example"}),
        ({**order, **token}, {"Sec-Fetch-Site": "cross-site"}),
        ({**order, **token}, {"Sec-Fetch-Site": "same-site", "Origin": console.url}),
        ({**order, **token}, {"Origin": "null"}),
        (order, {"Origin": console.url}),
        ({**order, "_xsrf": "2|aaaaaaaa|bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb|1795510546"}, {"Origin": console.url}),
        (order, {}),
    ]
    for fields, headers in forged:
        assert operator.post("/platform/queues", data=fields, headers=headers).status_code == 403, headers
    # A form cannot send JSON, and a page of another site may not.
    assert operator.post("/api/platform/queues", data=order, headers={"Cookie": ""}).status_code in {403, 415}
    assert operator.post("/api/worker/shutdown/w", headers={"Origin": "http://evil.example"}).status_code == 403
    assert store.client.hgetall("{platform}:pauses") == {}


def test_metrics_are_for_those_who_show_their_token_and_for_people(console):
    stranger = console.visitor()
    assert stranger.get("/metrics").status_code == 401
    assert stranger.get("/metrics", headers={"Authorization": "Bearer guess"}).status_code == 401
    scraped = stranger.get("/metrics", headers={"Authorization": "Bearer scrape-me"})
    assert scraped.status_code == 200
    assert "flower" in scraped.text or "python_info" in scraped.text
    # The token opens nothing else.
    assert stranger.get("/platform/queues", headers={"Authorization": "Bearer scrape-me"}).status_code == 401
    assert console.visitor("vera").get("/metrics").status_code == 200


def test_unknown_pages_are_404(console):
    viewer = console.visitor("vera")
    assert viewer.get("/platform/nothing").status_code == 404
    assert viewer.get("/platform/calls/nobody").status_code == 404
    assert viewer.get("/platform/dead-letters/nobody").status_code == 404
    twin = viewer.get("/api/platform/calls/nobody")
    assert (twin.status_code, twin.json()) == (404, {"error": "Nothing is known of this call"})


def test_payloads_are_shown_only_to_those_with_the_right(console, deployment):
    worker = deployment.worker("--concurrency=1")
    sent = deployment.python("import tasks; print(tasks.greet.delay('tulip-4711').id)")
    call = sent.stdout.strip()
    viewer, admin = console.visitor("vera"), console.visitor("anna")
    listed = "/tasks/datatable?draw=1&start=0&length=9&order[0][column]=0&columns[0][data]=name"
    wait_until(lambda: "tulip-4711" in admin.get(f"/task/{call}").text, what="Flower to know of the call")
    wait_until(lambda: "SUCCESS" in viewer.get(f"/task/{call}").text, what="the call to succeed")
    for page in (f"/task/{call}", listed, f"/api/task/info/{call}", "/api/tasks"):
        shown = viewer.get(page)
        assert shown.status_code == 200, page
        assert "tulip-4711" not in shown.text, page
        assert HIDDEN in shown.text.replace("&#x27;", "'"), page
        assert "tulip-4711" in admin.get(page).text, page
    assert viewer.get(f"{listed}&search[value]=args:tulip-4711").status_code == 403
    assert viewer.get("/api/tasks?search=tulip-4711").status_code == 403
    assert "revoke" not in viewer.get(f"/task/{call}").text.lower().partition("<main")[2]
    worker.stop()


def test_an_action_of_flowers_own_is_written_down_as_well(console, store):
    assert console.visitor("otto").post("/api/worker/shutdown/nobody@here").status_code == 403
    assert console.visitor("anna").post("/api/worker/shutdown/nobody@here").status_code == 404
    wait_until(lambda: AuditLog(store).newest(1)[0].outcome != "asked", what="the outcome")
    (asked,) = AuditLog(store).newest(1)
    assert (asked.actor, asked.action, asked.target) == ("anna", "WorkerShutDown", "nobody@here")
    assert (asked.outcome, asked.after) == ("refused", 404)


def test_under_oauth_a_forged_log_in_gets_403_and_a_true_one_its_role(deployment):
    secret = "a-secret-of-forty-characters-for-the-cookies"
    settings = {
        "FLOWER_AUTH": "otto@example.com|vera@example.com",
        "FLOWER_AUTH_PROVIDER": "flower.views.auth.GithubLoginHandler",
        "FLOWER_OAUTH2_KEY": "key",
        "FLOWER_OAUTH2_SECRET": "word",
        "FLOWER_OAUTH2_REDIRECT_URI": "http://localhost/login",
        "FLOWER_COOKIE_SECRET": secret,
        "FLOWER_XHEADERS": "true",
        "PLATFORM_CONSOLE_ROLES": "otto@*=operator",
    }

    def cookie(name, key=secret):
        return {"Cookie": f"user={create_signed_value(key, 'user', name).decode()}"}

    with Console(deployment, **settings) as console:
        client = console.visitor()
        asked = client.get("/platform/queues")
        assert (asked.status_code, asked.headers["Location"]) == (302, "/login?next=%2Fplatform%2Fqueues")
        assert client.get("/api/platform/queues").status_code == 401
        login = client.get("/login", headers={"X-Scheme": "https"})
        assert login.headers["Location"].startswith("https://github.com/login/oauth/authorize")
        assert "Secure" in login.headers["Set-Cookie"]
        assert "HttpOnly" in login.headers["Set-Cookie"]
        client.cookies.clear()
        for forged in (cookie("otto@example.com", "guessed"), {"Cookie": "user=otto@example.com"}):
            answer = client.get("/platform/queues", headers=forged)
            assert answer.status_code == 403
            assert 'user=""' in answer.headers["Set-Cookie"]
        assert client.get("/platform/queues", headers=cookie("mallory@example.com")).status_code == 302
        assert "<form" in client.get("/platform/queues", headers=cookie("otto@example.com")).text
        assert "<form" not in client.get("/platform/queues", headers=cookie("vera@example.com")).text
        unsigned = client.post(
            "/platform/queues", data={"action": "pause"}, headers={**cookie("otto@example.com"), "Origin": console.url}
        )
        assert unsigned.status_code == 403


def test_without_a_log_in_the_console_listens_on_this_machine_and_answers_to_its_name_only(deployment):
    with Console(deployment, PLATFORM_WORKDIR="") as console:
        client = console.visitor()
        assert client.get("/platform/queues").status_code == 200
        assert "local · admin" in client.get("/platform/queues").text
        assert client.get("/platform/queues", headers={"Host": f"evil.example:{console.port}"}).status_code == 403
        order = {"action": "pause", "queue": "billing", "reason": "mine"}
        assert client.post("/platform/queues", data=order, headers={"Origin": console.url}).status_code == 403
    assert "http://127.0.0.1" in console.program.output()


def test_a_console_that_would_be_open_to_others_does_not_start(deployment):
    ended = deployment.celery("flower", f"--port={free_port()}", "--address=0.0.0.0")
    assert ended.returncode == 2, ended.stderr
    assert "open to everybody who reaches 0.0.0.0" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_passwords_of_visitors_stay_out_of_the_log(console):
    assert not any(word in console.program.output() for word in USERS.values())
