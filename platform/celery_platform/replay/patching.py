"""
Change the arguments of a dead letter by a JSON patch, and hold them against the contract of its task.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery_platform.dead_letters.editing import changed
from celery_platform.errors import DeadLetterError, PayloadInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery_platform.celery_app import Platform
    from celery_platform.dead_letters import DeadLetter

__all__ = ["edited", "patched"]


def edited(
    platform: Platform, letter_id: str, patch: Sequence[Mapping[str, Any]], *, actor: str = "", because: str = ""
) -> DeadLetter:
    """
    Change the arguments of one open letter and return it.

    *patch* (RFC 6902) is of the document ``{"args": […], "kwargs": {…}}``. Raises `DeadLetterError` when it does not
    apply, and `PayloadInvalid` when what it makes breaks the contract of the task; nothing was changed then.
    """
    letters = platform.dead_letters
    letter = letters.find(letter_id)
    if letter is None or not letters.graves.is_open(letter_id):
        raise DeadLetterError(f"There is no open dead letter {letter_id!r}. `dead list` shows those there are.")
    args, kwargs = _arguments(platform, letter, patch)
    letters.edit(letter_id, args, kwargs, actor=actor, because=because)
    return patched(platform, letter, patch)


def patched(platform: Platform, letter: DeadLetter, patch: Sequence[Mapping[str, Any]]) -> DeadLetter:
    """
    Return *letter* as *patch* makes it, without keeping it. Raises what `edited` raises.
    """
    args, kwargs = _arguments(platform, letter, patch)
    new = changed(letter, args, kwargs, at=letter.buried_at)
    contract = getattr(platform.app.tasks.get(letter.task), "contract", None)
    shown = contract.argsrepr(args, kwargs) if contract is not None else ("", "")
    shown = shown or (repr(tuple(args))[:1024], repr(kwargs)[:1024])
    return replace(new, argsrepr=shown[0], kwargsrepr=shown[1])


def _arguments(
    platform: Platform, letter: DeadLetter, patch: Sequence[Mapping[str, Any]]
) -> tuple[list[Any], dict[str, Any]]:
    import jsonpatch
    from jsonpointer import JsonPointerException

    args, kwargs, _ = letter.arguments()
    try:
        document = jsonpatch.JsonPatch(list(patch)).apply({"args": args, "kwargs": kwargs})
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError) as error:
        raise DeadLetterError(f"The patch does not fit the dead letter {letter.id}: {error}.") from error
    if set(document) != {"args", "kwargs"} or not isinstance(document["args"], list):
        raise DeadLetterError(
            f"The patch of the dead letter {letter.id} must leave a list 'args', an object 'kwargs' and nothing else."
        )
    if not isinstance(document["kwargs"], dict):
        raise DeadLetterError(f"The patch of the dead letter {letter.id} must leave an object in 'kwargs'.")
    task: Any = platform.app.tasks.get(letter.task)
    if hasattr(task, "contract"):
        try:
            task.contract.load(document["args"], document["kwargs"])
        except PayloadInvalid as error:
            raise PayloadInvalid(
                error.task, error.problems, error.when, f"The dead letter {letter.id} was not changed. {error.remedy}"
            ) from error
    return document["args"], document["kwargs"]
