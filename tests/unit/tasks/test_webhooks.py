from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from celery_platform import Dead, Discard, RetryAfter
from tasks.webhooks import EndpointFailed, _judged, signatures


def test_the_signature_is_that_of_the_published_example():
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'

    signed = signatures(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_two_secrets_sign_side_by_side():
    old, new = "whsec_b2xkLWtleQ==", "whsec_bmV3LWtleQ=="

    both = signatures(f"{new} {old}", "id", 1, b"body").split()

    assert both == [signatures(new, "id", 1, b"body"), signatures(old, "id", 1, b"body")]


@pytest.mark.parametrize("secret", ["", "  ", "whsec_not base64!", "whsec_abc"])
def test_a_secret_that_cannot_sign_is_refused(secret):
    with pytest.raises(ValueError, match=r"."):
        signatures(secret, "id", 1, b"body")


@pytest.mark.parametrize("status", [200, 201, 204])
def test_an_answer_of_2xx_is_a_success(status):
    assert _judged(status, None) == status


def test_a_gone_endpoint_discards_the_call():
    with pytest.raises(Discard):
        _judged(410, None)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 422])
def test_an_endpoint_that_refuses_buries_the_call(status):
    with pytest.raises(Dead, match=str(status)):
        _judged(status, "5")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_an_endpoint_that_fails_is_tried_again(status):
    with pytest.raises(EndpointFailed):
        _judged(status, None)


def test_retry_after_is_read_in_seconds_and_as_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)

    with pytest.raises(RetryAfter) as in_seconds:
        _judged(429, "7")
    with pytest.raises(RetryAfter) as as_date:
        _judged(503, soon)

    assert in_seconds.value.delay == 7
    assert as_date.value.delay == pytest.approx(90, abs=3)


def test_a_retry_after_that_says_nothing_leaves_the_wait_to_the_policy():
    with pytest.raises(EndpointFailed):
        _judged(503, "when the moon is full")
