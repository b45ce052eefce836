"""
Judge a message before Celery looks at it: what no worker can run becomes a dead letter, and the worker goes on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from amqp.exceptions import AMQPError
from celery import signals
from celery.exceptions import WorkerShutdown
from celery.worker.consumer import Consumer
from kombu.exceptions import ContentDisallowed

from celery_platform.defaults import DELIVERY_LIMIT
from celery_platform.errors import PublishError, QueueMismatch, StoreError
from celery_platform.headers import PARKED_FROM, queue_of
from celery_platform.transport import topology
from celery_platform.transport.envelope import DEATHS
from celery_platform.worker.broker_gaps import gaps_of_rabbitmq, longest_run, tasks_with_priority, version_of
from celery_platform.worker.dead_exchange import bytes_of, properties_of
from celery_platform.worker.letters import Remains, bury
from celery_platform.worker.parking import park, too_new
from celery_platform.worker.pulse import vitals_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Fault", "PlatformConsumer", "fault_of"]

logger = logging.getLogger("celery_platform.doors")

_AGAIN = 2.0  # seconds until a letter is tried again whose store was away
_TIMEOUT = 10.0
_LIMITS = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a message cannot be run: *reason* is the code its dead letter carries."""

    reason: str
    error: str


def fault_of(message: Any) -> Fault | None:
    """
    Return what is wrong with *message*, or nothing when Celery can be trusted with it.
    """
    headers = message.headers
    if not isinstance(headers, dict):
        return Fault("invalid", f"headers expected a table, got {type(headers).__name__}")
    try:
        payload = message.payload
    except Exception as error:  # noqa: BLE001 - whatever the bytes break, the worker goes on
        return Fault("undecodable", f"{type(error).__name__}: {error}")
    if "task" in headers:
        return _fault_of_headers(headers) or _fault_of_body(payload)
    if not isinstance(payload, dict) or not isinstance(payload.get("task"), str):
        return Fault("invalid", "the header 'task' is missing: no message of Celery's protocol")
    return _fault_of_id(payload)


def _poisoned(message: Any) -> Fault | None:
    deaths = message.properties.get(DEATHS, 0)
    if deaths < DELIVERY_LIMIT:
        return None
    return Fault("poison", f"{deaths} workers or processes died with the call")


def _fault_of_headers(headers: dict[str, Any]) -> Fault | None:
    if not isinstance(headers["task"], str):
        return Fault("invalid", f"the header 'task' expected a name, got {type(headers['task']).__name__}")
    limits = headers.get("timelimit")
    if limits and not _are_limits(limits):
        return Fault("invalid", f"the header 'timelimit' expected two numbers of seconds, got {limits!r}"[:200])
    return _fault_of_id(headers)


def _are_limits(limits: Any) -> bool:
    numbers = isinstance(limits, (list, tuple)) and len(limits) == _LIMITS
    return numbers and all(limit is None or isinstance(limit, Real) for limit in limits)


def _fault_of_id(fields: dict[str, Any]) -> Fault | None:
    if isinstance(fields.get("id"), str) and fields["id"]:
        return None
    return Fault("invalid", f"'id' expected the call's id, got {fields.get('id')!r}"[:200])


def _fault_of_body(payload: Any) -> Fault | None:
    match payload:
        case [list() | tuple(), dict(), dict() | None] | {"args": list(), "kwargs": dict()}:
            return None
    return Fault("invalid", f"the body expected [args, kwargs, embed], got {type(payload).__name__}")


class PlatformConsumer(Consumer):
    """Celery's consumer, with doors that never raise, and queues declared before it consumes."""

    app: Any
    hub: Any
    task_consumer: Any
    _gaps_told = False
    connection_errors: tuple[type[BaseException], ...]
    channel_errors: tuple[type[BaseException], ...]

    def connect(self) -> Any:
        """
        Connect; on RabbitMQ, declare all that calls travel through.

        Raises `WorkerShutdown` when a queue of another kind is in the way: no reconnection would help.
        """
        connection = super().connect()
        if self.app.platform.settings.broker_kind == "amqp":
            self._declare()
        return connection

    def perform_pending_operations(self) -> None:
        """
        Do what Celery's loop without a hub does once a turn, and leave a beat.
        """
        if not self.hub:
            vitals_of(self).beat()
        super().perform_pending_operations()

    def _declare(self) -> None:
        app = self.app
        try:
            with app.connection_for_write(transport_options={"read_timeout": _TIMEOUT}) as own:
                delay_type = app.conf.broker_native_delayed_delivery_queue_type
                topology.declare(own, app.amqp.queues.values(), delay_type=delay_type)
                self._tell_gaps(own)
        except QueueMismatch as error:
            logger.critical("%s", error)
            raise WorkerShutdown(1) from error

    def _tell_gaps(self, connection: Any) -> None:
        if self._gaps_told:
            return
        self._gaps_told = True
        version = version_of(connection.connection.server_properties)
        gaps = gaps_of_rabbitmq(version, longest=longest_run(self.app), prioritised=tasks_with_priority(self.app))
        for finding in gaps:
            logger.warning("%s", finding)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """
        Return what takes messages: the faulty ones are buried, the others are Celery's.
        """
        if attend := getattr(self.pool, "attend", None):
            attend(self)
        receive = super().create_task_handler(*args, **kwargs)
        lost = (*self.connection_errors, *self.channel_errors, AMQPError)
        by_sqs = self.app.platform.settings.broker_kind == "sqs"
        if by_sqs:
            self.task_consumer.channel.on_rejected = self._bury_rejected

        def on_task_received(message: Any) -> Any:
            fault = fault_of(message)
            if by_sqs and fault is None:
                fault = _poisoned(message)
            if fault is not None:
                return self._refuse(message, fault)
            if why := too_new(message.headers, self.app.tasks):
                return self._wait(message, message.headers, why)
            try:
                return receive(message)
            except (TypeError, ValueError, LookupError, AttributeError) as error:
                if isinstance(error, lost):
                    raise
                return self._refuse(message, Fault("invalid", f"{type(error).__name__}: {error}"), error)

        return on_task_received

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """
        Bury a message whose body cannot be read.
        """
        self._refuse(message, Fault("undecodable", f"{type(exc).__name__}: {exc}"), exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002 - Celery's signature
        """
        Bury a message of no protocol of Celery's.
        """
        self._refuse(message, Fault("invalid", "no message of Celery's protocol"))

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """
        Bury a message that Celery found wanting.
        """
        reason = "undecodable" if isinstance(exc, ContentDisallowed) else "invalid"
        self._refuse(message, Fault(reason, f"{type(exc).__name__}: {exc}"), exc)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """
        Let a call wait whose task this worker does not have, and bury it when nobody has had it for long.
        """
        fields = message.headers if "task" in message.headers else message.payload
        name = fields["task"]
        self._wait(message, fields, f"No task {name!r} is registered here", exc)
        signals.task_unknown.send(sender=self, message=message, exc=exc, name=name, id=fields.get("id"))

    def _wait(self, message: Any, fields: Any, why: str, exc: Exception | None = None) -> None:
        name = str(fields["task"])
        try:
            waits = park(self.app, message, self._queue_of(message), name, str(fields.get("id")), why)
        except PublishError as error:
            logger.warning("A call of %s could not be parked, trying again: %s", name, error)
            self.timer.call_after(_AGAIN, self.call_soon, (self._wait, message, fields, why, exc))
            return
        if waits:
            message.ack_log_error(logger, self.connection_errors)
            return
        known = "Is its module among PLATFORM_TASKS, and this worker as new as the producer?"
        self._refuse(message, Fault("unknown_task", f"{why}. {known}"), exc)

    def _queue_of(self, message: Any) -> str | None:
        delivery = getattr(message, "delivery", None)
        return delivery.queue if delivery else queue_of(message.delivery_info.get("routing_key"))

    def _bury_rejected(self, message: Any) -> None:
        """
        Bury what was refused for good; SQS has nowhere to put it.
        """
        unknown = message.headers.get("task") not in self.app.tasks
        fault = Fault("unknown_task" if unknown else "rejected", "The worker refused the message")
        self._bury(message, self._remains(message, fault))

    def _refuse(self, message: Any, fault: Fault, exc: Exception | None = None) -> None:
        self._bury(message, self._remains(message, fault))
        signals.task_rejected.send(sender=self, message=message, exc=exc)

    def _remains(self, message: Any, fault: Fault) -> Remains:
        headers = message.headers if isinstance(message.headers, dict) else {}
        if "task" not in headers and isinstance(cached := getattr(message, "_decoded_cache", None), dict):
            headers = {**headers, **{name: cached.get(name) for name in ("id", "task")}}
        delivery = getattr(message, "delivery", None)
        return Remains(
            reason=fault.reason,
            error=fault.error,
            queue=headers.get(PARKED_FROM) or self._queue_of(message),
            raw=delivery.raw if delivery else bytes_of(message),
            headers=headers,
            properties={} if delivery else properties_of(message),
            worker=self.hostname,
        )

    def _bury(self, message: Any, remains: Remains) -> None:
        try:
            bury(self.app, remains)
        except StoreError as error:
            # Unacknowledged it stays the broker's, whatever becomes of this worker.
            logger.warning("A bad message could not be buried, trying again: %s", error)
            self.timer.call_after(_AGAIN, self.call_soon, (self._bury, message, remains))
            return
        if message.acknowledged:  # Celery has given its verdict, and waits for nothing
            message.channel.basic_ack(message.delivery_tag)
        else:
            message.ack_log_error(logger, self.connection_errors)
