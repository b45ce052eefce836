"""
Find the texts of private values, and take them out of errors before anybody sees those.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from enum import Enum
from typing import Any
from urllib.parse import quote, quote_plus

from celery_platform.payload.private import MASK, Private

__all__ = ["scrub", "scrub_text", "texts_in"]

# Texts shorter than this are replaced only where they stand as a word of their own: an "M" must not eat every "M".
_WORD = 4


def texts_in(parts: Iterable[tuple[Any, bool]]) -> tuple[str, ...]:
    """
    Return the texts under which private values may show up, longest first.

    Each part is a value and whether all of it is private; otherwise only what is wrapped inside of it.
    """
    texts = {text for value, private in parts for leaf in _leaves(value, private=private) for text in _texts(leaf)}
    return tuple(sorted(texts, key=lambda text: (-len(text), text)))


def scrub(error: BaseException, secrets: tuple[str, ...]) -> BaseException:
    """
    Return *error* with every text of *secrets* masked, along its whole chain of causes, notes and members.

    The class is kept where it can be rebuilt, so that `except` clauses and retry rules still know it; else a
    `RuntimeError` names it. An error that shows no secret is returned as it is. Raise the result outside of the
    ``except`` block that caught *error*, or Python makes the original its context again.
    """
    if not secrets:
        return error
    return _Scrubber(secrets).error(error)


def scrub_text(text: str, secrets: tuple[str, ...]) -> str:
    """
    Return *text* with every text of *secrets* masked.
    """
    return _Scrubber(secrets).text(text) if secrets else text


def _leaves(value: Any, *, private: bool) -> Iterator[Any]:
    if isinstance(value, Private):
        yield from _leaves(value.reveal(), private=True)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(key, private=private)
            yield from _leaves(item, private=private)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _leaves(item, private=private)
    elif (members := _members(value)) is not None:
        for item in members:
            yield from _leaves(item, private=private)
    elif private and value is not None and not isinstance(value, bool):
        yield value


def _members(value: Any) -> list[Any] | None:
    if isinstance(value, Enum):
        return [value.value]
    if hasattr(value, "__pydantic_fields__"):
        return [*value.__dict__.values(), getattr(value, "__pydantic_extra__", None)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    return None


def _texts(leaf: Any) -> Iterator[str]:
    plain = leaf.decode(errors="replace") if isinstance(leaf, bytes) else str(leaf)
    if not plain.strip():
        return
    # The same text as it stands in a repr, in JSON and in a URL.
    yield from (plain, repr(plain)[1:-1], json.dumps(plain)[1:-1], quote(plain, safe=""), quote_plus(plain))
    if isinstance(leaf, bytes):
        yield repr(leaf)[2:-1]
    elif isinstance(leaf, (datetime, date, time)):
        yield from (leaf.isoformat(), repr(leaf))


class _Scrubber:
    """One walk over one error; *seen* keeps cycles of causes finite."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._pattern = re.compile("|".join(map(_expression, sorted(secrets, key=len, reverse=True))))
        self._seen: dict[int, BaseException] = {}

    def text(self, text: str) -> str:
        """
        Return *text*, masked.
        """
        return self._pattern.sub(MASK, text)

    def error(self, error: BaseException) -> BaseException:
        """
        Return *error*, masked, or *error* itself when it shows nothing.
        """
        if id(error) in self._seen:
            return self._seen[id(error)]
        self._seen[id(error)] = error
        links = {name: getattr(error, name) for name in ("__cause__", "__context__")}
        clean = {name: link if link is None else self.error(link) for name, link in links.items()}
        if not self._shows(error) and all(clean[name] is links[name] for name in links):
            return error
        rebuilt = self._rebuilt(error)
        self._seen[id(error)] = rebuilt
        rebuilt.__cause__, rebuilt.__context__ = clean["__cause__"], clean["__context__"]
        rebuilt.__suppress_context__ = error.__suppress_context__
        rebuilt.__traceback__ = error.__traceback__
        return rebuilt

    def _shows(self, error: BaseException) -> bool:
        try:
            seen = [str(error), repr(error), repr(error.args), *map(str, getattr(error, "__notes__", ()))]
            members = [self.error(member) is not member for member in getattr(error, "exceptions", ())]
            return any(members) or any(map(self._pattern.search, seen)) or self.value(vars(error)) != vars(error)
        except Exception:  # noqa: BLE001 - an error that cannot even be shown is rebuilt
            return True

    def _rebuilt(self, error: BaseException) -> BaseException:
        try:
            rebuilt = self._same_class(error)
            if not self._shows(rebuilt):
                return rebuilt
        except Exception:  # noqa: BLE001, S110 - a class that cannot be rebuilt is named instead
            pass
        return self._named(error)

    def _same_class(self, error: BaseException) -> BaseException:
        kind = type(error)
        if isinstance(kind.__init__, types.WrapperDescriptorType):
            # Built in: arguments alone make it, and `OSError` keeps some of them out of `args`.
            rebuilt = kind(*self.value(error.__reduce__()[1]))
        else:
            # A constructor of its own would format the message a second time.
            rebuilt = kind.__new__(kind, *self.value(error.args))
        rebuilt.args = self.value(error.args)
        rebuilt.__dict__.update(self.value(vars(error)))
        return rebuilt

    def _named(self, error: BaseException) -> BaseException:
        try:
            text = self.text(str(error))
        except Exception:  # noqa: BLE001 - see _shows
            text = MASK
        rebuilt = RuntimeError(f"{type(error).__name__}: {text}")
        for note in getattr(error, "__notes__", ()):
            rebuilt.add_note(self.text(str(note)))
        return rebuilt

    def value(self, value: Any) -> Any:
        """
        Return *value*, masked at any depth; an object that would show a secret becomes its masked text.
        """
        if isinstance(value, str):
            return self.text(value) if self._pattern.search(value) else value
        if type(value) is bytes:
            return self.text(value.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if isinstance(value, BaseException):
            return self.error(value)
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(map(self.value, value))
        if type(value) is dict:
            return {self.value(key): self.value(item) for key, item in value.items()}
        shown = repr(value)
        return self.text(shown) if self._pattern.search(shown) else value


def _expression(secret: str) -> str:
    literal = re.escape(secret)
    return literal if len(secret) >= _WORD else rf"(?<!\w){literal}(?!\w)"
