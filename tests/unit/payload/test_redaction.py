"""
Errors keep their class and lose their secrets.
"""

from __future__ import annotations

import json
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from celery_platform.errors import PayloadInvalid
from celery_platform.payload import PII, Contract, Secret, scrub

TOKEN = "s3cr3t-token"


class RemoteError(Exception):
    def __init__(self, status, body):
        self.status = status
        self.body = body
        super().__init__(f"{status}: {body}")


class FixedError(Exception):
    def __str__(self):
        return f"always {TOKEN}"


class Strict(BaseModel):
    n: int


def everything(error):
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error)) + repr(error.args)


def pydantic_error():
    try:
        Strict(n=TOKEN)
    except ValueError as error:
        return error


def unicode_error():
    return UnicodeDecodeError("utf-8", TOKEN.encode(), 0, 1, f"bad {TOKEN}")


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"bad token {TOKEN}"),
        KeyError(TOKEN),
        OSError(5, f"cannot reach {TOKEN}", f"/tmp/{TOKEN}"),
        ConnectionRefusedError(111, TOKEN),
        RemoteError(401, f"token {TOKEN} refused"),
        unicode_error(),
        ImportError(f"no {TOKEN}", name=TOKEN),
        PayloadInvalid("t", [f"'a' is {TOKEN}"]),
        ValueError({"nested": [TOKEN, (1, {TOKEN: 2})]}),
        ExceptionGroup(f"all {TOKEN}", [ValueError(TOKEN), KeyError("fine")]),
    ],
)
def test_the_class_stays_and_the_secret_goes(error):
    clean = scrub(error, (TOKEN,))
    assert type(clean) is type(error)
    assert TOKEN not in everything(clean)
    assert "***" in str(clean)
    assert TOKEN in str(error) + repr(error)


def test_attributes_survive():
    clean = scrub(RemoteError(401, TOKEN), (TOKEN,))
    assert (clean.status, clean.body, str(clean)) == (401, "***", "401: ***")
    assert scrub(OSError(5, "x", f"/{TOKEN}"), (TOKEN,)).errno == 5


@pytest.mark.parametrize("error", [FixedError(), pydantic_error()])
def test_an_error_that_cannot_be_rebuilt_is_named(error):
    clean = scrub(error, (TOKEN,))
    assert type(clean) is RuntimeError
    assert str(clean).startswith(f"{type(error).__name__}: ")
    assert TOKEN not in everything(clean)


def test_causes_contexts_and_notes_are_masked_too():
    def fail():
        try:
            try:
                raise KeyError(TOKEN)  # noqa: TRY301 - a chain as bodies make them
            except KeyError as error:
                error.add_note(f"while using {TOKEN}")
                raise ValueError("middle") from error
        except ValueError:
            raise RuntimeError("outer")  # noqa: B904

    with pytest.raises(RuntimeError) as caught:
        fail()
    clean = scrub(caught.value, (TOKEN,))
    text = "".join(traceback.format_exception(clean))
    assert TOKEN not in text
    assert "while using ***" in text
    assert clean.__traceback__ is caught.value.__traceback__
    assert type(clean.__context__.__cause__) is KeyError


def test_a_chain_that_bites_its_tail_ends():
    one, two = ValueError(TOKEN), KeyError("x")
    one.__context__, two.__context__ = two, one
    clean = scrub(one, (TOKEN,))
    assert str(clean) == "***"


def test_an_error_that_shows_nothing_is_returned_as_it_is():
    error = ValueError("harmless")
    assert scrub(error, (TOKEN,)) is error
    assert scrub(error, ()) is error


def test_an_object_that_would_show_a_secret_becomes_its_masked_text():
    class Response:
        def __repr__(self):
            return f"<Response {TOKEN}>"

    error = ValueError("x")
    error.response = Response()
    assert scrub(error, (TOKEN,)).response == "<Response ***>"


def test_short_texts_are_masked_as_words_only():
    clean = scrub(ValueError("Men in M: 7 of 77"), ("M", "7"))
    assert str(clean) == "Men in ***: *** of 77"


def test_the_secrets_of_a_call_are_found_in_both_forms():
    def task(token: Secret[str], person: PII[dict[str, str]], code: Secret[int], n: int): ...

    contract = Contract.of(task)
    for args in (("tok 1", {"name": "Ada"}, 4711, 99), (Secret("tok 1"), PII({"name": "Ada"}), Secret(4711), 99)):
        found = contract.secrets_in(args, {})
        assert {"tok 1", "Ada", "4711"} <= set(found)
        assert "99" not in found
    assert {"broken", "4711"} <= set(contract.secrets_in((["broken"], None, "4711", 1), {}))


@given(st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4))
def test_a_secret_is_found_however_it_is_written(secret):
    def task(token: Secret[str]): ...

    secrets = Contract.of(task).secrets_in((secret,), {})
    for text in (secret, repr(secret), json.dumps(secret), f"http://x/?t={quote(secret, safe='')}", str([secret])):
        clean = str(scrub(ValueError(f"a {text} b"), secrets))
        assert secret not in clean
        assert repr(secret)[1:-1] not in clean
        assert json.dumps(secret)[1:-1] not in clean
