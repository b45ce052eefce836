"""
Wrap what must not be read by accident: `Secret` for credentials, `PII` for data about people.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, final, get_args

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, SerializationInfo, TypeAdapter, ValidationError, ValidationInfo
    from pydantic_core import CoreSchema

__all__ = ["MASK", "PII", "PRIVATE", "WIRE", "Private", "Secret", "adapter_of"]

T_co = TypeVar("T_co", covariant=True)

MASK = "***"

# Marks the schema of a wrapped value, so that a contract finds it at any depth.
PRIVATE = "celery_platform_private"

# The serialisation context under which a wrapped value is written in full. Without it, `model_dump_json()` of a model
# that somebody logs shows the mask.
WIRE = {"celery_platform": "wire"}


class Private(Generic[T_co]):
    """
    A value that shows itself only to whoever calls `reveal`.

    Frozen, comparable and hashable by value. It can be pickled, in clear, because pools of processes need that.
    """

    __slots__ = ("_value",)
    _value: T_co

    def __init__(self, value: T_co, /) -> None:
        object.__setattr__(self, "_value", value)

    def reveal(self) -> T_co:
        """
        Return the value in clear; never hand it to a logger or into an error message.
        """
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({MASK})"

    __str__ = __repr__

    def __format__(self, spec: str, /) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._value == other._value

    def __hash__(self) -> int:
        return hash((type(self), self._value))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen; wrap the new value in a new one.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen; wrap another value in a new one.")

    def __reduce__(self) -> tuple[type[Private[T_co]], tuple[T_co]]:
        return type(self), (self._value,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        inner = (get_args(source) or (Any,))[0]
        schema = handler.generate_schema(inner)

        def wrap(value: Any, validate: core_schema.ValidatorFunctionWrapHandler, info: ValidationInfo) -> Private[Any]:
            return cls(_validated(cls, inner, _unseal(value), validate, info))

        def unwrap(value: Any, serialise: core_schema.SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
            if info.mode == "python":
                return value
            if info.context != WIRE:
                return MASK
            return _seal(serialise(value.reveal()))

        return core_schema.with_info_wrap_validator_function(
            wrap,
            schema,
            metadata={PRIVATE: True},
            serialization=core_schema.wrap_serializer_function_ser_schema(unwrap, info_arg=True, schema=schema),
        )


@final
class Secret(Private[T_co]):
    """
    A credential. Written ``Secret[str]`` as an annotation, it travels on the wire and shows in no log, event or error.
    """

    __slots__ = ()


@final
class PII(Private[T_co]):
    """
    Data about a person. Written ``PII[str]`` as an annotation, it is treated like a `Secret`.
    """

    __slots__ = ()


def _seal(wire: Any) -> Any:
    """
    Return what stands on the wire for a wrapped value: today its plain JSON form. Encryption goes here alone.
    """
    return wire


def _unseal(wire: Any) -> Any:
    """
    Undo `_seal`; values that were never sealed (a caller's own) pass unchanged.
    """
    return wire


def _validated(cls: type[Private[Any]], inner: Any, value: Any, validate: Any, info: ValidationInfo) -> Any:
    from pydantic import ValidationError

    value = value.reveal() if isinstance(value, cls) else value
    try:
        return validate(value)
    except ValidationError as error:
        failed = error
    # pydantic hands a wrapping validator plain Python values even when they came from JSON, and in strict mode it then
    # refuses the text of a datetime; the JSON rules are asked separately.
    if info.mode == "json":
        try:
            return adapter_of(inner).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            failed = error
    # Raised outside of the handlers: the error with the value in it must not be this one's context.
    raise _hidden(cls, failed)


def _hidden(cls: type[Private[Any]], error: ValidationError) -> ValidationError:
    from pydantic import ValidationError
    from pydantic_core import PydanticCustomError

    kinds = sorted(
        {line["type"] for line in error.errors(include_input=False, include_url=False, include_context=False)}
    )
    reason = PydanticCustomError(
        "private_invalid", "The hidden value is not valid ({kinds})", {"kinds": ", ".join(kinds)}
    )
    return ValidationError.from_exception_data(cls.__name__, [{"type": reason, "input": MASK}], hide_input=True)


@lru_cache(maxsize=256)
def adapter_of(annotation: Any) -> TypeAdapter[Any]:
    """
    Return pydantic's adapter of *annotation*, built once.
    """
    from pydantic import TypeAdapter

    return TypeAdapter(annotation)
