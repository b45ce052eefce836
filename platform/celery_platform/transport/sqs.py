"""
kombu's SQS transport, with what it lacks: renewed visibility, long delays, counted deaths, and nothing dropped.

A message is hidden from others for as long as its lease, and the lease is renewed while this process lives. Who dies
lets it run out, and SQS counts the delivery; so does a message given back on purpose, which is therefore sent anew with
its count as it was. That and a longer delay than SQS knows are two steps, the new message first: between them a crash
leaves two copies of a call, never none.
"""

from __future__ import annotations

import logging
from math import ceil
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from kombu.exceptions import OperationalError
from kombu.transport import SQS
from kombu.utils.json import dumps as kombu_dumps

from celery_platform.transport.envelope import DEATHS, SERVED, delay_left
from celery_platform.transport.qos import running, shutting_down
from celery_platform.transport.visibility import Visibility

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Channel", "Transport"]

logger = logging.getLogger(__name__)

_LONGEST_DELAY = 900  # seconds, for one message
_LONGEST_HIDING = 43_000  # seconds; SQS hides a message for twelve hours at most
_NEAR = 1_000  # ms: what is due sooner waits in the worker

# The published stubs know only the public half, and we build on the other.
_StockChannel: Any = SQS.Channel
_StockQoS: Any = SQS.QoS
_StockTransport: Any = SQS.Transport


class QoS(_StockQoS):  # type: ignore[misc]
    """kombu's account of unacknowledged messages, with leases that are renewed."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """
        Take *message* into account, and hold it for as long as it takes.
        """
        super().append(message, delivery_tag)
        self.channel.visibility.hold(delivery_tag, message.delivery_info["sqs_queue"])

    def ack(self, delivery_tag: str) -> None:
        """
        Forget a message that is settled.
        """
        self.channel.visibility.release(delivery_tag)
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """
        Let go of a message. Requeued, it counts as one death, unless the worker is shutting down.
        """
        message = self._delivered.get(delivery_tag)
        if message is not None and requeue:
            self.channel.give_back(message._raw, blamed=not shutting_down())  # noqa: SLF001 - as it came
        self.ack(delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ARG002 - kombu's signature
        """
        Give back what the pool does not work on; the leases of the rest go on until it is settled.
        """
        self._on_collect.cancel()
        self._flush()
        working = running(self.channel)
        for tag, message in list(self._delivered.items()):
            if tag not in working:
                self.channel.give_back(message._raw, blamed=False)  # noqa: SLF001 - as it came
                self.channel.visibility.release(tag)
                self._delivered.pop(tag, None)


class Channel(_StockChannel):  # type: ignore[misc]
    """
    kombu's channel. *on_rejected* takes a message that is refused for good, and settles it; without one it is deleted.
    """

    QoS = QoS
    on_rejected: Callable[[Any], None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.visibility = Visibility(self._renewing_client, self.lease)

    @property
    def lease(self) -> int:
        """How long a silent worker keeps a message, in whole seconds."""
        return ceil(float(self.transport_options.get("lease", 30)))

    @property
    def is_secure(self) -> bool:
        """Whether the endpoint is asked over TLS: always, unless it is this very machine's."""
        given = self.transport_options.get("is_secure")
        return bool(given) if given is not None else self.conninfo.hostname not in {"localhost", "127.0.0.1", "::1"}

    def _renewing_client(self) -> Any:
        return self._new_release_client(self.sqs())

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, *args: Any, **kwargs: Any
    ) -> Any:
        """
        Consume *queue*; what is not due yet is sent back into its delay.
        """
        result = super().basic_consume(queue, no_ack, callback, consumer_tag, *args, **kwargs)
        deliver = self.connection._callbacks[queue]  # noqa: SLF001

        def receive(payload: dict[str, Any]) -> Any:
            if not no_ack and delay_left(payload) > _NEAR:
                return self._wait_longer(queue, payload)
            return deliver(payload)

        self.connection._callbacks[queue] = receive  # noqa: SLF001
        return result

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """
        Refuse a message: back to its queue, or to whoever keeps what is refused for good.
        """
        message = self.qos._delivered.get(delivery_tag)  # noqa: SLF001
        if not requeue and message is not None and self.on_rejected is not None:
            self.on_rejected(message)
        else:
            super().basic_reject(delivery_tag, requeue=requeue)

    def give_back(self, payload: dict[str, Any], *, blamed: bool) -> None:
        """
        Let another worker have the message *payload* at once; unless *blamed*, this delivery does not count.
        """
        info = payload["properties"]["delivery_info"]
        received, url = info["sqs_message"], info["sqs_queue"]
        try:
            if blamed or "content-type" not in payload or url.endswith(".fifo"):
                self._hide(url, received, 0)
            else:
                self._send_again(url, payload, received)
        except (ClientError, BotoCoreError, OSError) as error:
            # Its lease runs out, and then others see it.
            logger.warning("A message of %s could not be given back: %s", url, error)

    def _wait_longer(self, queue: str, payload: dict[str, Any]) -> None:
        left = ceil(delay_left(payload) / 1000)
        info = payload["properties"]["delivery_info"]
        url, received = info["sqs_queue"], info["sqs_message"]
        try:
            if url.endswith(".fifo"):
                self._hide(url, received, min(left, _LONGEST_HIDING))
            else:
                payload["properties"][SERVED] = left <= _LONGEST_DELAY
                self._send_again(url, payload, received, delay=min(left, _LONGEST_DELAY))
        except (ClientError, BotoCoreError, OSError) as error:
            logger.warning("A delayed message of queue %r could not be sent back into its delay: %s", queue, error)

    def _send_again(self, url: str, payload: dict[str, Any], received: Any, *, delay: int = 0) -> None:
        client = self.sqs()
        properties = {name: value for name, value in payload["properties"].items() if name != "delivery_tag"}
        info = {name: value for name, value in properties["delivery_info"].items() if not name.startswith("sqs_")}
        text = kombu_dumps({**payload, "properties": {**properties, "delivery_info": info}})
        group = {"MessageGroupId": properties["MessageGroupId"]} if "MessageGroupId" in properties else {}
        client.send_message(QueueUrl=url, MessageBody=text, **({"DelaySeconds": delay} if delay else {}), **group)
        client.delete_message(QueueUrl=url, ReceiptHandle=received["ReceiptHandle"])

    def _hide(self, url: str, received: Any, seconds: int) -> None:
        self.sqs().change_message_visibility(
            QueueUrl=url, ReceiptHandle=received["ReceiptHandle"], VisibilityTimeout=seconds
        )

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        left = delay_left(message)
        if left and not queue.endswith(".fifo"):
            seconds = ceil(left / 1000)
            message["properties"]["DelaySeconds"] = min(seconds, _LONGEST_DELAY)
            message["properties"][SERVED] = seconds <= _LONGEST_DELAY
        try:
            super()._put(queue, message, **kwargs)
        except ClientError as error:
            raise OperationalError(f"SQS refused a message for the queue {queue!r}: {error}") from error

    def _get_from_sqs(
        self, queue_name: str, queue_url: str, connection: Any, count: int = 1, callback: Any = None
    ) -> Any:
        fifo = queue_url.endswith(".fifo")
        # Of one group SQS gives several messages at once, to run in any order. And a question that waits already may
        # not hear of a group that this worker is done with.
        return connection.receive_message(
            queue_name,
            queue_url,
            number_messages=1 if fifo else count,
            visibility_timeout=self.lease,
            wait_time_seconds=1 if fifo and self.visibility.holds(queue_url) else self.wait_time_seconds,
            callback=callback,
        )

    def _receive_message(
        self, queue: str, max_number_of_messages: int = 1, wait_time_seconds: int | None = None
    ) -> Any:
        # Without an event loop the process waits here, and must notice in time that it is asked to stop.
        return self.sqs(queue=queue).receive_message(
            QueueUrl=self._new_queue(queue),
            MaxNumberOfMessages=max_number_of_messages,
            WaitTimeSeconds=min(1, self.wait_time_seconds if wait_time_seconds is None else wait_time_seconds),
            VisibilityTimeout=self.lease,
            MessageSystemAttributeNames=self.get_message_attributes["MessageSystemAttributeNames"],
        )

    def _on_messages_ready(self, queue: str, qname: str, messages: Any) -> int:
        # An error of the server arrives as an empty list.
        count: int = super()._on_messages_ready(queue, qname, messages if isinstance(messages, dict) else {})
        return count

    def _release_messages(self, queue: str, qname: str, messages: list[Any]) -> None:
        for received in messages:
            self.give_back(self._message_to_python(received, qname, queue), blamed=False)

    def asynsqs(self, queue: str | None = None) -> Any:
        """
        Return the connection that receives; an answer that is an error does not end the worker.
        """
        connection = super().asynsqs(queue)
        if not hasattr(connection, "patient"):
            connection.patient = True
            read = connection._on_list_ready  # noqa: SLF001

            def patiently(*arguments: Any) -> Any:
                try:
                    return read(*arguments)
                except Exception as error:  # noqa: BLE001 - kombu has no narrower class for it
                    logger.error("SQS refused to give messages, trying again: %s", error)  # noqa: TRY400
                    return {}

            connection._on_list_ready = patiently  # noqa: SLF001
        return connection

    def _prepare_json_payload(self, text: str) -> dict[str, Any]:
        try:
            payload: dict[str, Any] = super()._prepare_json_payload(text)
        except Exception:  # noqa: BLE001 - whatever the bytes break, they are kept and the worker goes on
            return {}
        properties = payload.get("properties")
        whole = isinstance(properties, dict) and isinstance(properties.setdefault("delivery_info", {}), dict)
        return payload if whole and isinstance(payload.get("body"), str) else {}

    def _envelope_payload(self, payload: dict[str, Any], raw_text: str, message: Any, q_url: str) -> dict[str, Any]:
        payload = super()._envelope_payload(payload, raw_text, message, q_url)
        headers = payload["headers"] = payload["headers"] if isinstance(payload.get("headers"), dict) else {}
        properties = payload["properties"]
        try:
            self.decode_body(payload["body"], properties.get("body_encoding"))
        except Exception:  # noqa: BLE001 - a body that cannot be read is kept as it is
            properties.pop("body_encoding")
        received = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        # On a FIFO queue each wait is a delivery, too.
        waited = 1 if q_url.endswith(".fifo") and headers.get("eta") else 0
        before = properties.get(DEATHS)
        properties[DEATHS] = max(0, (before if isinstance(before, int) else 0) + received - 1 - waited)
        properties["delivery_info"]["redelivered"] = properties[DEATHS] > 0
        if properties.get(SERVED):
            headers["eta"] = None  # the broker has waited; this host's clock is behind
        return payload

    def close(self) -> None:
        """
        Give back what waits, and close.
        """
        super().close()
        self.visibility.close()


class Transport(_StockTransport):  # type: ignore[misc]
    """The transport behind `sqs://`."""

    Channel = Channel
