"""
Give kombu's own Redis transport untyped: its published stubs know only the public half, and we build on the other.
"""

from __future__ import annotations

from queue import Empty
from typing import Any

from kombu.transport import redis as _redis
from kombu.transport import virtual as _virtual

__all__ = ["Channel", "Empty", "MultiChannelPoller", "QoS", "SentinelChannel", "Transport"]

Channel: Any = _redis.Channel
SentinelChannel: Any = _redis.SentinelChannel
Transport: Any = _redis.Transport
MultiChannelPoller: Any = _redis.MultiChannelPoller
QoS: Any = _virtual.QoS
