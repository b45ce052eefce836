"""
Make one key from the arguments of a call: ``"invoice:{invoice_id}"`` or a function of the arguments.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import string
from typing import TYPE_CHECKING, Any

from celery_platform.errors import PolicyError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    Key = str | Callable[..., object]

__all__ = ["LONGEST_KEY", "Signature", "check_key", "render_key"]

LONGEST_KEY = 512
"""Bytes of a rendered key; a longer one is replaced by its SHA-256."""


def check_key(key: Key, parameters: Collection[str], *, owner: str) -> None:
    """
    Refuse a template that names an argument the task does not have.

    *owner* is how the error names the policy. A function is accepted as it is.

    Raises:
        PolicyError: the template is malformed or names an unknown argument.

    """
    if not isinstance(key, str):
        return
    for name in _fields(key, owner):
        if name not in parameters:
            known = ", ".join(parameters) or "it takes none"
            raise PolicyError(
                f"{owner}: the key {key!r} names {name!r}, which is not an argument of the task ({known})."
                f"{did_you_mean(name, parameters)} Name one of its arguments."
            )


def render_key(key: Key, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """
    Return the key of one call; more than `LONGEST_KEY` bytes become ``sha256:...``.
    """
    if isinstance(key, str):
        text = string.Formatter().vformat(key, (), signature.bound(args, kwargs)) if "{" in key or "}" in key else key
    else:
        text = str(key(*args, **kwargs))
    raw = text.encode()
    return text if len(raw) <= LONGEST_KEY else f"sha256:{hashlib.sha256(raw).hexdigest()}"


class Signature:
    """The argument names of a task, ready to bind calls to them; *bound* leaves out the task itself."""

    def __init__(self, function: Callable[..., Any], *, bound: bool = False) -> None:
        signature = inspect.signature(function)
        own = list(signature.parameters.values())[1 if bound else 0 :]
        self._signature = signature.replace(parameters=own)
        self.parameters = tuple(self._signature.parameters)

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the arguments of a call by name, defaults included.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments


def _fields(template: str, owner: str) -> list[str]:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise PolicyError(
            f"{owner}: the key {template!r} is no template ({error}). Write it like 'invoice:{{invoice_id}}'."
        ) from error
    names = [re.split(r"[.\[]", field, maxsplit=1)[0] for _, field, _, _ in parsed if field is not None]
    if any(not name or name.isdigit() for name in names):
        raise PolicyError(
            f"{owner}: the key {template!r} has a nameless field. Name an argument, like 'invoice:{{invoice_id}}'."
        )
    return names
