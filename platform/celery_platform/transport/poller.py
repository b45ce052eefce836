"""
Drive the channels of a transport, from Celery's event loop or by blocking.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery_platform.transport import stock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Poller"]

_LONGEST = 1.0


class Poller(stock.MultiChannelPoller):  # type: ignore[misc]
    """kombu's poller, with waits that end when a consumer has something to do."""

    hub: Any = None

    def on_poll_start(self) -> None:
        """
        Send what can be sent before everyone sleeps.
        """
        for channel in list(self._channels):
            channel.before_poll()
        super().on_poll_start()

    def wake_in(self, delay: float) -> None:
        """
        End the event loop's sleep after *delay* seconds; a blocking consumer looks by itself.
        """
        if self.hub is not None:
            self.hub.call_later(delay, _nothing)

    def get(self, _callback: Callable[..., Any], timeout: float | None = None) -> None:
        """
        Deliver one message, or raise `Empty` when none came in time. Waits in steps of at most a second.
        """
        self._in_protected_read = True
        try:
            self.maybe_refresh_binding_expiry()
            if any(channel.ready and channel.deliver(limit=1) for channel in list(self._channels)):
                return
            self.on_poll_start()
            events = self.poller.poll(self._pause(timeout))
            for fileno, event in events or ():
                if self.handle_event(fileno, event):
                    return
            if not events:
                self.maybe_check_brpop_health()
            raise stock.Empty
        finally:
            self._in_protected_read = False
            while self.after_read:
                self.after_read.pop()()

    def _pause(self, timeout: float | None) -> float:
        pause = _LONGEST if timeout is None else min(_LONGEST, max(0.0, timeout))
        now = time.monotonic()
        for channel in self._channels:
            if channel.has_consumer and channel.consumer.waiting:
                pause = min(pause, max(0.0, channel.consumer.wake_at - now))
        return pause


def _nothing() -> None:
    """
    Be something to wake up for.
    """
