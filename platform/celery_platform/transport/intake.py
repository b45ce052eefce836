"""
Look at what a fetch brought: what may be worked on, and what may not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_platform.transport.casualties import Casualty
from celery_platform.transport.envelope import DEATHS, SERVED, Delivery, Undecodable, delay_left, dumps, loads
from celery_platform.transport.holdings import Settlement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery_platform.transport.rotation import Rotation

__all__ = ["unpack"]


def unpack(
    number: int, batches: Iterable[tuple[bytes, list[bytes]]], rotation: Rotation
) -> tuple[list[Delivery], list[Settlement]]:
    """
    Return what may be worked on, and how the rest is settled; messages count up from *number*.
    """
    deliveries: list[Delivery] = []
    settlements: list[Settlement] = []
    for key_bytes, messages in batches:
        key = key_bytes.decode()
        queue = rotation.queue_of(key)
        rotation.served([queue])
        for raw in messages:
            judged = _judge(f"{number}|{key}", queue, raw)
            number += 1
            if isinstance(judged, Delivery):
                deliveries.append(judged)
            else:
                settlements.append(judged)
    return deliveries, settlements


def _judge(field: str, queue: str, raw: bytes) -> Delivery | Settlement:
    try:
        message = loads(raw)
    except Undecodable as error:
        return Settlement("bury", field, Casualty("undecodable", queue, raw, str(error)).dumps())
    properties = message["properties"]
    if not properties.get(SERVED):
        left = delay_left(message)
        if left:
            properties[SERVED] = True
            return Settlement("park", field, left, dumps(message))
    deaths = properties.get(DEATHS, 0)
    return Delivery(field, queue, raw, message, deaths if isinstance(deaths, int) else 0)
