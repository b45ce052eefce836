"""
The console in a real Chromium on a live system: a viewer looks, an operator acts, and each act is seen in the workers.

`SCREENSHOTS=docs/images` keeps pictures of the pages.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from celery_platform.audit import AuditLog
from celery_platform.stores.keys import Keys
from celery_platform.stores.redis import RedisStore
from tests.console import USERS, Console, log_ins
from tests.deployment import CELERY, Deployment
from tests.servers import Program
from tests.servers.process import need
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TASKS = """
import os
from pathlib import Path

from celery_platform import CircuitBreaker, Idempotency, current_call, platform_task


def ledger(line):
    with open(os.environ["LEDGER"], "a") as file:
        file.write(line + "\\n")


@platform_task(queue="billing")
def bill(invoice: str) -> None:
    ledger(f"billed {invoice}")


@platform_task(breaker=CircuitBreaker("bank", cool_down=2), idempotency=Idempotency(key="{invoice}"))
def charge(invoice: str) -> None:
    ledger(f"charged {invoice}")


@platform_task
def ship(order: str) -> None:
    if not Path(os.environ["MENDED"]).exists():
        raise RuntimeError("<script>window.hacked = 1</script>\\x1b[31m no lorry " + "x" * 200_000)
    ledger(f"shipped {order}")


@platform_task
def clean(root: str) -> None:
    ledger(f"cleaned {root}")
"""

BEAT = """
from celery_platform.beat import cron
from tasks import clean

schedule = [cron("0 4 1 1 *", clean, name="spring-cleaning", args=["/var/tmp/shop"])]
"""


class Shop:
    """A deployment with worker, beat and console, and the browser of its operators."""

    def __init__(self, deployment, console, store, browser):
        self.deployment, self.console, self.store, self.browser = deployment, console, store, browser
        self.ledger = deployment.folder / "ledger"

    def page(self, name, path, **options):
        """
        Open *path* as *name*; a page that breaks its own rules or throws fails the test.
        """
        log_in = {"username": name, "password": USERS[name]}
        context = self.browser.new_context(
            http_credentials=log_in, **{"viewport": {"width": 1280, "height": 760}, **options}
        )
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
        page.goto(self.console.url + path)
        return page

    def call(self, text):
        done = self.deployment.python(f"import tasks\n{text}")
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    def wrote(self, line):
        return line in self.ledger.read_text().splitlines()

    def last(self, action):
        return next((entry for entry in AuditLog(self.store).newest() if entry.action == action), None)


@pytest.fixture(scope="module")
def shop(redis_server, tmp_path_factory):
    chromium = need("chromium")
    with redis_server.client(0) as client:
        client.flushdb()
    folder = tmp_path_factory.mktemp("shop")
    settings = {"LEDGER": str(folder / "ledger"), "MENDED": str(folder / "mended")}
    deployment = Deployment(
        folder, PLATFORM_BROKER_URL=redis_server.url(0), PLATFORM_QUEUES="billing", **settings, **log_ins()
    )
    deployment.write("ledger", "")
    deployment.write("tasks/__init__.py", TASKS)
    deployment.write("beat/__init__.py", BEAT)
    deployment.worker("--concurrency=2", wait=False)
    beat = Program([CELERY, "-A", "platform", "beat"], log=folder / "beat.log", env=deployment.environment, cwd=folder)
    store = RedisStore(redis_server.url(0), Keys())
    with Console(deployment) as console, sync_playwright() as playwright:
        beat.start()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield Shop(deployment, console, store, browser)
        browser.close()
        beat.stop()
    deployment.stop()
    store.client.flushdb()
    store.client.close()


def picture(page, name):
    """
    Keep a picture of *page* when pictures are wanted.
    """
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


def act(page, row, summary, button, **fields):
    """
    Open the form behind *summary* in the row of *row*, fill it in and press *button*.
    """
    opened = page.locator("tr").filter(has=page.get_by_role("rowheader", name=row))
    opened.locator("summary", has_text=summary).click()
    form = opened.locator("details[open] form")
    for name, value in {"reason": "three in the morning", **fields}.items():
        form.locator(f"[name={name}]").fill(value)
    form.get_by_role("button", name=button).click()


def test_a_viewer_sees_everything_but_payloads_and_can_do_nothing(shop):
    (call,) = shop.call("print(tasks.charge.delay('tulip-4711').id)")
    wait_until(lambda: shop.wrote("charged tulip-4711"), what="the worker")
    page = shop.page("vera", "/platform/queues")
    for path in ("queues", "dead-letters", "breakers", "limits", "schedules", "calls", "audit", f"calls/{call}"):
        page.goto(f"{shop.console.url}/platform/{path}")
        expect(page.locator("h1")).to_be_visible()
        assert page.locator("#pf-body form[method=post]").count() == 0, path
        # An idempotency key is a name the team has chosen, no payload.
        assert path == "limits" or "tulip-4711" not in page.content(), path
    expect(page.locator(".pf-sentence")).to_contain_text("has ended: success")
    page.goto(f"{shop.console.url}/tasks")
    expect(page.locator("#tasks-table tbody")).to_contain_text("tasks.charge")
    assert "tulip-4711" not in page.content()
    assert page.complaints == []
    page.context.close()


def test_an_operator_pauses_a_queue_and_it_stands_still(shop):
    page = shop.page("otto", "/platform/queues")
    act(page, "billing", "Pause", "Pause billing")
    expect(page.locator(".pf-told").first).to_contain_text("billing is paused")
    wait_until(lambda: "billing is paused" in shop.deployment._workers[0].output(), what="the worker to hear of it")
    shop.call("tasks.bill.delay('inv-1')")
    row = page.locator("#queue-billing")
    expect(row.locator("[data-label=Waiting]")).to_have_text("1")
    assert not shop.wrote("billed inv-1")
    picture(page, "console-queues")
    assert (shop.last("queues.pause").actor, shop.last("queues.pause").target) == ("otto", "billing")
    page.reload()
    act(page, "billing", "Resume", "Resume billing")
    wait_until(lambda: shop.wrote("billed inv-1"), what="the queue to run again")
    assert shop.last("queues.resume").before["reason"] == "three in the morning"
    assert page.complaints == []
    page.context.close()


def test_an_operator_opens_a_breaker_and_calls_park(shop):
    shop.call("tasks.charge.delay('warm-up')")
    wait_until(lambda: shop.wrote("charged warm-up"), what="the breaker to be asked")
    page = shop.page("otto", "/platform/breakers")
    act(page, "bank", "Change", "Open")
    expect(page.locator("tr", has_text="bank").locator(".pf-state")).to_contain_text("forced open")
    (call,) = shop.call("print(tasks.charge.delay('inv-2').id)")
    page.goto(f"{shop.console.url}/platform/calls/{call}")
    expect(page.locator(".pf-sentence")).to_contain_text("is parked by circuit breaker bank", timeout=20_000)
    picture(page, "console-call")
    assert not shop.wrote("charged inv-2")
    page.goto(f"{shop.console.url}/platform/breakers")
    picture(page, "console-breakers")
    act(page, "bank", "Change", "Close")
    wait_until(lambda: shop.wrote("charged inv-2"), timeout=60, what="the parked call")
    assert (shop.last("breakers.open").outcome, shop.last("breakers.close").outcome) == ("done", "done")
    page.context.close()


def test_an_operator_replays_a_group_with_a_canary_and_hostile_errors_stay_inert(shop):
    shop.call("[tasks.ship.delay(f'order-{n}') for n in range(12)]")
    page = shop.page("otto", "/platform/dead-letters")
    expect(page.locator("section[aria-label=Groups] [data-label=Open]")).to_have_text("12", timeout=30_000)
    act(page, "no lorry", "Replay", "Replay 12", canary="3")
    expect(page.locator("section[aria-label=Replays] .pf-state")).to_have_text("stopped", timeout=30_000)
    # Three went out and failed again; nine never left.
    expect(page.locator("section[aria-label=Replays]")).to_contain_text("3 of 12")
    assert page.evaluate("window.hacked") is None
    assert page.locator("#pf-body script").count() == 0
    assert "\x1b" not in page.content()
    assert len(page.content()) < 400_000
    Path(shop.deployment.environment["MENDED"]).touch()
    page.reload()
    act(page, "no lorry", "Replay", "Replay 12", canary="3", rate="50")
    wait_until(lambda: all(shop.wrote(f"shipped order-{n}") for n in range(12)), timeout=60, what="all twelve")
    expect(page.locator("section[aria-label=Replays] .pf-state").first).to_have_text("done", timeout=20_000)
    picture(page, "console-dead-letters")
    wait_until(lambda: shop.last("dead-letters.replay").outcome == "done", what="its end in the audit log")
    assert shop.ledger.read_text().count("shipped ") == 12
    assert page.complaints == []
    page.context.close()


def test_an_operator_runs_a_schedule_by_keyboard_alone(shop):
    page = shop.page("otto", "/platform/schedules")
    expect(page.get_by_role("rowheader", name="spring-cleaning").first).to_be_visible()
    page.locator("#pf-body summary").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("by hand")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".pf-told").first).to_contain_text("spring-cleaning was asked for")
    wait_until(lambda: shop.wrote("cleaned /var/tmp/shop"), timeout=60, what="the run")
    expect(page.locator("section[aria-label=History]")).to_contain_text("succeeded", timeout=20_000)
    picture(page, "console-schedules")
    ran = shop.last("schedules.run")
    assert (ran.actor, ran.target, ran.reason, ran.outcome) == ("otto", "spring-cleaning", "by hand", "done")
    page.goto(f"{shop.console.url}/platform/audit")
    expect(page.locator("#pf-body")).to_contain_text("schedules.run")
    picture(page, "console-audit")
    assert page.complaints == []
    page.context.close()


def test_the_pages_fit_a_phone_in_the_dark(shop):
    page = shop.page("otto", "/platform/queues", viewport={"width": 390, "height": 844}, color_scheme="dark")
    for path in ("queues", "dead-letters", "breakers", "limits", "schedules", "calls", "audit"):
        page.goto(f"{shop.console.url}/platform/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == "rgb(18, 23, 16)"
    page.goto(f"{shop.console.url}/platform/queues")
    picture(page, "console-phone")
    page.context.close()


def test_every_file_comes_from_the_console_itself(shop):
    page = shop.page("vera", "/platform/queues")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    assert asked
    assert all(url.startswith((shop.console.url, "data:")) for url in asked)
    page.context.close()
