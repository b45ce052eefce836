"""
Turn a function into a task of the platform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from kombu.utils.json import dumps

from celery_platform.errors import PolicyError
from celery_platform.guards.admission import GuardAdmission
from celery_platform.guards.key_template import Signature
from celery_platform.guards.rules import guards_of
from celery_platform.payload import Contract
from celery_platform.policy import HARD_LIMIT_GRACE, TaskPolicy, check_options
from celery_platform.task import PlatformTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta
    from typing import Literal

    from celery_platform.backoff import Backoff
    from celery_platform.dead_letters import DeadLetter, Retention
    from celery_platform.guards.circuit_breaker import CircuitBreaker
    from celery_platform.guards.idempotency import Idempotency
    from celery_platform.guards.limits import Limit
    from celery_platform.routing import PriorityClass

__all__ = ["platform_task"]

P = ParamSpec("P")
R = TypeVar("R")

_GUARDS = frozenset({"breaker", "idempotency", "limits"})
_WORDS = _GUARDS | frozenset({
    "aliases", "bind", "dead_letters", "deadline", "name", "on_dead", "priority", "queue", "retry", "timeout",
    "version",
})  # fmt: skip


@overload
def platform_task(function: Callable[P, R], /) -> PlatformTask[P, R]: ...
@overload
def platform_task(
    *,
    bind: Literal[True],
    name: str | None = ...,
    queue: str | None = ...,
    priority: PriorityClass | None = ...,
    retry: Backoff | None = ...,
    timeout: float | timedelta | None = ...,
    deadline: float | timedelta | None = ...,
    idempotency: Idempotency | None = ...,
    breaker: CircuitBreaker | Sequence[CircuitBreaker] | None = ...,
    limits: Limit | Sequence[Limit] | None = ...,
    on_dead: Callable[[DeadLetter], object] | None = ...,
    dead_letters: Retention | None = ...,
    aliases: Sequence[str] = ...,
    version: int = ...,
    **celery_options: Any,
) -> Callable[[Callable[Concatenate[Any, P], R]], PlatformTask[P, R]]: ...
@overload
def platform_task(
    *,
    bind: Literal[False] = ...,
    name: str | None = ...,
    queue: str | None = ...,
    priority: PriorityClass | None = ...,
    retry: Backoff | None = ...,
    timeout: float | timedelta | None = ...,
    deadline: float | timedelta | None = ...,
    idempotency: Idempotency | None = ...,
    breaker: CircuitBreaker | Sequence[CircuitBreaker] | None = ...,
    limits: Limit | Sequence[Limit] | None = ...,
    on_dead: Callable[[DeadLetter], object] | None = ...,
    dead_letters: Retention | None = ...,
    aliases: Sequence[str] = ...,
    version: int = ...,
    **celery_options: Any,
) -> Callable[[Callable[P, R]], PlatformTask[P, R]]: ...
def platform_task(function: Any = None, /, *, bind: bool = False, name: str | None = None, **words: Any) -> Any:
    """
    Make a function a task with policies; works bare, and with keywords.

    *queue* and *priority* (`critical`, `high`, `normal`, `low`, `bulk`) route it; *retry* is a `Backoff`; *timeout*
    bounds one attempt and *deadline* the whole call, in seconds or as `timedelta`. *idempotency*, *breaker* (one
    `CircuitBreaker` or several) and *limits* (`RateLimit`, `ConcurrencyLimit`) stand before the body. *bind* hands
    the task itself over as first argument. *on_dead* is called with every new dead letter of the task, and
    *dead_letters* is the `Retention` of those. *aliases* are former names, *version* (from 1) that of the payload: see
    `upcast`. Celery's own task options pass through.

    Raises `PolicyError` or `UnknownQueue` at import, for unknown words and for combinations that cannot work.
    """
    if function is not None and not callable(function):
        raise PolicyError(f"@platform_task expected a function, got {function!r}. Name policies: queue=…, retry=….")

    def decorate(body: Callable[..., Any]) -> PlatformTask[Any, Any]:
        return _task_of(body, bind=bind, name=name, words=words)

    return decorate if function is None else decorate(function)


def _task_of(
    body: Callable[..., Any], *, bind: bool, name: str | None, words: dict[str, Any]
) -> PlatformTask[Any, Any]:
    from celery_platform.celery_app import current_platform

    platform = current_platform()
    app = platform.app
    task = name or app.gen_task_name(body.__name__, body.__module__)
    named = {word: words[word] for word in words if word in _WORDS - _GUARDS}
    options = {word: words[word] for word in words if word not in _WORDS}
    if isinstance(named.get("aliases"), list):
        named["aliases"] = tuple(named["aliases"])
    policy = TaskPolicy.of(task, router=platform.router, **named)
    check_options(task, options, policy, _WORDS)
    # Asked for by its public name, Celery would finalise the app in the midst of its imports.
    tasks: Any = vars(app)["_tasks"]
    _check_names(task, policy.aliases, tasks)
    contract = Contract.of(body, bind, task=task, encode=dumps)
    if policy.timeout is not None:
        options |= {"soft_time_limit": policy.timeout, "time_limit": policy.timeout + HARD_LIMIT_GRACE}
    if contract.private_result:
        options["resultrepr_maxsize"] = 0
    asked = {word: words[word] for word in words if word in _GUARDS}
    guards = guards_of(task, Signature(body, bound=bind), **asked)
    guarded = guards and GuardAdmission(task, guards, platform, load=contract.load, dump=contract.dump_result)
    make: Any = app.task
    made: PlatformTask[Any, Any] = make(
        body,
        base=PlatformTask,
        bind=bind,
        name=task,
        lazy=False,
        typing=False,
        contract=contract,
        policy=policy,
        platform=platform,
        guarded=guarded,
        upcasters={},
        **options,
    )
    for alias in policy.aliases:
        tasks[alias] = made
    # What is registered last names the task in the logs.
    tasks[task] = tasks.pop(task)
    return made


def _check_names(task: str, aliases: Sequence[str], tasks: Mapping[str, Any]) -> None:
    known = tasks.get(task)
    if known is not None and known.name != task:
        raise PolicyError(f"{task}: the name is an alias of {known.name}. Drop the alias there, or rename this task.")
    for alias in aliases:
        other = tasks.get(alias)
        if other is not None and other.name != task:
            raise PolicyError(f"{task}: aliases holds {alias!r}, which is {other.name}. Name only what is gone.")
