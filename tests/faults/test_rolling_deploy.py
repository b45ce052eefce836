"""
While old and new workers run side by side, with a renamed task, a new field and a new task, no call is lost or dead.
"""

from __future__ import annotations

from collections import Counter

import pytest

from celery_platform.stores.base import Inquiry
from celery_platform.stores.keys import Keys
from celery_platform.stores.redis import RedisStore
from celery_platform.stores.redis_graves import RedisGraves
from tests.deployment import Deployment
from tests.servers.redis import DATABASES
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PATIENCE = 90
CALLS = 20

NOTE = """
import os
from pathlib import Path
from celery_platform import platform_task, upcast


def note(text):
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(text + "\\n")
"""
OLD = (
    NOTE
    + """

@platform_task(name="shop.charge")
def charge(number: int) -> None:
    note(f"charge {number} EUR")


@platform_task(name="shop.pack")
def pack(number: int) -> None:
    note(f"pack {number}")
"""
)
NEW = (
    NOTE
    + """

@platform_task(name="shop.charge", version=2)
def charge(number: int, currency: str) -> None:
    note(f"charge {number} {currency}")


@upcast(charge, 1, 2)
def with_currency(args, kwargs):
    return args, {**kwargs, "currency": "EUR"}


@platform_task(name="shop.wrap", aliases=["shop.pack"])
def wrap(number: int) -> None:
    note(f"pack {number}")


@platform_task(name="shop.ship")
def ship(number: int) -> None:
    note(f"ship {number}")
"""
)
OLD_PRODUCER = "from tasks import *\nfor n in range({first}, {last}): charge.delay(n); pack.delay(n)"
NEW_PRODUCER = (
    "from tasks import *\nfor n in range({first}, {last}): charge.delay(n, 'USD'); wrap.delay(n); ship.delay(n)"
)


@pytest.fixture
def state_url(redis_server, broker_url):
    number = DATABASES - 306 - broker_url.startswith("amqp")
    with redis_server.client(number) as client:
        client.flushdb()
    return redis_server.url(number)


@pytest.fixture
def sides(broker_url, state_url, tmp_path):
    ledger = tmp_path / "ledger"
    ledger.touch()
    made = []
    for name, tasks in (("old", OLD), ("new", NEW)):
        (tmp_path / name).mkdir()
        settings = {"PLATFORM_BROKER_URL": broker_url, "PLATFORM_STATE_URL": state_url, "LEDGER": str(ledger)}
        side = Deployment(tmp_path / name, **settings, PLATFORM_BUILD=name)
        side.write("tasks/__init__.py", tasks)
        made.append(side)
    yield *made, ledger
    for side in made:
        side.stop()


def test_a_rolling_deploy_loses_no_call_and_buries_none(sides, state_url):
    old, new, ledger = sides
    first = old.worker("-c", "2")

    def produce(side, text, start):
        made = side.python(text.format(first=start, last=start + CALLS))
        assert made.returncode == 0, made.stderr

    produce(old, OLD_PRODUCER, 0)
    produce(new, NEW_PRODUCER, 100)  # only old workers run: what is too new waits
    first.wait_for_output("is registered here")
    first.wait_for_output("is newer than this worker's 1")
    new.worker("-c", "2", "--hostname=new@%h")
    produce(old, OLD_PRODUCER, 200)
    produce(new, NEW_PRODUCER, 300)
    first.stop(timeout=60)
    produce(old, OLD_PRODUCER, 400)

    expected = [
        line
        for start in (0, 200, 400)
        for n in range(start, start + CALLS)
        for line in (f"charge {n} EUR", f"pack {n}")
    ]
    expected += [
        line
        for start in (100, 300)
        for n in range(start, start + CALLS)
        for line in (f"charge {n} USD", f"pack {n}", f"ship {n}")
    ]
    wait_until(lambda: len(ledger.read_text().splitlines()) >= len(expected), timeout=PATIENCE, what="every call")
    assert Counter(ledger.read_text().splitlines()) == Counter(expected)
    store = RedisStore(state_url, Keys())
    assert RedisGraves(store).count(Inquiry()) == 0
    store.client.close()
