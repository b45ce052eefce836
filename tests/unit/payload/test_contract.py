"""
Hold every call to the signature.
"""

from __future__ import annotations

import functools
import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import pytest
from celery import Celery, chain, group
from celery.canvas import Signature  # noqa: TC002 - annotations are read at run time
from kombu.utils.json import dumps as kombu_dumps
from pydantic import BaseModel, Field, SecretStr

from celery_platform.errors import PayloadInvalid, PayloadTooLarge, PolicyError
from celery_platform.outcomes import Snooze  # noqa: TC001 - annotations are read at run time
from celery_platform.payload import Contract, Secret, Writable, check_size, to_wire

if TYPE_CHECKING:
    from fractions import Fraction


class Invoice(BaseModel):
    number: str
    total: Decimal


class Colour(Enum):
    RED = "red"


@dataclass
class Place:
    city: str


def pay(invoice: Invoice, /, account: str, *notes: str, when: datetime | None = None, **tags: int) -> Place: ...


def add(a: int, b: int = 2) -> int: ...


def loose(a, b=None): ...


PAY = Contract.of(pay)
ADD = Contract.of(add)
LOOSE = Contract.of(loose, encode=kombu_dumps)
INVOICE = Invoice(number="7", total=Decimal("1.50"))


def test_arguments_keep_the_shape_in_which_they_were_given():
    args, kwargs = PAY.dump((INVOICE, "acc", "n1", "n2"), {"when": datetime(2026, 1, 2, tzinfo=UTC), "x": 3})
    assert args == ({"number": "7", "total": "1.50"}, "acc", "n1", "n2")
    assert kwargs == {"when": "2026-01-02T00:00:00Z", "x": 3}
    assert PAY.load(list(args), kwargs) == (
        (INVOICE, "acc", "n1", "n2"),
        {"when": datetime(2026, 1, 2, tzinfo=UTC), "x": 3},
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing 'invoice', 'account'"),
        ((INVOICE,), {}, "missing 'account'"),
        ((INVOICE, "a"), {"account": "b"}, "'account' is given twice"),
        ((INVOICE, "a", 3), {}, "'notes' expected str, got int"),
        ((INVOICE, "a"), {"x": "3"}, "'tags' expected int, got str"),
        ((INVOICE, "a"), {"when": "yesterday"}, r"'when' expected datetime \| None, got str"),
        (({"number": "7"}, "a"), {}, "'invoice' expected Invoice, got dict: total: Field required"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_by_name(args, kwargs, problem):
    with pytest.raises(PayloadInvalid, match=problem):
        PAY.dump(args, kwargs)
    with pytest.raises(PayloadInvalid, match=problem):
        PAY.load(args, kwargs)


def test_the_error_says_what_where_and_the_remedy():
    with pytest.raises(PayloadInvalid) as refused:
        ADD.dump((1, 2, 3), {})
    assert str(refused.value) == (
        f"{__name__}.add, when enqueued: takes 2 positional argument(s), got 3. Call it as add(a: int, b: int = ...)."
    )
    with pytest.raises(PayloadInvalid, match=r"has no parameter 'bb' to name \(Did you mean 'b'\?\)"):
        ADD.dump((1,), {"bb": 3})
    with pytest.raises(PayloadInvalid, match="when run: 'a' expected int, got str"):
        ADD.load(("1",), {})


def test_every_misfit_of_a_call_is_named_at_once():
    with pytest.raises(PayloadInvalid) as refused:
        ADD.dump(("1", 2.5), {})
    assert refused.value.problems == ("'a' expected int, got str", "'b' expected int, got float")


def test_missing_arguments_are_taken_as_none_given():
    assert LOOSE.dump(("x",), None) == (("x",), {})
    with pytest.raises(PayloadInvalid, match="missing 'a'"):
        LOOSE.dump(None, None)


def test_a_bound_function_does_not_count_itself():
    def task(self: NotImported, a: int): ...  # noqa: F821

    bound = Contract.of(task, bound=True)
    assert bound.dump((1,), {}) == ((1,), {})
    with pytest.raises(PayloadInvalid, match="takes 1 positional"):
        bound.dump((1, 2), {})


def test_a_bound_function_without_parameters_is_refused():
    with pytest.raises(PolicyError, match="Add self"):
        Contract.of(lambda: None, bound=True)


def test_a_required_keyword_is_required():
    def task(a: int, *, b: int): ...

    contract = Contract.of(task)
    with pytest.raises(PayloadInvalid, match="missing 'b'"):
        contract.dump((1,), {})
    assert contract.dump((1,), {"b": 2}) == ((1,), {"b": 2})


def test_positional_only_names_cannot_be_used_as_keywords():
    with pytest.raises(PayloadInvalid, match="missing 'invoice'"):
        PAY.dump((), {"invoice": 1, "account": "x"})


def test_an_annotation_for_type_checkers_only_fails_at_import():
    def task(part: Fraction): ...

    with pytest.raises(PolicyError, match=r"'part' is annotated 'Fraction', .* outside of `if TYPE_CHECKING`"):
        Contract.of(task)


def test_an_annotation_that_cannot_travel_fails_at_import():
    def task(lock: Lock): ...

    with pytest.raises(PolicyError, match="'lock' is annotated Lock, and values of that type cannot travel as JSON"):
        Contract.of(task)


class Lock:
    pass


def test_constraints_of_annotated_types_are_kept():
    def task(count: Annotated[int, Field(gt=0)]): ...

    contract = Contract.of(task)
    assert contract.dump((3,), {}) == ((3,), {})
    with pytest.raises(PayloadInvalid, match="greater than 0"):
        contract.dump((-3,), {})


def test_what_is_not_annotated_passes_unchanged():
    values = [
        1,
        "x",
        2.5,
        None,
        {"a": [1, {"b": (1, 2)}]},
        datetime(2026, 1, 1, tzinfo=UTC),
        UUID(int=3),
        Decimal(1),
        b"x",
    ]
    for value in values:
        (same,), _ = LOOSE.dump((value,), {})
        assert same is value


@pytest.mark.parametrize("value", [object(), {1, 2}, INVOICE, Place("x"), [float("nan")], float("inf"), Secret("abcd")])
def test_what_is_not_annotated_and_cannot_be_written_is_refused_by_name(value):
    with pytest.raises(PayloadInvalid, match=r"'b' expected any value, got .*: ") as refused:
        LOOSE.dump((1,), {"b": value})
    assert "abcd" not in str(refused.value)


def test_a_value_that_contains_itself_is_refused():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(PayloadInvalid, match="contains itself"):
        LOOSE.dump((loop,), {})

    def task(numbers: list[int], anything: dict[str, Any] | None = None): ...

    for args in ((loop,), ([], {"x": loop})):
        with pytest.raises(PayloadInvalid, match="contains itself"):
            Contract.of(task).dump(args, {})


def test_a_wrapped_function_keeps_the_signature_of_its_inside():
    def traced(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    contract = Contract.of(traced(pay))
    assert contract.usage == PAY.usage
    assert contract.dump((INVOICE, "a"), {}) == PAY.dump((INVOICE, "a"), {})
    assert contract.dump_result(Place("Rome")) == {"city": "Rome"}


def test_signatures_pass_as_arguments():
    app = Celery()

    def visit(then: Signature, also: dict[str, Any] | None = None): ...

    signature = chain(app.signature("a", (1,)), group(app.signature("b"), app.signature("c")))
    assert LOOSE.dump((signature,), {})[0] == (signature,)
    assert Contract.of(visit).dump((signature,), {})[0] == (signature,)


def test_a_result_is_held_to_the_return_annotation():
    assert PAY.dump_result(Place("Rome")) == {"city": "Rome"}
    assert PAY.load_result({"city": "Rome"}) == Place("Rome")
    with pytest.raises(PayloadInvalid, match="in what it returned: the return value expected Place, got int"):
        PAY.dump_result(3)


def test_a_result_without_annotation_passes_unchanged():
    marker = object()
    assert LOOSE.dump_result(marker) is marker

    def nothing() -> None: ...

    assert Contract.of(nothing).dump_result(marker) is marker


def test_verdicts_in_a_return_annotation_are_no_results():
    def task() -> Place | Snooze: ...

    contract = Contract.of(task)
    assert contract.dump_result(Place("Rome")) == {"city": "Rome"}


def test_a_value_that_would_arrive_changed_is_refused():
    def task(password: SecretStr, order: Invoice | None = None): ...

    class Special(Invoice):
        rebate: int

    contract = Contract.of(task)
    with pytest.raises(PayloadInvalid, match="would arrive changed"):
        contract.dump((SecretStr("hunter2"),), {})
    with pytest.raises(PayloadInvalid, match="would arrive changed"):
        PAY.dump((Special(number="1", total=Decimal(1), rebate=3), "a"), {})


def test_a_model_that_was_changed_into_nonsense_is_refused_when_enqueued():
    broken = Invoice(number="7", total=Decimal(1))
    broken.total = "much"
    with pytest.raises(PayloadInvalid, match="cannot be read back"):
        PAY.dump((broken, "a"), {})


def test_an_encoder_that_goes_by_class_finds_the_json_form():
    app = Celery()
    inner = app.signature("x", (1,))
    value = {"a": [INVOICE, Place("Rome")], "s": Secret("x"), "e": Colour.RED, "n": {1}, "then": inner}
    assert json.loads(json.dumps(value, default=lambda o: to_wire(o) if isinstance(o, Writable) else str(o))) == {
        "a": [{"number": "7", "total": "1.50"}, {"city": "Rome"}],
        "s": "x",
        "e": "red",
        "n": [1],
        "then": json.loads(json.dumps(inner)),
    }
    assert not isinstance("x", Writable)
    assert not isinstance(Place, Writable)


def test_the_errors_cross_processes_and_json_backends_as_themselves():
    backend = Celery(set_as_current=False, backend="cache+memory://").backend
    for error in (
        PayloadInvalid("tasks.add", ["'a' expected int, got str"], "run", "Mend it."),
        PayloadTooLarge("tasks.add", 300, 200),
    ):
        stored = json.loads(json.dumps(backend.prepare_exception(error, serializer="json")))
        for copy in (pickle.loads(pickle.dumps(error)), backend.exception_to_python(stored)):
            assert type(copy) is type(error)
            assert str(copy) == str(error)


def test_a_call_above_the_limit_is_refused_with_its_size():
    assert check_size(b"x" * 10, 10, "tasks.add") == 10
    assert check_size("ä", 2, "tasks.add") == 2
    with pytest.raises(
        PayloadTooLarge, match=r"tasks\.add: the call is 11 bytes, above the limit of 10\. Store the data"
    ):
        check_size(11, 10, "tasks.add")


def test_tasks_without_models_do_not_import_pydantic():
    program = """
import sys
import celery_platform
from celery_platform.payload import Contract, Secret
def bare(a, *args, **kwargs): ...
def plain(a, b: int = 1, c: "str | None" = None, *rest: float) -> bool: ...
Contract.of(bare).dump((1, [2]), {})
Contract.of(plain).load((1, 2, "x", 1.5), {})
assert "pydantic" not in sys.modules, "imported"
"""
    subprocess.run([sys.executable, "-c", program], check=True)
