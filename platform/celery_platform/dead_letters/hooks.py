"""
Call whoever wants to hear of every dead letter, once a letter.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from celery_platform import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.dead_letters.letter import DeadLetter

__all__ = ["forget", "on_dead", "tell"]

logger = logging.getLogger("celery_platform.dead_letters")

_hooks: tuple[Callable[[DeadLetter], object], ...] = ()


def on_dead(hook: Callable[[DeadLetter], object]) -> Callable[[DeadLetter], object]:
    """
    Call *hook* with every letter that this process writes, after it is kept; usable as a decorator.

    A letter is told once: a redelivery of its call is recognised and tells nobody. A process that dies between the
    letter and the hook tells nobody either. A hook that raises is logged.
    """
    global _hooks  # noqa: PLW0603 - one registry a process
    if hook not in _hooks:
        _hooks = (*_hooks, hook)
    return hook


def forget(hook: Callable[[DeadLetter], object]) -> None:
    """
    Call *hook* no more; an unknown one is ignored.
    """
    global _hooks  # noqa: PLW0603
    _hooks = tuple(known for known in _hooks if known is not hook)


def tell(letter: DeadLetter, own: Callable[[DeadLetter], object] | None = None) -> None:
    """
    Give a new *letter* to the hook of its task, to all others, and as an event to whoever listens.
    """
    if events.listening():
        events.emit(
            events.CallBuried(
                call_id=letter.call_id,
                task=letter.task,
                queue=letter.queue,
                reason=letter.reason,
                attempts=letter.attempts,
                error=letter.error,
            )
        )
    for hook in ((own,) if own is not None else ()) + _hooks:
        try:
            hook(letter)
        except Exception:
            logger.exception("The hook %r failed on the dead letter %s, which is kept.", hook, letter.id)
