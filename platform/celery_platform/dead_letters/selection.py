"""
Say which dead letters are meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_platform.errors import SelectionError, did_you_mean

if TYPE_CHECKING:
    from celery_platform.dead_letters.letter import DeadLetter

__all__ = ["REASONS", "Selection"]

REASONS = (
    "exhausted", "rejected", "poison", "expired", "unknown_task", "undecodable", "invalid", "timeout", "deadline",
    "discarded_by_policy", "oom",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """
    Any of these words, all of which a letter must fit.

    *ids* are ids of letters; *since* and *until* Unix times (s) of the burial, the second not included.
    *text* is looked for, regardless of case, in what a listing shows. Raises `SelectionError` for an unknown reason.
    """

    ids: tuple[str, ...] = ()
    queue: str | None = None
    task: str | None = None
    reason: str | None = None
    group: str | None = None
    key: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        if self.reason is not None and self.reason not in REASONS:
            raise SelectionError(
                f"The reason of a dead letter expected one of {', '.join(REASONS)}, got {self.reason!r}."
                f"{did_you_mean(self.reason, REASONS)}"
            )

    def __bool__(self) -> bool:
        return bool(self.ids or self.tags or self.text or self.since is not None or self.until is not None)

    @property
    def tags(self) -> dict[str, str]:
        """
        The words by which the store finds letters itself.
        """
        named = {name: getattr(self, name) for name in ("task", "queue", "reason", "group", "key")}
        return {name: value for name, value in named.items() if value is not None}

    def fits(self, letter: DeadLetter) -> bool:
        """
        Tell whether *letter* is among those meant.
        """
        if self.ids and letter.id not in self.ids:
            return False
        if any((getattr(letter, name) or "") != value for name, value in self.tags.items()):
            return False
        if self.since is not None and letter.buried_at < self.since:
            return False
        if self.until is not None and letter.buried_at >= self.until:
            return False
        return self.text is None or letter.mentions(self.text)

    def told(self) -> str:
        """
        Return the selection in words, for the audit.
        """
        words = {**self.tags, "text": self.text, "since": self.since, "until": self.until}
        said = [f"{name}={value}" for name, value in words.items() if value is not None]
        return " ".join([*said, *self.ids[:10], *(["…"] if len(self.ids) > 10 else [])]) or "all"  # noqa: PLR2004
