"""
Messages that no worker can run become dead letters with their bytes, and the worker goes on, on both brokers.
"""

from __future__ import annotations

import base64
import json
import pickle
from uuid import uuid4

import pytest

from tests.integration.hostile_team import hostile_team
from tests.servers.redis import DATABASES
from tests.waiting import wait_until

PATIENCE = 60
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

GOOD_BODY = json.dumps([[1], {}, {}])
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}


def headers(**changes):
    given = {"task": "hostile.neighbour", "id": str(uuid4()), "lang": "py", "argsrepr": "(1,)", "kwargsrepr": "{}"}
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


# name: reason, body, headers, properties
BAD = {
    "unknown task": ("unknown_task", GOOD_BODY, headers(task="hostile.gone"), JSON),
    "unknown task of a protocol before": (
        "unknown_task",
        json.dumps({"task": "hostile.gone", "id": str(uuid4()), "args": [], "kwargs": {}}),
        {},
        JSON,
    ),
    "pickle": (
        "undecodable",
        pickle.dumps([[1], {}, {}]),
        headers(),
        {"content_type": "application/x-python-serialize", "content_encoding": "binary"},
    ),
    "unknown content type": (
        "undecodable",
        b"\x00\x01<x/>",
        headers(),
        {"content_type": "application/x-nobody", "content_encoding": "binary"},
    ),
    "truncated JSON": ("undecodable", GOOD_BODY[:-3], headers(), JSON),
    "bytes that are no text": (
        "undecodable",
        b"\xff\xfe[",
        headers(),
        {"content_type": "application/json", "content_encoding": "binary"},
    ),
    "unknown compression": ("undecodable", GOOD_BODY, headers(compression="application/x-nobody"), JSON),
    "no task": ("invalid", GOOD_BODY, headers(task=None), JSON),
    "task that is no name": ("invalid", GOOD_BODY, headers(task=["hostile.neighbour"]), JSON),
    "no id": ("invalid", GOOD_BODY, headers(id=None), JSON),
    "body that is an object": ("invalid", json.dumps({"x": 1}), headers(), JSON),
    "body that is a number": ("invalid", "17", headers(), JSON),
    "body of two parts": ("invalid", json.dumps([[1], {}]), headers(), JSON),
    "arguments that are no list": ("invalid", json.dumps([7, {}, {}]), headers(), JSON),
    "bad eta": ("invalid", GOOD_BODY, headers(eta="next tuesday"), JSON),
    "eta of another type": ("invalid", GOOD_BODY, headers(eta=[1]), JSON),
    "bad expires": ("invalid", GOOD_BODY, headers(expires="never ever"), JSON),
    "bad time limit": ("invalid", GOOD_BODY, headers(timelimit="long"), JSON),
    "wrong arguments": ("invalid", json.dumps([["one"], {}, {}]), headers(), JSON),
}


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def team(request, redis_server, tmp_path_factory):
    number = DATABASES - 220 if request.param == "redis" else DATABASES - 222
    for database in (number, number + 1):
        with redis_server.client(database) as client:
            client.flushdb()
    broker = redis_server.url(number)
    if request.param == "rabbitmq":
        rabbit = request.getfixturevalue("rabbitmq_server")
        broker = rabbit.url(rabbit.vhost())
    with hostile_team(tmp_path_factory.mktemp("bad"), broker, redis_server.url(number + 1)) as one:
        one.worker = one.deployment.worker("-c", "2")
        yield one


def kept_body(letter):
    """
    Return the body in *letter*, which on Redis lies in the envelope.
    """
    raw = base64.b64decode(letter.message["raw"])
    if "headers" in letter.message:
        return raw
    envelope = json.loads(raw)
    encoding = envelope["properties"].get("body_encoding")
    return base64.b64decode(envelope["body"]) if encoding == "base64" else envelope["body"].encode()


@pytest.mark.parametrize("queue", ["default", "celery"])
@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_message_becomes_one_dead_letter_and_the_worker_goes_on(team, name, queue):
    reason, body, fields, properties = BAD[name]
    before = {letter.id for letter in team.letters()}
    known = fields.get("id") or (json.loads(body).get("id") if name.startswith("unknown task of") else None)
    if known:
        fresh = f"{queue}-{known}"
        fields = {**fields, "id": fresh} if "id" in fields else fields
        body = body.replace(known, fresh) if isinstance(body, str) else body
        known = fresh
    team.publish(body, headers=fields, queue=queue, **properties)

    new = wait_until(
        lambda: [letter for letter in team.letters() if letter.id not in before], timeout=PATIENCE, what="a letter"
    )
    assert len(new) == 1
    (letter,) = new
    assert (letter.reason, letter.queue) == (reason, queue)
    if known:
        assert letter.id == letter.call_id == known
    if name != "wrong arguments":  # those were read, and are kept as arguments
        assert kept_body(letter) == (body if isinstance(body, bytes) else body.encode())
    assert team.tasks.neighbour.delay(5).get(timeout=PATIENCE) == 5
    assert team.worker.alive
    assert len({one.id for one in team.letters()} - before) == 1


def test_whoever_waits_for_a_call_of_an_unknown_task_is_told(team):
    call = team.app.send_task("hostile.gone", (1,))
    with pytest.raises(Exception, match=r"hostile\.gone"):
        call.get(timeout=PATIENCE)
    assert team.letter(call.id).reason == "unknown_task"


@pytest.mark.parametrize(
    "envelope",
    [
        b"\xff not json",
        b"[1, 2]",
        b'{"body": "x"}',
        b'{"body": "a", "properties": {"body_encoding": "base64", "delivery_info": {}, "delivery_tag": "x"}}',
    ],
)
def test_an_envelope_that_is_none_is_kept_byte_for_byte(team, envelope, redis_server):
    if not team.broker.startswith("redis"):
        pytest.skip("RabbitMQ's envelope is the protocol's own")
    before = {letter.id for letter in team.letters()}
    with team.app.connection_for_write() as connection, connection.channel() as channel:
        channel.client.lpush("default", envelope)
    new = wait_until(
        lambda: [letter for letter in team.letters() if letter.id not in before], timeout=PATIENCE, what="a letter"
    )
    assert [letter.reason for letter in new] == ["undecodable"]
    assert base64.b64decode(new[0].message["raw"]) == envelope
    assert team.tasks.neighbour.delay(6).get(timeout=PATIENCE) == 6
