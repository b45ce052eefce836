"""
Decide what happens when an entry is due while an earlier run of it has not ended.

The words and their meanings are those of Temporal's schedules.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal, get_args

from celery_platform.errors import ScheduleError, did_you_mean

if TYPE_CHECKING:
    from typing import TypeGuard

__all__ = ["Overlap", "Ruling", "checked", "ruled"]

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]


class Ruling(Enum):
    """What becomes of a firing."""

    SEND = "send"
    SKIP = "skip"
    BUFFER = "buffer"
    #: Ask the earlier run to stop, and send when it has ended.
    CANCEL_THEN_BUFFER = "cancel"
    #: Kill the earlier run, and send now.
    TERMINATE_THEN_SEND = "terminate"


def checked(word: str) -> Overlap:
    """
    Return *word* if it is a policy.

    Raises `ScheduleError` otherwise.
    """
    if not _known(word):
        known = get_args(Overlap)
        raise ScheduleError(
            f"overlap expected one of {', '.join(known)}, got {word!r}.{did_you_mean(str(word), known)}"
        )
    return word


def _known(word: str) -> TypeGuard[Overlap]:
    return word in get_args(Overlap)


def ruled(overlap: Overlap, *, running: int, buffered: int) -> Ruling:
    """
    Return the ruling for one more firing while *running* runs have not ended and *buffered* wait for them.
    """
    if overlap == "allow_all" or (running == 0 and buffered == 0):
        return Ruling.SEND
    match overlap:
        case "skip":
            return Ruling.SKIP
        case "buffer_one":
            return Ruling.SKIP if buffered else Ruling.BUFFER
        case "buffer_all":
            return Ruling.BUFFER
        case "cancel_other":
            return Ruling.CANCEL_THEN_BUFFER
        case _:
            return Ruling.TERMINATE_THEN_SEND
