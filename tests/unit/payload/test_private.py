"""
Private values show themselves only to whoever asks for them.
"""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from celery_platform.errors import PayloadInvalid
from celery_platform.payload import PII, Contract, Secret


class Card(BaseModel):
    number: Secret[str]
    owner: PII[str] | None = None
    year: int = 2030


@dataclass
class Login:
    user: str
    password: Secret[str]


class Picky(BaseModel):
    code: str

    @field_validator("code")
    @classmethod
    def _refuse(cls, value: str) -> str:
        raise ValueError(f"bad code {value}")


def charge(card: Card, login: Login, amount: int, tokens: list[Secret[str]] | None = None, **more: PII[str]): ...


CHARGE = Contract.of(charge)
CARD = Card(number=Secret("4242-4242"), owner=PII("Ada Lovelace"))
LOGIN = Login("ada", Secret("hunter22"))
HIDDEN = ("4242-4242", "Ada Lovelace", "hunter22", "tok-1", "mail@x")


@pytest.mark.parametrize("kind", [Secret, PII])
def test_no_way_of_printing_shows_the_value(kind):
    value = kind("hunter22")
    shown = f"{kind.__name__}(***)"
    assert [repr(value), str(value), f"{value}", f"{value!s}", "%s" % value, f"{value:>1}"] == [shown] * 6  # noqa: UP031
    assert value.reveal() == "hunter22"
    assert not hasattr(value, "__dict__")


def test_a_private_value_is_frozen_and_compares_by_value():
    one = Secret("a")
    assert one == Secret("a")
    assert hash(one) == hash(Secret("a"))
    assert one != PII("a")
    assert one != "a"
    with pytest.raises(AttributeError, match="frozen"):
        one._value = "b"
    with pytest.raises(AttributeError, match="frozen"):
        del one._value


def test_a_private_value_crosses_to_a_pool_child():
    for value in (pickle.loads(pickle.dumps(Secret(["a"]))), copy.deepcopy(Secret(["a"])), copy.copy(Secret(["a"]))):
        assert value == Secret(["a"])


def test_private_values_travel_at_any_depth_and_come_back_wrapped():
    sent = ((CARD, LOGIN, 3), {"tokens": ["tok-1", Secret("tok-2")], "mail": "mail@x"})
    args, kwargs = CHARGE.dump(*sent)
    assert args[0] == {"number": "4242-4242", "owner": "Ada Lovelace", "year": 2030}
    assert kwargs == {"tokens": ["tok-1", "tok-2"], "mail": "mail@x"}
    assert CHARGE.load(*json.loads(json.dumps([args, kwargs]))) == (
        (CARD, LOGIN, 3),
        {"tokens": [Secret("tok-1"), Secret("tok-2")], "mail": PII("mail@x")},
    )


def test_a_secret_datetime_and_a_secret_model_travel():
    def task(born: PII[datetime], card: Secret[Card]): ...

    contract = Contract.of(task)
    sent = (PII(datetime(1815, 12, 10, tzinfo=UTC)), Secret(CARD))
    assert contract.load(json.loads(json.dumps(contract.dump(sent, {})[0])), {})[0] == sent


def test_a_model_that_somebody_logs_shows_the_mask():
    assert "4242" not in CARD.model_dump_json()
    assert "4242" not in repr(CARD)
    assert "4242" not in str(CARD.model_dump(mode="json"))
    assert CARD.model_dump()["number"] == Secret("4242-4242")


def test_the_parameters_that_hold_private_values_are_known():
    assert CHARGE.private == {"card", "login", "tokens", "more"}
    assert not CHARGE.private_result

    def task(a: int) -> Card: ...

    assert Contract.of(task).private == frozenset()
    assert Contract.of(task).private_result


def test_a_private_field_is_known_before_its_model_is_built():
    def task(wallet: Wallet): ...

    assert Contract.of(task).private == {"wallet"}


class Purse(BaseModel):
    model_config = ConfigDict(defer_build=True)
    pin: Secret[str]


class Wallet(BaseModel):
    model_config = ConfigDict(defer_build=True)
    purses: list[Purse]


def test_the_reprs_mask_private_parameters_and_are_bounded():
    wire = CHARGE.dump((CARD, LOGIN, 3), {"tokens": ["tok-1"], "mail": "mail@x"})
    for args, kwargs in (wire, CHARGE.load(*wire)):
        assert CHARGE.argsrepr(args, kwargs) == ("(***, ***, 3)", "{'tokens': ***, 'mail': ***}")
    assert CHARGE.argsrepr((1, 2, 3, 4, 5), {}) == ("(***, ***, 3, ***, ***)", "{}")

    def task(password: Secret[str], *rest: str): ...

    contract = Contract.of(task)
    assert contract.argsrepr(("hunter22",), {}) == ("(***,)", "{}")
    text, _ = contract.argsrepr(("hunter22", *["x" * 500] * 100), {})
    assert len(text) <= 1024


def test_a_task_without_private_parameters_leaves_the_reprs_to_the_engine():
    def task(a: int): ...

    assert Contract.of(task).argsrepr((1,), {}) is None
    assert Contract.of(task).secrets_in((1,), {}) == ()


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (({"number": 42424242}, LOGIN, 3), {}),
        (({"number": "4242-4242", "year": "x"}, LOGIN, 3), {}),
        ((CARD, {"user": "ada", "password": ["hunter22"]}, 3), {}),
        ((CARD, LOGIN, 3), {"tokens": [{"tok-1": 1}]}),
        ((CARD, LOGIN, 3), {"mail": 42424242}),
        ((CARD, LOGIN, 3), {"tokens": "tok-1"}),
        ((CARD, LOGIN, Secret("hunter22")), {}),
    ],
)
def test_a_refusal_never_shows_a_private_value(args, kwargs):
    for check in (CHARGE.dump, CHARGE.load):
        with pytest.raises(PayloadInvalid) as refused:
            check(args, kwargs)
        error = refused.value
        text = f"{error} {error!r} {error.args} {error.__cause__} {error.__context__}"
        assert not any(hidden in text for hidden in (*HIDDEN, "42424242"))


def test_a_validators_own_words_about_a_private_value_stay_inside():
    def task(picky: Secret[Picky], by_name: dict[str, Secret[int]]): ...

    with pytest.raises(PayloadInvalid) as refused:
        Contract.of(task).dump(({"code": "hunter22"}, {"Ada Lovelace": "x"}), {})
    assert "hunter22" not in str(refused.value)
    assert "Ada" not in str(refused.value)


@pytest.mark.parametrize("check", [Card.model_validate, lambda data: Card.model_validate_json(json.dumps(data))])
def test_pydantics_own_error_does_not_show_the_value(check):
    with pytest.raises(ValidationError) as refused:
        check({"number": 42424242})
    assert "42424242" not in f"{refused.value} {refused.value.errors()}"
