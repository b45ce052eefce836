"""
Translate between a call and Celery: publish it checked and routed, run it through `execution`, name its outcome.

This is the one place where outcomes become Celery's states:

=============  ==========================================================================================
outcome        becomes
=============  ==========================================================================================
`Succeeded`    the return value, in its JSON form; state ``SUCCESS``
`Skipped`      the known value; a `Discard` is state ``REVOKED`` with its reason
`Deferred`     the same call published again with a countdown, its retries untouched; then ``Ignore``
`Retrying`     the same call published again with one failure more; state ``RETRY``
`Buried`       a dead letter, written before the acknowledgement; then the error, state ``FAILURE``
=============  ==========================================================================================
"""

from __future__ import annotations

import time
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import orjson
from celery import Task
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.utils import uuid
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps as kombu_dumps

from celery_platform import burial, events
from celery_platform.beat import runs
from celery_platform.current import RunningCall, current_or_none, running
from celery_platform.endings import Deferral, Discarded
from celery_platform.errors import IdempotencyConflict, PayloadInvalid
from celery_platform.execution import AttemptExited, AttemptTimedOut, execute, is_order
from celery_platform.guards.board import BoardAdmission
from celery_platform.guards.refusals import mismatch
from celery_platform.handles import PlatformResult
from celery_platform.headers import (
    HISTORY,
    READY_AT,
    call_from,
    carried,
    counters_after,
    first_headers,
    history_after,
    keep_group,
    was_published_before,
)
from celery_platform.outcomes import Buried, Call, Deferred, Retrying, Skipped, Succeeded, Verdict
from celery_platform.payload import check_size, scrub, scrub_text
from celery_platform.routing import PLAIN_QUEUE, priority_number
from celery_platform.transport.publishing import PublishFailed, give_up
from celery_platform.upcasting import bring_up

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery.canvas import Signature
    from celery.result import EagerResult

    from celery_platform.celery_app import Platform
    from celery_platform.guards.admission import GuardAdmission
    from celery_platform.outcomes import Outcome
    from celery_platform.payload import Contract
    from celery_platform.policy import TaskPolicy
    from celery_platform.stores.guard_state import Claimed

__all__ = ["PlatformResult", "PlatformTask", "PublishFailed"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")


class PlatformTask(Task[P, R], Generic[P, R]):
    """A task under `@platform_task`: Celery's own, with the policy and the payload contract of its function."""

    abstract = True
    contract: Contract
    policy: TaskPolicy
    platform: Platform
    guarded: GuardAdmission | None = None
    upcasters: dict[int, Any]

    # Attempts are counted by the retry policy; Celery's own count stays out of the way.
    max_retries = None
    Request = "celery_platform.worker.request:PlatformRequest"

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> PlatformResult[R]:
        """
        Publish a call with these arguments.

        Raises `PayloadInvalid`, `PayloadTooLarge` or `PublishFailed`; nothing was enqueued then.
        """
        return self.apply_async(args, kwargs)

    def apply_async(  # type: ignore[override]
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> PlatformResult[R]:
        """
        Publish a call; *options* are Celery's. Unknown queues, wrong or oversized arguments are refused here.

        Raises `PayloadInvalid`, `PayloadTooLarge`, `UnknownQueue` or `PublishFailed`; nothing was enqueued then.
        """
        wire_args, wire_kwargs = self.contract.dump(args, kwargs)
        self._check_size(wire_args, wire_kwargs)
        if options.get("argsrepr") is None and (shown := self.contract.argsrepr(wire_args, wire_kwargs)) is not None:
            options["argsrepr"], options["kwargsrepr"] = shown
        self._route(options)
        if self.platform.settings.broker_kind == "amqp" and (wait := _wait_of(options)):
            # RabbitMQ delays by whole seconds, and Celery refuses a part of one.
            options["countdown"], options["eta"] = ceil(wait), None
        policy = self.policy
        options["headers"] = headers = first_headers(options.get("headers"), policy.deadline, policy.version)
        if self.platform.settings.broker_kind == "sqs":
            keep_group(headers, options)
        claimed = self._claim(wire_args, wire_kwargs, options)
        if claimed is not None and claimed.verdict not in {"new", "unclaimed"}:
            return self._duplicate(claimed, options)
        headers[READY_AT] = time.time() + _wait_of(options)
        try:
            result = super().apply_async(wire_args, wire_kwargs, **options)
        except OperationalError as error:
            self._unclaim(claimed, wire_args, wire_kwargs, options)
            give_up(error, self.name, self.platform.settings.publish_timeout)
        if events.listening():
            events.emit(events.CallEnqueued(call_id=result.id, task=self.name, queue=options.get("queue")))
        return result  # type: ignore[return-value]  # Celery builds it with our AsyncResult

    @overload
    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]: ...
    @overload
    def s(self: PlatformTask[Concatenate[Any, Q], R], *args: Q.args, **kwargs: Q.kwargs) -> Signature[R]: ...
    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """
        Return a signature with these arguments; in a chain the result of the step before comes first.
        """
        return self.signature(args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """
        Return an immutable signature with these arguments.
        """
        return self.signature(args, kwargs, immutable=True)

    def apply(  # type: ignore[override]
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> EagerResult[R]:
        """
        Run a call here and now, through the same checks, and return its finished result.
        """
        wire_args, wire_kwargs = self.contract.dump(args, kwargs)
        result: EagerResult[R] = super().apply(wire_args, wire_kwargs, **options)
        if result.successful() and not isinstance(result.result, BaseException):
            vars(result)["_result"] = self.contract.load_result(result.result)
        return result

    def AsyncResult(self, task_id: str, **kwargs: Any) -> PlatformResult[R]:  # noqa: N802 - Celery's name
        """
        Return the result of the call *task_id*, which decodes by this task's return annotation.
        """
        result: PlatformResult[R] = PlatformResult(
            task_id, backend=kwargs.pop("backend", self.backend), task_name=self.name, app=self.app, **kwargs
        )
        result.contract = self.contract
        return result

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Run the body: bare when called as a function, through its guards and policies when a worker runs it.
        """
        request = self.request
        if request.called_directly:
            # A caller that is a running call itself stays the current one.
            with running(current_or_none() or RunningCall(Call(id="called directly", task=self.name))):
                return self.run(*args, **kwargs)
        if not runs.may_run(self.platform.state, request):
            raise Ignore("another copy of this firing's message was first")
        stale = bring_up(self, request)
        call = call_from(self.name, request)
        if stale is not None:
            return self._settled(call, Buried("invalid", stale), 0.0)
        started = time.monotonic()
        admission = None if request.is_eager else self.guarded or BoardAdmission(self.name, self.platform.board)
        with running(RunningCall(call, self._reporter())):
            outcome = execute(
                call, lambda: self._body(call.args, dict(call.kwargs)), admission=admission, backoff=self.policy.retry
            )
        if admission is not None and isinstance(outcome, Buried) and outcome.reason == "deadline":
            admission.unclaim(call.id, call.args, call.kwargs)
        if self.contract.private:
            outcome = self._scrubbed(outcome, call.args, dict(call.kwargs))
        return self._settled(call, outcome, time.monotonic() - started)

    def _body(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        values, named = self.contract.load(args, kwargs)
        try:
            value = self.run(*values, **named)
        except Retry as signal:
            return Retrying(0.0, signal)
        except (Ignore, Reject) as signal:
            return Skipped("signalled to Celery", value=signal)
        except SoftTimeLimitExceeded as error:
            raise AttemptTimedOut(self.name, self.policy.timeout) from error
        except SystemExit as stop:
            if is_order(stop):
                raise
            raise AttemptExited(self.name, stop.code) from stop
        # A verdict is an answer about the call, not its result: the return annotation does not bind it.
        return value if isinstance(value, Verdict) else self.contract.dump_result(value)

    def _settled(self, call: Call, outcome: Outcome, runtime: float) -> R:
        if events.listening() and (self.request.is_eager or not isinstance(outcome, Buried)):
            burial.tell(call, outcome, runtime)
        match outcome:
            case Succeeded():
                return outcome.value  # type: ignore[no-any-return]
            case Deferred():
                self._publish_again(call, outcome)
                raise Deferral(outcome.reason, outcome.by)
            case Retrying():
                if isinstance(outcome.error, Retry):
                    raise outcome.error
                signature = self._publish_again(call, outcome)
                raise _retry_signal(outcome, signature, is_eager=self.request.is_eager)
            case Skipped():
                return self._skipped(outcome)
            case Buried():
                if not self.request.is_eager:
                    burial.bury(self, call, outcome)
                raise outcome.error

    def _skipped(self, outcome: Skipped) -> R:
        if isinstance(outcome.value, (Ignore, Reject)):
            raise outcome.value
        if not outcome.discarded:
            return outcome.value  # type: ignore[no-any-return]
        if not self.request.is_eager:
            self.backend.mark_as_revoked(
                str(self.request.id), f"discarded: {outcome.reason}", self.request, store_result=not self.ignore_result
            )
            self.send_event("task-revoked", terminated=False, signum=None, expired=False)
            runs.ended(self.platform.state, self.request, "discarded")
            self.request.update({"discarded": True})
        raise Discarded(f"discarded: {outcome.reason}")

    def _publish_again(self, call: Call, outcome: Deferred | Retrying) -> Signature[Any]:
        request = self.request
        retried = isinstance(outcome, Retrying)
        signature = self.signature_from_request(
            request,
            headers={**carried(request.headers), **counters_after(call, outcome), **self._remembered(call, outcome)},
            queue=self._queue_again(call),
            countdown=outcome.delay or None,
            retries=request.retries + (1 if retried else 0),
        )
        if request.is_eager and retried:
            return signature
        if request.is_eager:
            signature.apply(throw=True)
            return signature
        try:
            signature.apply_async()
        except Exception as error:
            # The call must not be lost: it goes back to its queue as it came.
            raise Reject(error, requeue=True) from error
        return signature

    def _remembered(self, call: Call, outcome: Deferred | Retrying) -> dict[str, Any]:
        if not isinstance(outcome, Retrying):
            return {}
        failure = burial.failed(self, call, outcome.error, self.request.hostname)
        return {HISTORY: history_after(self.request.headers, failure)}

    def _queue_again(self, call: Call) -> str | None:
        router = self.platform.router
        # The plain queue of RabbitMQ is classic and knows no delay: there, the task's own route takes the call on.
        if self.platform.settings.broker_kind == "amqp" and call.queue == PLAIN_QUEUE:
            return router.route(self.name, task_queue=self.policy.queue).queue
        return call.queue if call.queue in router.queues else None

    def _scrubbed(self, outcome: Outcome, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
        if isinstance(outcome, Succeeded):
            return outcome
        secrets = self.contract.secrets_in(args, kwargs)
        if isinstance(outcome, (Deferred, Skipped)):
            return replace(outcome, reason=scrub_text(outcome.reason, secrets))
        error: Any = _scrubbed_error(outcome.error, secrets)
        return replace(outcome, error=error)

    def _claim(self, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]) -> Claimed | None:
        admission = self.guarded
        policy = None if admission is None else admission.guards.idempotency
        if admission is None or policy is None or not policy.claims_at_enqueue or self._is_eager():
            return None
        # A member of a group or chord that was answered here would never report; it is claimed when it runs.
        if was_published_before(options["headers"]) or options.get("chord") or options.get("group_id"):
            return None
        call_id = options["task_id"] = options.get("task_id") or uuid()
        claimed = admission.claim(call_id, args, kwargs, delay=_wait_of(options))
        if claimed is not None and claimed.delay > 0:
            options["countdown"] = ceil(claimed.delay) if self._broker_counts_seconds else claimed.delay
        return claimed

    def _unclaim(
        self, claimed: Claimed | None, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> None:
        if self.guarded is not None and claimed is not None and claimed.verdict == "new":
            self.guarded.unclaim(options["task_id"], args, kwargs)

    def _duplicate(self, claimed: Claimed, options: dict[str, Any]) -> PlatformResult[R]:
        if claimed.verdict == "mismatch":
            raise mismatch(self.name, "of this call", claimed.holder)
        if claimed.verdict == "raise":
            raise IdempotencyConflict(
                f"{self.name}: the idempotency key of this call is held by {claimed.holder} ({claimed.state}) for"
                f" {claimed.age:.0f} s. Wait for that call, or choose on_conflict='return_existing'."
            )
        result = self.AsyncResult(claimed.holder)
        result.is_duplicate, result.holder_state, result.age = True, claimed.state, claimed.age
        if events.listening():
            events.emit(
                events.CallDeduplicated(
                    call_id=options["task_id"], task=self.name, queue=options.get("queue"), holder=claimed.holder
                )
            )
        return result

    @property
    def _broker_counts_seconds(self) -> bool:
        return self.platform.settings.broker_kind == "amqp"

    def _is_eager(self) -> bool:
        return bool(self.app.conf.task_always_eager)

    def _reporter(self) -> Any:
        if self.request.is_eager:
            return None
        return lambda meta: self.update_state(state="PROGRESS", meta=meta)

    def _check_size(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            body: bytes | str = orjson.dumps((args, kwargs), option=orjson.OPT_NON_STR_KEYS)
        except TypeError:
            body = self._kombu_text(args, kwargs)
        check_size(body, self.platform.settings.max_payload_bytes, self.name)

    def _kombu_text(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        try:
            return kombu_dumps((args, kwargs))
        except (TypeError, ValueError) as error:
            raise PayloadInvalid(self.name, [f"the arguments cannot be written as JSON ({error})"]) from error

    def _route(self, options: dict[str, Any]) -> None:
        if options.get("exchange") is not None or options.get("routing_key") is not None:
            return
        given = options.get("queue")
        route = self.platform.router.route(
            self.name,
            call_queue=getattr(given, "name", given),
            task_queue=self.policy.queue,
            task_priority=self.policy.priority,
        )
        options["queue"] = route.queue
        asked = options.get("priority")
        if isinstance(asked, str):
            options["priority"] = priority_number(asked, broker=self.platform.settings.broker_kind)
        elif asked is None and route.priority is not None:
            options["priority"] = priority_number(route.priority, broker=self.platform.settings.broker_kind)


def _wait_of(options: Mapping[str, Any]) -> float:
    eta: Any = options.get("eta")
    wait = eta.timestamp() - time.time() if hasattr(eta, "timestamp") else options.get("countdown")
    return max(float(wait or 0.0), 0.0)


def _retry_signal(outcome: Retrying, signature: Signature[Any], *, is_eager: bool) -> Retry:
    when: Any = outcome.delay
    return Retry(exc=outcome.error, when=when, is_eager=is_eager, sig=signature)


def _scrubbed_error(error: Exception, secrets: tuple[str, ...]) -> BaseException:
    if not isinstance(error, Retry):
        return scrub(error, secrets)
    # Celery's signal holds itself and the signature to send; both must stay what they are. The stubs know little of it.
    signal: Any = error
    cause = scrub_text(signal.excs or "", secrets) if signal.exc is None else scrub(signal.exc, secrets)
    message = scrub_text(signal.message, secrets) if signal.message else signal.message
    clean: Any = Retry(message, cause, signal.when, is_eager=signal.is_eager, sig=signal.sig)  # type: ignore[arg-type]
    clean.__cause__ = None if signal.__cause__ is None else scrub(signal.__cause__, secrets)
    return clean  # type: ignore[no-any-return]
