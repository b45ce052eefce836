"""
Platform tasks under a real worker, on Redis and on RabbitMQ, with their state on Redis.
"""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
import signal
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

from celery_platform.celery_app import current_platform, forget_platform
from celery_platform.errors import PayloadInvalid, PayloadTooLarge, UnknownQueue
from celery_platform.outcomes import Dead
from tests.deployment import Deployment
from tests.servers.redis import DATABASES
from tests.waiting import wait_until

TEAM = Path(__file__).parent / "team" / "shipped.py"
PATIENCE = 60
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_numbers = itertools.count(1)


class Team:
    """A deployment whose tasks this process can call as well; *deployment* runs its workers."""

    def __init__(self, folder, broker, state):
        shutil.copy(TEAM, folder / "shipped.py")
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.settings = {
            "PLATFORM_BROKER_URL": broker,
            "PLATFORM_STATE_URL": state,
            "PLATFORM_TASKS": "shipped",
            "PLATFORM_QUEUES": "side,parked",
            "LEDGER": str(self.ledger),
        }
        self.broker = broker
        self.state = state
        self.deployment = Deployment(folder, **self.settings)

    @property
    def app(self):
        return current_platform().app

    def notes(self):
        return self.ledger.read_text().splitlines()

    def waiting_in(self, queue):
        with self.app.connection_for_write() as connection, connection.channel() as channel:
            return channel.queue_declare(queue, passive=True).message_count

    def letter(self, call_id):
        return current_platform().dead_letters.find(call_id)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def fresh_team(request, redis_server, tmp_path_factory):
    """
    Make teams on brokers of their own; `shipped` is imported for the last one made.
    """
    patch = pytest.MonkeyPatch()
    made = []

    def team():
        folder = tmp_path_factory.mktemp(request.param)
        number = DATABASES - 2 * next(_numbers)
        for database in (number, number + 1):
            with redis_server.client(database) as client:
                client.flushdb()
        broker = redis_server.url(number)
        if request.param == "rabbitmq":
            rabbit = request.getfixturevalue("rabbitmq_server")
            broker = rabbit.url(rabbit.vhost())
        one = Team(folder, broker, redis_server.url(number + 1))
        made.append(one)
        for name, value in one.settings.items():
            patch.setenv(name, value)
        forget_platform()
        patch.syspath_prepend(str(folder))
        sys.modules.pop("shipped", None)
        one.tasks = importlib.import_module("shipped")
        return one

    yield team
    for one in made:
        one.deployment.stop()
    forget_platform()
    sys.modules.pop("shipped", None)
    patch.undo()


@pytest.fixture(scope="module")
def team(fresh_team):
    """
    A team with one worker for all tests that leave it running.
    """
    one = fresh_team()
    one.log = one.deployment.worker("-c", "4", "-Q", "default,celery,side", "-E")
    return one


@pytest.fixture(scope="module")
def tasks(team):
    return team.tasks


def test_every_type_of_argument_and_result_comes_back_as_itself(tasks):
    order = tasks.Order(id=uuid4(), colour=tasks.Colour.RED, lines=[Decimal("1.10"), Decimal("2.20")])
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    calls = {
        tasks.add.delay(2, 3): 5,
        tasks.buy.delay(order, at): tasks.Receipt(2, Decimal("3.30"), at),
        tasks.repaint.delay(tasks.Colour.RED): tasks.Colour.BLUE,
        tasks.same.delay(order): order,
        tasks.tomorrow.delay(at): datetime(2026, 3, 2, 12, tzinfo=UTC),
        tasks.halve.delay(Decimal("0.2")): Decimal("0.1"),
        tasks.nothing.delay(): None,
    }
    assert [call.get(timeout=PATIENCE) for call in calls] == list(calls.values())


def test_a_failing_call_is_retried_until_it_succeeds(tasks):
    assert tasks.flaky.delay(2).get(timeout=PATIENCE) == [3, 2, 0]


def test_the_last_failure_becomes_a_dead_letter_with_its_payload(team, tasks):
    call = tasks.doomed.delay("last")
    with pytest.raises(ConnectionError, match="nobody answers last"):
        call.get(timeout=PATIENCE)
    letter = team.letter(call.id)
    assert (letter.reason, letter.attempts, letter.task, letter.queue) == (
        "exhausted",
        3,
        "shipped.doomed",
        "default",
    )
    assert letter.arguments()[:2] == (["last"], {})
    assert [one["attempt"] for one in letter.history] == [1, 2, 3]
    assert {one["fingerprint"] for one in letter.history} == {letter.group}
    assert letter.group.startswith("ConnectionError-")
    assert "nobody answers last" in letter.error
    assert team.notes().count("doomed last") == 3


def test_an_error_without_a_rule_is_buried_after_one_attempt(team, tasks):
    call = tasks.broken.delay("once")
    with pytest.raises(LookupError, match="no row"):
        call.get(timeout=PATIENCE)
    assert team.letter(call.id).attempts == 1
    assert team.notes().count("broken once") == 1


def test_a_snoozing_call_counts_deferrals_and_no_attempt(tasks):
    assert tasks.sleepy.delay(4).get(timeout=PATIENCE) == [1, 0, 4]


def test_a_call_that_asks_for_a_later_retry_spends_attempts(tasks):
    assert tasks.asked.delay(2).get(timeout=PATIENCE) == [3, 2, 0]


def test_a_discarded_call_is_revoked_and_leaves_no_dead_letter(team, tasks):
    call = tasks.unwanted.delay()
    with pytest.raises(TaskRevokedError, match="the order was cancelled"):
        call.get(timeout=PATIENCE)
    assert team.letter(call.id) is None


def test_a_dead_call_is_buried_at_once(team, tasks):
    call = tasks.hopeless.delay()
    with pytest.raises(Dead, match="the account is closed"):
        call.get(timeout=PATIENCE)
    letter = team.letter(call.id)
    assert (letter.reason, letter.attempts) == ("rejected", 1)


def test_a_call_that_runs_into_its_timeout_is_buried_with_that_reason(team, tasks):
    call = tasks.endless.delay()
    with pytest.raises(TimeoutError, match="timeout of 1 s"):
        call.get(timeout=PATIENCE)
    assert team.letter(call.id).reason == "timeout"


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda tasks: tasks.add.delay("2", 3), PayloadInvalid),
        (lambda tasks: tasks.add.delay(2), PayloadInvalid),
        (lambda tasks: tasks.add.apply_async((2, 3), {"z": 4}, queue="parked"), PayloadInvalid),
        (lambda tasks: tasks.total.apply_async(([10**9] * 100_000,), queue="parked"), PayloadTooLarge),
        (lambda tasks: tasks.add.apply_async((2, 3), queue="parkd"), UnknownQueue),
    ],
    ids=["type", "count", "name", "size", "queue"],
)
def test_a_wrong_call_is_an_error_where_it_is_made_and_publishes_nothing(team, tasks, wrong, error):
    tasks.add.apply_async((1, 1), queue="parked")
    before = team.waiting_in("parked")
    assert before >= 1
    with pytest.raises(error):
        wrong(tasks)
    assert team.waiting_in("parked") == before


def test_a_plain_message_with_wrong_arguments_becomes_a_dead_letter(team, tasks):
    call = team.app.send_task("shipped.add", ("2", 3))
    with pytest.raises(PayloadInvalid, match="x"):
        call.get(timeout=PATIENCE)
    assert team.letter(call.id).reason == "invalid"


def test_a_plain_message_gets_the_retries_of_its_task(team):
    assert team.app.send_task("shipped.flaky", (2,)).get(timeout=PATIENCE) == [3, 2, 0]


def test_chains_groups_and_chords_work_as_in_celery(tasks):
    steps = chain(tasks.add.s(1, 2), tasks.add.s(3))()
    fan = group(tasks.add.s(n, n) for n in range(4))()
    joined = chord([tasks.add.s(n, n) for n in range(4)])(tasks.total.s())
    assert steps.get(timeout=PATIENCE) == 6
    assert fan.get(timeout=PATIENCE) == [0, 2, 4, 6]
    assert joined.get(timeout=PATIENCE) == 12


def test_a_call_runs_here_and_now_by_the_same_rules(tasks):
    assert tasks.flaky.apply((2,)).get() == [3, 2, 0]
    assert tasks.repaint.apply((tasks.Colour.RED,)).get() is tasks.Colour.BLUE
    assert tasks.add(2, 3) == 5


def test_a_plain_celery_client_without_the_platform_gets_its_answer(team):
    text = (
        "import sys; from celery import Celery\n"
        f"app = Celery(broker={team.broker!r}, backend={team.state!r})\n"
        "print(app.send_task('shipped.add', (2, 3)).get(timeout=30))\n"
        "assert not any(name.startswith('celery_platform') for name in sys.modules)\n"
    )
    answer = team.deployment.python(text)
    assert (answer.returncode, answer.stdout) == (0, "5\n"), answer.stderr


def test_no_private_value_stands_in_log_event_error_or_dead_letter(team, tasks):
    seen = []
    stop = threading.Event()

    def listen():
        with team.app.connection_for_read() as connection:
            receiver = team.app.events.Receiver(connection, handlers={"*": seen.append})
            # The receiver drains a connection of its own.
            with receiver.consumer_context() as (own, _, _):
                while not stop.is_set():
                    try:
                        own.drain_events(timeout=0.2)
                    except TimeoutError:
                        # On Redis the first wait subscribes; what was sent before it is not heard.
                        listening.set()
                        continue
                    except OSError as error:
                        seen.append({"type": f"the connection broke: {error}"})
                        return

    listening = threading.Event()
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert listening.wait(30)
    good = tasks.login.delay("mary-contrary", "tulip-4711", fail=False)
    bad = tasks.login.delay("mary-contrary", "tulip-4711", fail=True)
    assert good.get(timeout=PATIENCE) == "in"
    with pytest.raises(PermissionError) as caught:
        bad.get(timeout=PATIENCE)
    try:
        wait_until(
            lambda: {good.id, bad.id} <= {event.get("uuid") for event in seen if event["type"] != "task-received"},
            what="events of both calls",
        )
    finally:
        stop.set()
        thread.join(30)
    listing = json.dumps(team.letter(bad.id).listing())
    shown = team.deployment.celery("dead", "show", bad.id, "--json").stdout
    assert json.loads(shown)["call_id"] == bad.id
    for name, text in {
        "log": team.log.output(),
        "events": json.dumps(seen, default=str),
        "listing": listing,
        "command": shown,
        "error": f"{caught.value!r}",
        "stored": str(bad.backend.get(bad.backend.get_key_for_task(bad.id))),
    }.items():
        assert "tulip-4711" not in text, name
        assert "mary-contrary" not in text, name
    assert "was refused" in listing


def test_urgent_calls_overtake_those_that_can_wait(fresh_team, request):
    team = fresh_team()
    # A queue exists on RabbitMQ once somebody has declared it.
    for number, priority in enumerate(["bulk", "critical"] * 5):
        team.tasks.ordered.apply_async((f"{priority} {number}",), priority=priority)
    team.deployment.worker("-c", "1", "-Q", "side")
    wait_until(lambda: len(team.notes()) == 10, timeout=PATIENCE, what="ten calls")
    order = [line.split()[1] for line in team.notes()]
    if team.broker.startswith("amqp"):
        rabbit = request.getfixturevalue("rabbitmq_server")
        if int(rabbit.api("GET", "overview")["rabbitmq_version"].split(".")[0]) < 4:
            pytest.skip("quorum queues know priorities from RabbitMQ 4 on; all calls were served")
    assert order == ["critical"] * 5 + ["bulk"] * 5


def test_a_terminated_worker_finishes_or_returns_every_running_call(fresh_team):
    team = fresh_team()
    worker = team.deployment.worker("-c", "50", "-Q", "default")
    calls = [team.tasks.second.delay(number) for number in range(50)]
    wait_until(
        lambda: sum(line.startswith("start") for line in team.notes()) >= 25, timeout=PATIENCE, what="25 running calls"
    )
    assert worker.stop(number=signal.SIGTERM, timeout=60) == 0, worker.output()[-2000:]
    ended = {line for line in team.notes() if line.startswith("end")}
    if len(ended) < 50:
        team.deployment.worker("-c", "16", "-Q", "default")
    assert [call.get(timeout=PATIENCE) for call in calls] == list(range(50))
    starts = [line for line in team.notes() if line.startswith("start")]
    assert len({*starts}) == 50
    assert current_platform().dead_letters.count() == 0
