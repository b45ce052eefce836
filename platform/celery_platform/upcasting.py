"""
Bring the payload of an older version of a task to the one its code knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_platform.burial import BODY
from celery_platform.errors import PolicyError
from celery_platform.headers import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.task import PlatformTask

    Upcaster = Callable[[list[Any], dict[str, Any]], tuple[list[Any], dict[str, Any]]]

__all__ = ["bring_up", "upcast"]


def upcast(task: PlatformTask[Any, Any], old: int, new: int) -> Callable[[Upcaster], Upcaster]:
    """
    Register a function that turns the arguments of version *old* of *task* into those of version *new*.

    It takes and returns the positional and the named arguments in their JSON form. A payload without a version is of
    version 1. Where no function leads on, the arguments are taken as they are and held against the annotations. Raises
    `PolicyError` for versions that cannot work.
    """
    known = getattr(getattr(task, "policy", None), "version", None)
    if known is None:
        raise PolicyError(f"upcast expected a @platform_task, got {task!r}.")
    if not 1 <= old < new <= known:
        raise PolicyError(
            f"upcast({task.name}, {old}, {new}): expected versions from 1 to {known}, the older first. "
            f"Is @platform_task(version={max(new, known)}) missing?"
        )
    if old in task.upcasters:
        raise PolicyError(f"upcast({task.name}, {old}, …): version {old} has a function already.")

    def register(function: Upcaster) -> Upcaster:
        task.upcasters[old] = (new, function)
        return function

    return register


def bring_up(task: PlatformTask[Any, Any], request: Any) -> Exception | None:
    """
    Put the arguments of *request* into the form of the version that *task* knows; return the error of a function.
    """
    headers = request.headers or {}
    found = headers.get(SCHEMA)
    version = found if isinstance(found, int) else 1
    if request.is_eager or version >= task.policy.version:
        return None
    args, kwargs = list(request.args or ()), dict(request.kwargs or {})
    try:
        while version in task.upcasters:
            version, change = task.upcasters[version]
            args, kwargs = change(args, kwargs)
    except Exception as error:  # noqa: BLE001 - whatever the function raises, the call is kept
        return error
    # A dead letter of this call holds what it was brought to: the bytes as received are of another version.
    properties = {name: value for name, value in (request.properties or {}).items() if name != BODY}
    told = {**headers, SCHEMA: task.policy.version}
    request.update({"args": args, "kwargs": kwargs, "headers": told, "properties": properties})
    return None
