"""
Whatever is taken at enqueueing arrives as itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple, Optional, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field, field_validator
from typing_extensions import TypedDict

from celery_platform.errors import PayloadInvalid
from celery_platform.payload import PII, Contract, Secret


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = "yes"
    NO = "no"


class Line(BaseModel):
    sku: str
    price: Decimal
    count: int = 1


class Order(BaseModel):
    id: UUID
    placed: datetime
    lines: list[Line]
    colour: Colour | None = None
    token: Secret[str] = Secret("none")
    notes: dict[str, str] = Field(default_factory=dict, alias="remarks")


@dataclass(frozen=True)
class Window:
    start: datetime
    length: timedelta
    days: tuple[date, ...] = ()
    extra: dict[str, int] = field(default_factory=dict)


class Point(NamedTuple):
    x: int
    y: float


class Movement(TypedDict):
    at: datetime
    amount: Decimal


zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=3))])
moments = st.datetimes(timezones=zones)
prices = st.decimals(allow_nan=False, allow_infinity=False)
lengths = st.timedeltas(min_value=timedelta(days=-20000), max_value=timedelta(days=20000))
lines = st.builds(Line, sku=st.text(), price=prices, count=st.integers())
orders = st.builds(
    Order,
    id=st.uuids(),
    placed=moments,
    lines=st.lists(lines, max_size=3),
    colour=st.none() | st.sampled_from(Colour),
    token=st.text().map(Secret),
    remarks=st.dictionaries(st.text(), st.text(), max_size=2),
)
windows = st.builds(
    Window,
    start=moments,
    length=lengths,
    days=st.lists(st.dates(), max_size=3).map(tuple),
    extra=st.dictionaries(st.text(), st.integers(), max_size=2),
)

LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (str, st.text()),
    (bool, st.booleans()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bytes, st.binary()),
    (Decimal, prices),
    (UUID, st.uuids()),
    (datetime, moments),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, lengths),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Word, st.sampled_from(Word)),
    (Line, lines),
    (Order, orders),
    (Window, windows),
    (Point, st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False))),
    (Movement, st.fixed_dictionaries({"at": moments, "amount": prices})),
    (Secret[str], st.text().map(Secret)),
    (PII[datetime], moments.map(PII)),
    (Secret[Line], lines.map(Secret)),
]
HASHABLE = [pair for pair in LEAVES if pair[0] in (int, str, UUID, date, Colour, Decimal)]


@st.composite
def typed_values(draw: st.DrawFn, depth: int = 2) -> tuple[Any, Any]:
    annotation, values = draw(st.sampled_from(LEAVES))
    for _ in range(draw(st.integers(0, depth))):
        shape = draw(st.sampled_from(["list", "tuple", "dict", "optional"]))
        if shape == "list":
            annotation, values = list[annotation], st.lists(values, max_size=3)
        elif shape == "tuple":
            annotation, values = tuple[annotation, int], st.tuples(values, st.integers())
        elif shape == "dict":
            annotation, values = dict[str, annotation], st.dictionaries(st.text(), values, max_size=3)
        else:
            annotation, values = Optional[annotation], st.none() | values  # noqa: UP045 - built from a value
    return annotation, draw(values)


def contract_for(annotation: Any) -> Contract:
    def task(value): ...

    task.__annotations__ = {"value": annotation, "return": annotation}
    return Contract.of(task)


def travel(wire: Any) -> Any:
    return json.loads(json.dumps(wire, allow_nan=False))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(typed_values())
def test_a_value_of_the_annotated_type_arrives_as_itself(typed):
    annotation, value = typed
    contract = contract_for(annotation)
    args, kwargs = contract.dump((value,), {})
    (arrived,), _ = contract.load(*map(travel, (args, kwargs)))
    assert arrived == value
    assert type(arrived) is type(value)
    assert contract.load_result(travel(contract.dump_result(value))) == value


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(typed_values())
def test_a_json_form_is_taken_like_the_value_and_changes_no_more(typed):
    annotation, value = typed
    contract = contract_for(annotation)
    first = travel(contract.dump((value,), {})[0])
    assert travel(contract.dump(first, {})[0]) == first


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(LEAVES), min_size=2, max_size=4), st.data())
def test_a_union_brings_its_value_back_or_refuses_it_at_once(members, data):
    contract = contract_for(Union[tuple(annotation for annotation, _ in members)])  # noqa: UP007 - built from values
    value = data.draw(st.one_of(*(values for _, values in members)))
    try:
        args, _ = contract.dump((value,), {})
    except PayloadInvalid:
        return
    (arrived,), _ = contract.load(travel(args), {})
    # A private member takes plain values too; and a text that reads as a date is one, for whoever annotates both.
    assert value in (arrived, getattr(arrived, "reveal", lambda: arrived)()) or travel(args) == [value]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(HASHABLE), st.data())
def test_sets_and_mapping_keys_arrive_as_themselves(pair, data):
    annotation, values = pair
    for shape, value in (
        (set[annotation], data.draw(st.sets(values, max_size=4))),
        (frozenset[annotation], data.draw(st.frozensets(values, max_size=4))),
        (dict[annotation, int], data.draw(st.dictionaries(values, st.integers(), max_size=4))),
    ):
        contract = contract_for(shape)
        (arrived,), _ = contract.load(travel(contract.dump((value,), {})[0]), {})
        assert arrived == value


def test_a_model_whose_validator_runs_before_arrives_as_itself():
    contract = contract_for(Padded)
    value = Padded(at=datetime(2026, 3, 1, tzinfo=UTC), name=" x ")
    (arrived,), _ = contract.load(travel(contract.dump((value,), {})[0]), {})
    assert arrived == value


class Padded(BaseModel):
    at: datetime
    name: str

    @field_validator("at", mode="before")
    @classmethod
    def _unchanged(cls, value: Any) -> Any:
        return value

    @computed_field
    def length(self) -> int:
        return len(self.name)


def test_a_moment_in_the_repeated_hour_of_autumn_keeps_its_offset():
    moment = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris"))
    contract = contract_for(datetime)
    (arrived,), _ = contract.load(travel(contract.dump((moment,), {})[0]), {})
    assert arrived.utcoffset() == moment.utcoffset() == timedelta(hours=1)
    assert arrived.replace(tzinfo=None) == moment.replace(tzinfo=None, fold=0)


@pytest.mark.parametrize("value", ["2", 2.0, True, None, [2], "x"])
def test_nothing_becomes_an_int_silently(value):
    with pytest.raises(PayloadInvalid, match="expected int"):
        contract_for(int).dump((value,), {})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, 3),
        (str, UUID(int=1)),
        (str, Colour.RED),
        (bool, 1),
        (float, "1.5"),
        (Decimal, 1.5 + 0j),
        (datetime, 1_700_000_000),
        (list[int], ["1"]),
        (dict[str, int], {1: 2}),
        (Line, {"sku": "a", "price": "1", "count": "2"}),
        (Colour, "green"),
        (Colour, Word.YES),
        (Order, object()),
    ],
)
def test_a_value_of_another_type_is_refused(annotation, value):
    with pytest.raises(PayloadInvalid, match="expected"):
        contract_for(annotation).dump((value,), {})
    with pytest.raises(PayloadInvalid, match="expected"):
        contract_for(annotation).load((value,), {})
