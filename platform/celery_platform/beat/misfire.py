"""
Decide which of the times that nobody served are still made up for.

A firing that is at most *grace* late is late, not missed: it always happens. Older ones are up to the entry's policy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from celery_platform.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["GRACE", "Misfire"]

GRACE = timedelta(seconds=60)
_TEXT = re.compile(r"(skip|one|all)(?:\((\d+)\))?")
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Misfire:
    """*mode* ``skip`` makes up for none, ``one`` for the newest, ``all`` for the newest *most*."""

    mode: Literal["skip", "one", "all"] = "one"
    most: int = _MOST

    @classmethod
    def parse(cls, text: str) -> Misfire:
        """
        Read ``skip``, ``one``, ``all`` or ``all(n)``.

        Raises `ScheduleError` for anything else.
        """
        match = _TEXT.fullmatch(str(text).strip())
        if match is None or (match[2] and (match[1] != "all" or not 1 <= int(match[2]) <= 100_000)):  # noqa: PLR2004
            raise ScheduleError(
                f"misfire expected 'skip', 'one', 'all' or 'all(n)' with n of 1 to 100000, got {text!r}."
            )
        mode: Literal["skip", "one", "all"] = match[1]  # type: ignore[assignment]
        return cls(mode, int(match[2] or _MOST))

    def __str__(self) -> str:
        return self.mode if self.mode != "all" else f"all({self.most})"

    def chosen(
        self, nominals: Sequence[datetime], now: datetime, catch_up: timedelta | None
    ) -> tuple[list[datetime], list[datetime]]:
        """
        Split due *nominals* (ascending) into those to fire and those to give up; *catch_up* bounds how old one may be.
        """
        late = [nominal for nominal in nominals if now - nominal <= GRACE]
        missed = list(nominals[: len(nominals) - len(late)])
        allowed = [nominal for nominal in missed if catch_up is None or now - nominal <= catch_up]
        # With a firing at hand that is merely late, "one" is already served.
        keep = {"skip": 0, "one": 0 if late else 1, "all": self.most}[self.mode]
        made_up = allowed[max(0, len(allowed) - keep) :] if keep else []
        return made_up + late, missed[: len(missed) - len(made_up)]
