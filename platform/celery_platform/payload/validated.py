"""
Turn values of any type that pydantic knows into their JSON form and back, in strict mode.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from celery_platform.payload.codecs import SCALARS, Mismatch, is_record
from celery_platform.payload.private import PRIVATE, WIRE, Private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import TypeAdapter, ValidationError

__all__ = ["Validated"]

_SHOWN = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Validated:
    """
    The codec of everything else, by pydantic, in strict mode.

    A value passes when it is of the annotated type, or is a JSON form of it. What passes at enqueueing is known to be
    readable in the worker, as an equal value: every dump is loaded again before it counts.
    """

    adapter: TypeAdapter[Any]
    private: bool
    fields: frozenset[str] = frozenset()
    exact: frozenset[type] = frozenset()

    @classmethod
    def by(cls, adapter: TypeAdapter[Any]) -> Validated:
        """
        Return the codec that validates by *adapter*.
        """
        schema = adapter.core_schema
        return cls(adapter, _holds_private(schema), frozenset(_field_names(schema)))

    def dump(self, value: Any, /) -> Any:
        """
        Return the JSON form of *value*, as pydantic writes it (aliases used, computed fields left out).
        """
        accepted = self.load(value)
        wire = self._write(accepted)
        text = _text(wire)
        if text is None:
            raise Mismatch("JSON has no NaN and no infinity")
        if text != _text(value) and not _same(self._read_back(wire), accepted):
            raise Mismatch("it would arrive changed: its JSON form reads back as another value")
        return wire

    def load(self, value: Any, /) -> Any:
        """
        Return the Python value that *value* is, or is the JSON form of.
        """
        from pydantic import ValidationError

        text = _text(value)
        try:
            if text is None:
                return self.adapter.validate_python(value, strict=True)
            return self.adapter.validate_json(text, strict=True)
        except ValidationError as error:
            failed = error
        if text is not None:
            for read in (self._as_python, self._as_canonical):
                try:
                    return read(value, text)
                except ValidationError:
                    continue
        raise Mismatch(*_reasons(failed, self.fields if self.private else None))

    def _as_python(self, value: Any, _text: str) -> Any:
        return self.adapter.validate_python(value, strict=True)

    def _as_canonical(self, value: Any, text: str) -> Any:
        # A model with a `mode="before"` validator refuses its own JSON form in strict mode. Conversions are harmless
        # when writing the result again gives the very same JSON.
        loaded = self.adapter.validate_json(text, strict=False)
        if _sorted(self._write(loaded)) != _sorted(value):
            return self.adapter.validate_json(text, strict=True)
        return loaded

    def _read_back(self, wire: Any) -> Any:
        try:
            return self.load(wire)
        except Mismatch as mismatch:
            raise Mismatch("its JSON form cannot be read back", *mismatch.reasons) from None

    def _write(self, value: Any) -> Any:
        from pydantic_core import PydanticSerializationError

        try:
            return self.adapter.dump_python(
                value, mode="json", by_alias=True, round_trip=True, warnings=False, context=WIRE
            )
        except (PydanticSerializationError, UnicodeError, ValueError):
            raise Mismatch("JSON cannot hold it") from None


def _text(value: Any) -> str | None:
    """
    Return *value* as JSON text, or None when it is not made of JSON's own types.
    """
    try:
        return json.dumps(value, allow_nan=False) if _is_json(value) else None
    except ValueError:
        return None
    except RecursionError:
        raise Mismatch("it is nested too deeply for JSON, or contains itself") from None


def _is_json(value: Any) -> bool:
    kind = type(value)
    if kind in SCALARS:
        return True
    if kind is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    return (kind is list or kind is tuple) and all(map(_is_json, value))


def _sorted(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _same(left: Any, right: Any) -> bool:
    """
    Compare what a value holds: private attributes of models do not travel, and a repeated hour compares by its offset.
    """
    if type(left) is not type(right):
        return False
    if (leaf := _same_leaf(left, right)) is not None:
        return leaf
    if isinstance(left, Private):
        return _same(left.reveal(), right.reveal())
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(item, right[key]) for key, item in left.items())
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(_same, left, right))
    return all(map(_same, _members(left), _members(right)))


def _same_leaf(left: Any, right: Any) -> bool | None:
    if isinstance(left, datetime):
        return (left.replace(tzinfo=None), left.utcoffset()) == (right.replace(tzinfo=None), right.utcoffset())
    if isinstance(left, (Private, dict, list, tuple)) or is_record(left):
        return None
    return bool(left == right)


def _members(value: Any) -> list[Any]:
    if hasattr(value, "__pydantic_fields__"):
        return [value.__dict__, getattr(value, "__pydantic_extra__", None)]
    return [getattr(value, field.name) for field in dataclasses.fields(value)]


def _reasons(error: ValidationError, harmless: frozenset[str] | None) -> Iterator[str]:
    """
    Yield one sentence a line; with *harmless* given, only those words of the caller's data may show.
    """
    lines = error.errors(include_url=False, include_context=False)
    for line in lines[:_SHOWN]:
        where = ".".join(str(part) if _may_show(part, harmless) else "*" for part in line["loc"])
        # A validator's own words may hold the value; the kind of the error never does.
        what = line["msg"] if harmless is None or line["type"] == "private_invalid" else line["type"]
        got = "" if line["type"] in ("missing", "private_invalid") else f" (got {type(line['input']).__name__})"
        yield f"{where + ': ' if where else ''}{what}{got}"
    if len(lines) > _SHOWN:
        yield f"and {len(lines) - _SHOWN} more"


def _may_show(part: int | str, harmless: frozenset[str] | None) -> bool:
    return harmless is None or isinstance(part, int) or part in harmless


def _holds_private(schema: Any) -> bool:
    # A schema that waits to be built is a mapping, and builds itself when it is looked into.
    if isinstance(schema, Mapping):
        return PRIVATE in schema or any(map(_holds_private, schema.values()))
    return isinstance(schema, (list, tuple)) and any(map(_holds_private, schema))


def _field_names(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("fields"), dict):
            yield from schema["fields"]
        schema = list(schema.values())
    if isinstance(schema, (list, tuple)):
        for part in schema:
            yield from _field_names(part)
