"""
Say which dead letters are sent again, how, and what came of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from celery_platform.dead_letters.selection import Selection
from celery_platform.errors import SelectionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ReplayPlan", "ReplayReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """
    Which letters are sent again, and how.

    *to* is another queue than each came from; *rate* calls a second, at most; *limit* how many at most. The first
    *canary* letters are sent first and waited for, *canary_wait* seconds at most: when at least the share
    *stop_if_fail* of them fails, nothing else is sent. *edit* is a JSON patch of ``{"args": […], "kwargs": {…}}``.
    Poison pills are sent only when *where* names them by id or reason, or with *poison*.

    *name* makes it a replay that is done once: the same name again sends nothing. Without one, the same words go on
    with an interrupted run, and start anew when it has ended. *actor* and *because* are for the audit.

    Raises `SelectionError` for numbers that cannot work.
    """

    where: Selection = field(default_factory=Selection)
    to: str | None = None
    rate: float | None = None
    limit: int | None = None
    canary: int = 0
    stop_if_fail: float = 0.2
    canary_wait: float = 60.0
    edit: tuple[Mapping[str, Any], ...] = ()
    poison: bool = False
    name: str | None = None
    actor: str = ""
    because: str = ""

    def __post_init__(self) -> None:
        if self.rate is not None and self.rate <= 0:
            raise SelectionError(f"A replay's rate expected more than zero calls a second, got {self.rate:g}.")
        if not 0 < self.stop_if_fail <= 1:
            raise SelectionError(f"stop_if_fail expected a share above 0 and up to 1, got {self.stop_if_fail:g}.")
        if self.canary < 0 or (self.limit is not None and self.limit < 1):
            raise SelectionError("A replay's canary expected 0 or more letters, and its limit 1 or more.")

    @property
    def takes_poison(self) -> bool:
        """
        Whether calls that killed their processes are sent as well.
        """
        return self.poison or bool(self.where.ids) or self.where.reason == "poison"

    @property
    def key(self) -> str:
        """
        The name under which its progress is kept: the one given, or one made of what it says.
        """
        said = {**asdict(self), "where": asdict(self.where)}
        for aside in ("name", "actor", "because", "rate", "canary_wait"):
            del said[aside]
        return self.name or hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """
    What a replay did.

    *state* is ``done``, ``stopped`` (too many of the canary failed) or ``waiting`` (they have not all ended yet: run it
    again). *sent* counts this run, *total* all runs of this replay. *passed_over* names letters that cannot be sent.
    """

    name: str
    state: str
    sent: int
    total: int
    canary_failed: int = 0
    canary_ended: int = 0
    passed_over: tuple[tuple[str, str], ...] = ()
