"""
Turn one value into its JSON form and back, without pydantic: what is not annotated, and JSON's own scalars.
"""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from celery_platform.payload.private import WIRE, Private, adapter_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ENCODED", "SCALARS", "Codec", "Mismatch", "Plain", "Unchecked", "Writable", "is_record", "to_wire"]

SCALARS: tuple[type, ...] = (bool, int, float, str, type(None))
# What the message encoder writes with a marker of its own and reads back as itself.
ENCODED: tuple[type, ...] = (datetime, date, time, Decimal, UUID, bytes)


class Mismatch(Exception):  # noqa: N818 - never seen outside of the payload package
    """One value breaks its annotation; *reasons* never show the value itself."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = reasons


class Codec(Protocol):
    """How the values of one annotation travel."""

    @property
    def private(self) -> bool:
        """
        Tell whether a `Secret` or `PII` stands anywhere inside.
        """

    @property
    def exact(self) -> frozenset[type]:
        """
        Return the types whose values are their own JSON form and need no further look.
        """

    def dump(self, value: Any, /) -> Any:
        """
        Return the JSON form of *value*, which may be in JSON form already.

        Raises `Mismatch`.
        """

    def load(self, value: Any, /) -> Any:
        """
        Return the Python value of the JSON form *value*, which may be a Python value already.

        Raises `Mismatch`.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Unchecked:
    """
    The codec of what is not annotated: any value that *encode* can write passes unchanged.
    """

    encode: Callable[[Any], object] = json.dumps
    private: bool = False
    exact: frozenset[type] = frozenset({bool, int, str, type(None)})

    def dump(self, value: Any, /) -> Any:
        """
        Return *value* unchanged; NaN and infinity are refused, since JSON has no such numbers.
        """
        try:
            json.dumps(value, allow_nan=False, default=self._encodable)
        except ValueError:
            raise Mismatch("JSON has no NaN, no infinity, and no value that contains itself") from None
        except RecursionError:
            raise Mismatch("it is nested too deeply for JSON") from None
        except TypeError as error:
            # Its text names types only, both ours and the one about the keys of a mapping.
            raise Mismatch(str(error)) from None
        return value

    def load(self, value: Any, /) -> Any:
        """
        Return *value* unchanged: it came out of a message.
        """
        return value

    def _encodable(self, value: object) -> object:
        if isinstance(value, Private):
            kind = type(value).__name__
            raise TypeError(f"annotate the parameter as {kind}[…] to send private values")
        if isinstance(value, ENCODED):
            return None
        if (reducer := getattr(value, "__json__", None)) is not None:
            return reducer()
        if isinstance(value, Writable) or not self._known(value):
            kind = type(value).__name__
            raise TypeError(f"JSON cannot hold {kind}; annotate the parameter with the type that holds it")
        return None

    def _known(self, value: object) -> bool:
        try:
            self.encode(value)
        except Exception:  # noqa: BLE001 - whatever the encoder raises, the value does not travel
            return False
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class Plain:
    """
    The codec of JSON's own scalars and their unions; nothing is converted, save an ``int`` where a ``float`` is due.
    """

    types: frozenset[type]
    private: bool = False
    exact: frozenset[type] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exact", self.types - {float})

    def dump(self, value: Any, /) -> Any:
        """
        Return *value* as the plain scalar that it is.
        """
        kind = type(value)
        if kind in self.exact:
            return value
        if isinstance(value, float) and float in self.types:
            return _finite(value)
        if isinstance(value, int) and kind is not bool:
            if int in self.types:
                return int(value)
            if float in self.types:
                return _finite(float(value))
        if isinstance(value, str) and str in self.types:
            # The text of a string enumeration's member is its value, not its name.
            return str.__str__(value)
        raise Mismatch

    load = dump


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise Mismatch("JSON has no NaN and no infinity")
    return float(value)


def to_wire(value: Writable) -> Any:
    """
    Return the JSON form of *value* without an annotation to go by; containers in it are left to the encoder.

    No check is made: what a signature carries is checked when the signature is sent.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return list(value)
    return adapter_of(type(value)).dump_python(value, mode="json", by_alias=True, round_trip=True, context=WIRE)


class _WritableType(type):
    def __instancecheck__(cls, value: object) -> bool:
        return is_record(value) or isinstance(value, (Private, Enum, set, frozenset))


class Writable(metaclass=_WritableType):
    """
    What `to_wire` writes out: models, dataclasses, enumerations, sets and wrapped values.

    It serves message encoders that go by class. Signatures inside of a message (the later steps of a chain, the body of
    a chord) keep their arguments as Python values until then, so that nothing private shows in their repr.
    """


def is_record(value: object) -> bool:
    """
    Tell whether *value* is an instance of a pydantic model or of a dataclass.
    """
    if isinstance(value, type):
        return False
    return hasattr(value, "__pydantic_fields__") or dataclasses.is_dataclass(value)
