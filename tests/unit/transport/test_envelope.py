from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from celery_platform.transport.envelope import DEATHS, Undecodable, delay_left, dumps, loads, with_death


def message(**headers: Any) -> dict[str, Any]:
    return {"body": "W10=", "headers": headers, "properties": {"delivery_info": {}}}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"[1, 2]",
        b"null",
        b'"text"',
        b"7",
        b'{"body": "a"}',
        b'{"properties": {}}',
        b"\xff\xfe",
        b"[" * 5000,
    ],
    ids=["empty", "words", "list", "null", "string", "number", "no properties", "no body", "not utf-8", "deep"],
)
def test_what_is_no_envelope_is_undecodable(raw: bytes) -> None:
    with pytest.raises(Undecodable):
        loads(raw)


def test_missing_headers_and_delivery_info_become_empty() -> None:
    assert loads(b'{"body": "", "properties": {}, "headers": null}') == {
        "body": "",
        "headers": {},
        "properties": {"delivery_info": {}},
    }


def test_numbers_that_only_the_standard_library_reads_are_read() -> None:
    raw = json.dumps(message(big=2**80, odd=float("inf"))).encode()
    assert loads(raw)["headers"] == {"big": 2**80, "odd": float("inf")}


def test_values_that_kombu_tags_with_a_type_come_back_as_themselves() -> None:
    when = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    assert loads(kombu_json.dumps(message(when=when)).encode())["headers"]["when"] == when
    assert loads(dumps(message(when=when)))["headers"]["when"] == when


def test_kombu_reads_what_we_write() -> None:
    value = message(text="ünï\u2028", nested={"a": [1, None, True, 2.5]}, id=str(uuid.uuid4()))
    assert kombu_json.loads(dumps(value)) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_whatever_json_can_say_survives_a_round_trip(value: Any) -> None:
    wrapped = message(value=value)
    if "__type__" in json.dumps(wrapped):
        return
    assert loads(dumps(wrapped))["headers"]["value"] == value


def test_an_eta_in_the_past_waits_for_nothing() -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    assert delay_left(message(eta=past.isoformat())) == 0


def test_an_eta_in_the_future_is_rounded_up_so_that_it_is_never_early() -> None:
    due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=10)
    before = time.time()
    left = delay_left(message(eta=due.isoformat()))
    assert due.timestamp() - time.time() <= left / 1000 <= due.timestamp() - before + 0.002


def test_an_eta_without_zone_is_utc() -> None:
    due = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(seconds=10)
    assert 9_000 < delay_left(message(eta=due.isoformat())) <= 10_001


@pytest.mark.parametrize("eta", [None, "", "tomorrow", 17, ["2030"]])
def test_an_eta_nobody_can_read_is_left_to_the_worker(eta: object) -> None:
    assert delay_left(message(eta=eta)) == 0


def test_a_death_is_counted_and_marks_the_message_as_redelivered() -> None:
    again = loads(with_death(message(), 2))
    assert again["properties"][DEATHS] == 2
    assert again["properties"]["delivery_info"]["redelivered"] is True
    assert again["headers"]["redelivered"] is True
