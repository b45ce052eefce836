"""
Publish to RabbitMQ so that a call is either in a queue or an error: mandatory, confirmed, declared, in bounded time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NoReturn

from amqp.exceptions import AMQPError, NotFound, PreconditionFailed
from celery.app.amqp import AMQP
from kombu import Queue
from kombu.common import Broadcast
from kombu.exceptions import OperationalError

from celery_platform.errors import PublishError, QueueMismatch
from celery_platform.transport import topology

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PlatformAMQP", "PublishFailed", "Unroutable", "give_up"]

_DELAY_EXCHANGE = "celery_delayed_"


class PublishFailed(PublishError, OperationalError):  # noqa: N818 - Celery's family of names
    """The broker did not take the call in time; Celery's own error, with the remedy."""


class Unroutable(PublishFailed):
    """The broker has no queue for the call; nothing was enqueued."""

    def __init__(self, task: str, why: str = "") -> None:
        self.task = task
        self.why = why
        super().__init__(task, why)

    def __str__(self) -> str:
        return (
            f"{self.task} was not enqueued: the broker has no queue for it ({self.why}). Was the queue or its binding "
            "deleted? A worker declares both when it starts; the call may be made again."
        )


def give_up(error: OperationalError, task: str, timeout: float) -> NoReturn:
    """
    Raise what a caller of *task* is told when the broker did not take the call within *timeout* seconds.
    """
    if isinstance(error, PublishFailed):
        raise error
    raise PublishFailed(
        f"{task} was not enqueued: the broker did not take it within {timeout:g} s ({error}). "
        "Check PLATFORM_BROKER_URL and that the broker is up; the call may be made again."
    ) from error


class _Returned(threading.local):
    """What the broker sent back to this thread."""

    error: Exception | None = None

    def note(self, error: Exception, *_: Any) -> None:
        """
        Keep the answer until the confirmation, which follows it, has been read as well.
        """
        self.error = error


_returned = _Returned()
# One and the same object: a channel keeps its listeners in a set.
_note = _returned.note


class PlatformAMQP(AMQP):
    """Celery's publishing, with the certainty that RabbitMQ offers when asked for it."""

    app: Any
    _delays_declared = False

    def _create_task_sender(self) -> Callable[..., Any]:
        send: Callable[..., Any] = super()._create_task_sender()  # type: ignore[misc]  # the stubs leave it out
        settings = self.app.platform.settings
        if settings.broker_kind != "amqp":
            return send

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            if str(getattr(options.get("exchange"), "name", options.get("exchange"))).startswith(_DELAY_EXCHANGE):
                self._declare_delays()
            self._insist(options)
            producer.on_return = _note
            _returned.error = None
            try:
                result = send(producer, name, message, **options)
            except PreconditionFailed as error:
                queue = options.get("queue")
                raise PublishFailed(str(QueueMismatch(str(getattr(queue, "name", queue)), str(error)))) from error
            except NotFound as error:
                # Somebody deleted an exchange: the next publish declares anew, on a channel that is open.
                self._delays_declared = False
                producer.connection.collect()
                raise Unroutable(name, str(error)) from error
            if _returned.error is not None:
                raise Unroutable(name, str(_returned.error)) from _returned.error
            return result

        return send_task_message

    def _insist(self, options: dict[str, Any]) -> None:
        """
        Complete the *options* of a publish: declared, mandatory, confirmed in time. What the caller says stands.
        """
        patience = self.app.platform.settings.publish_timeout / 4
        for option, certain in (("mandatory", True), ("timeout", patience), ("confirm_timeout", patience)):
            # Celery hands on what a task does not say as None.
            options[option] = certain if options.get(option) is None else options[option]
        queue = options.get("queue")
        if options.get("declare") is None and isinstance(queue, Queue) and not isinstance(queue, Broadcast):
            # A call that expires before any worker ever ran needs its grave as well.
            options["declare"] = [topology.dead_queue(), queue]

    def _declare_delays(self) -> None:
        """
        Declare what a delayed call travels through, once a process; no worker need ever have run.
        """
        if self._delays_declared:
            return
        conf, patience = self.app.conf, self.app.platform.settings.publish_timeout / 4
        try:
            with self.app.connection_for_write(transport_options={"read_timeout": patience}) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=conf.broker_connection_timeout)
                delay_type = conf.broker_native_delayed_delivery_queue_type
                topology.declare(connection, self.queues.values(), delay_type=delay_type)
        except (OSError, AMQPError) as error:
            raise OperationalError(f"the delay queues could not be declared: {error}") from error
        self._delays_declared = True
