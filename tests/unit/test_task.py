"""
What a task does before and after a broker is involved.
"""

from __future__ import annotations

import json
import traceback
from decimal import Decimal

import pytest
from celery import chain, chord, group
from celery.exceptions import Retry
from kombu.utils.json import dumps, loads
from pydantic import BaseModel

from celery_platform import PII, Discard, Secret, Snooze, platform_task
from celery_platform.celery_app import forget_platform
from celery_platform.errors import PayloadInvalid
from celery_platform.task import PlatformTask, _scrubbed_error

TOKEN = "s3cr3t-token"


class Invoice(BaseModel):
    number: str
    total: Decimal
    token: Secret[str] = Secret("none")


INVOICE = Invoice(number="7", total=Decimal("1.50"), token=Secret(TOKEN))


@pytest.fixture(autouse=True)
def _platform(monkeypatch):
    # Nothing listens there: these tests never publish.
    monkeypatch.setenv("PLATFORM_BROKER_URL", "redis://127.0.0.1:1/0")
    forget_platform()
    yield
    forget_platform()


def billing():
    @platform_task
    def issue(number: str) -> Invoice:
        return Invoice(number=number, total=Decimal(2))

    @platform_task
    def merge(first: Invoice, second: Invoice) -> Invoice:
        return Invoice(number=first.number + second.number, total=first.total + second.total)

    @platform_task
    def add_up(invoices: list[Invoice], start: Decimal) -> Decimal:
        return sum((invoice.total for invoice in invoices), start)

    return issue, merge, add_up


def test_models_travel_through_a_chain_and_a_chord():
    issue, merge, add_up = billing()
    assert chain(issue.s("1"), merge.s(INVOICE)).apply().get().number == "17"
    assert chord(group(issue.s("1"), issue.s("2")), add_up.s(Decimal("0.5"))).apply().get() == Decimal("4.5")


def test_a_later_step_of_a_chain_is_written_into_the_message_in_its_json_form():
    issue, merge, _ = billing()
    steps = chain(issue.s("1"), merge.s(INVOICE))
    sent = loads(dumps(steps))
    assert sent["kwargs"]["tasks"][1]["args"] == [{"number": "7", "total": "1.50", "token": TOKEN}]
    assert TOKEN not in repr(steps)


def test_a_wrong_call_is_refused_before_anything_is_published():
    issue, _, _ = billing()
    with pytest.raises(PayloadInvalid, match="'number' expected str, got int"):
        issue.delay(3)
    with pytest.raises(PayloadInvalid, match="missing 'number'"):
        issue.s().apply_async()
    with pytest.raises(PayloadInvalid, match="got 2"):
        issue.apply(("1", "2"))


def shown_by(result):
    error = result.result
    everything = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else repr(error)
    return f"{everything} {result.traceback} {result!r} {json.dumps(result.state)}"


def test_no_way_of_failing_shows_a_private_argument():
    @platform_task(bind=True)
    def login(self: PlatformTask[..., None], token: Secret[str], person: PII[str], way: str) -> Snooze | None:
        text = f"{person.reveal()} with {token.reveal()}"
        if way == "discard":
            raise Discard(text)
        if way == "retry":
            raise self.retry(exc=ValueError(text), countdown=0, max_retries=1)
        if way == "context":
            try:
                raise KeyError(text)  # noqa: TRY301 - a chain as bodies make them
            except KeyError:
                raise ValueError("harmless")  # noqa: B904
        raise PermissionError(text)

    for way in ("raise", "context", "retry", "discard"):
        shown = shown_by(login.apply((Secret(TOKEN), PII("Ada Lovelace"), way)))
        assert TOKEN not in shown, way
        assert "Ada" not in shown, way
    assert "PermissionError: *** with ***" in shown_by(login.apply((TOKEN, "Ada Lovelace", "raise")))


def test_celerys_own_retry_keeps_its_signature_and_loses_the_secret():
    issue, _, _ = billing()
    signature = issue.s(TOKEN)
    try:
        try:
            raise KeyError(TOKEN)  # noqa: TRY301 - as `self.retry` does it
        except KeyError as error:
            raise Retry(f"again with {TOKEN}", exc=ValueError(TOKEN), when=3, sig=signature) from error
    except Retry as error:
        clean = _scrubbed_error(error, (TOKEN,))
    assert clean.sig is signature
    assert (clean.when, str(clean)) == (3, "again with ***")
    assert TOKEN not in "".join(traceback.format_exception(clean)) + repr(clean.exc) + repr(clean.excs)
    assert type(clean.exc) is ValueError
