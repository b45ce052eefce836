"""
Every pair of {idempotency, breaker, rate, concurrency, retry, delay, pause, cancel, shutdown, crash}, on both brokers.

All pairs go through one worker at once. Each has four calls; the operator forces breakers, pauses, cancels, and
stops the worker in the middle; the first body of a pair with a crash kills its own process.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import pytest

from celery_platform.cancellation import cancel
from celery_platform.celery_app import current_platform
from tests.faults.fleet import fleet
from tests.servers.redis import DATABASES
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

WORDS = ("idempotency", "breaker", "rate", "concurrency", "retry", "delay", "pause", "cancel", "shutdown", "crash")
PAIRS = list(itertools.combinations(WORDS, 2))
OPTIONS = {
    "idempotency": 'idempotency=Idempotency("{{n}}", lease=3)',
    "breaker": 'breaker=CircuitBreaker("{pair}", cool_down=1, lease=3)',
    "rate": 'RateLimit("{pair}", 4, per=1, burst=1)',
    "concurrency": 'ConcurrencyLimit("{pair}", 1, lease=3)',
    "retry": "retry=Backoff(on=ValueError, attempts=5, first=0.1, ceiling=1)",
}
TASK = """
@platform_task({options})
def {pair}(n: int) -> int:
    return work({pair!r}, n)
"""
WORK = """
import signal

def work(pair, n):
    saw("begun", f"{pair} {n}")
    if "crash" in pair and n == 0 and observer.set(f"crashed {pair}", 1, nx=True):
        os.kill(os.getpid(), signal.SIGKILL)
    if "retry" in pair and current_call().attempt == 1:
        raise ValueError("the first attempt fails")
    time.sleep(0.3 if "shutdown" in pair or "concurrency" in pair else 0.05)
    saw("ended", f"{pair} {n} {current_call().attempt}")
    return n
"""


def _name(pair):
    return "_".join(pair)


def _task(pair):
    name = _name(pair)
    words = [
        OPTIONS[word].format(pair=name) for word in pair if word in OPTIONS and word not in {"rate", "concurrency"}
    ]
    limits = [OPTIONS[word].format(pair=name) for word in pair if word in {"rate", "concurrency"}]
    if limits:
        words.append(f"limits=[{', '.join(limits)}]")
    return TASK.format(pair=name, options=", ".join(words))


class Story:
    """What happened to every pair."""

    def __init__(self):
        self.results = defaultdict(dict)
        self.begun = []
        self.ended = []

    def of(self, kind, pair):
        return [(at, what.split()[1:]) for at, _, what in getattr(self, kind) if what.split()[0] == _name(pair)]


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def story(request, tmp_path_factory, redis_server):
    observer, own = redis_server.url(DATABASES - 3), redis_server.url(DATABASES - 4)
    for number in (DATABASES - 3, DATABASES - 4):
        with redis_server.client(number) as client:
            client.flushdb()
    broker = own
    if request.param == "rabbitmq":
        rabbit = request.getfixturevalue("rabbitmq_server")
        broker = rabbit.url(rabbit.vhost())
    folder = tmp_path_factory.mktemp("pairs")
    tasks = WORK + "".join(_task(pair) for pair in PAIRS)
    with pytest.MonkeyPatch.context() as patch, fleet(patch, folder, broker, own, observer, tasks) as run:
        yield _tell(run)


def _tell(run):
    story = Story()
    first = run.worker(8)
    _hold_back(run)
    for pair in PAIRS:
        _enqueue(run, pair, story)
    plain = sum(not {"breaker", "pause", "delay"} & set(pair) for pair in PAIRS)
    wait_until(lambda: run.count("ended") > plain, timeout=90, what="a first part of the work")
    first.stop(timeout=60)
    run.worker(8)
    _let_go(run)
    waiting = {result for calls in story.results.values() for result in calls.values()}

    def ended():
        waiting.difference_update([result for result in waiting if result.state in {"SUCCESS", "FAILURE", "REVOKED"}])
        return not waiting

    wait_until(ended, timeout=150, what="every call to end", every=0.5)
    story.begun, story.ended = run.seen("begun"), run.seen("ended")
    return story


def _hold_back(run):
    for pair in PAIRS:
        if "breaker" in pair:
            run.state.force(_name(pair), "forced_open", seconds=300)
        if "pause" in pair:
            run.state.pause(f"task:{run.task(_name(pair)).name}", reason="pairwise")


def _let_go(run):
    for pair in PAIRS:
        if "breaker" in pair:
            run.state.force(_name(pair), "closed")
        if "pause" in pair:
            run.state.resume(f"task:{run.task(_name(pair)).name}")


def _enqueue(run, pair, story):
    for n in range(4):
        options = {"countdown": 2} if "delay" in pair else {}
        if "cancel" in pair and n == 3:
            options["task_id"] = f"cancelled-{_name(pair)}"
            cancel(current_platform(), options["task_id"])
        story.results[pair][n] = run.task(_name(pair)).apply_async((n,), **options)


@pytest.mark.parametrize("pair", PAIRS, ids=_name)
def test_a_pair_keeps_what_both_promise(story, pair):
    ended = Counter(int(what[0]) for _, what in story.of("ended", pair))
    begun = Counter(int(what[0]) for _, what in story.of("begun", pair))
    wanted = {0, 1, 2} if "cancel" in pair else {0, 1, 2, 3}
    for n in wanted:
        assert story.results[pair][n].state == "SUCCESS", story.results[pair][n].result
        assert story.results[pair][n].get() == n
    assert set(ended) == wanted
    if "cancel" in pair:
        assert story.results[pair][3].state == "REVOKED"
        assert begun[3] == 0
    if "idempotency" in pair:
        # Once each; a shutdown may have killed a body between its last line and its record.
        assert set(ended.values()) == {1}
    if "retry" in pair:
        assert {what[1] for _, what in story.of("ended", pair)} == {"2"}
    elif "crash" not in pair:
        assert {what[1] for _, what in story.of("ended", pair)} == {"1"}
    if "rate" in pair:
        times = sorted(at for at, _ in story.of("begun", pair))
        assert all(later - earlier > 0.25 - 0.1 for earlier, later in itertools.pairwise(times))
    if "concurrency" in pair and "crash" not in pair:
        _assert_one_at_a_time(story, pair)
    if "delay" in pair:
        assert min(at for at, _ in story.of("begun", pair)) > story.begun[0][0] + 1


def _assert_one_at_a_time(story, pair):
    marks = [(at, 1) for at, _ in story.of("begun", pair)] + [(at, -1) for at, _ in story.of("ended", pair)]
    if "retry" in pair:
        return  # a failed attempt writes no end
    running = 0
    for _, step in sorted(marks):
        running += step
        assert running <= 1
