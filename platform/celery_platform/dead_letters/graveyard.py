"""
Bury letters, find them again, change and remove them.
"""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING, Any

from celery_platform import events
from celery_platform.audit import Action
from celery_platform.clock import SYSTEM
from celery_platform.dead_letters.editing import changed
from celery_platform.dead_letters.exchange import line_of, read
from celery_platform.dead_letters.hooks import tell
from celery_platform.dead_letters.letter import DeadLetter
from celery_platform.dead_letters.selection import Selection
from celery_platform.errors import DeadLetterError
from celery_platform.outcomes import seconds
from celery_platform.policy import Retention
from celery_platform.stores.base import UNBOUNDED, Bounds, Grave, GroupRow, Inquiry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from celery_platform.audit import AuditLog
    from celery_platform.clock import Clock
    from celery_platform.stores.base import Graves

__all__ = ["DeadLetters"]

logger = logging.getLogger("celery_platform.dead_letters")

_PAGE = 200
_EVERYTHING = 10_000_000
_ALL = Selection()
# How the names of these actions begin in the audit log, which others write in, too.
_AUDITED = "dead "


class DeadLetters:
    """
    The dead letters of a namespace.

    *ttl* (s) is how long a letter is kept, *bounds* how many and how much, unless its task says otherwise. *audit*
    writes down who changed what; without one, nobody does. Every method raises `StoreError` when the store cannot be
    reached.
    """

    def __init__(
        self,
        graves: Graves,
        *,
        ttl: float,
        clock: Clock = SYSTEM,
        bounds: Bounds = UNBOUNDED,
        audit: AuditLog | None = None,
    ) -> None:
        self.graves = graves
        self._ttl = ttl
        self._clock = clock
        self._bounds = bounds
        self._audit = audit

    def bury(
        self,
        letter: DeadLetter,
        *,
        retention: Retention | None = None,
        on_dead: Callable[[DeadLetter], object] | None = None,
        counted: bool = True,
    ) -> bool:
        """
        Keep *letter*; the same id twice is one letter, and the answer is whether it was new.

        *retention* and *on_dead* are its task's; *counted* tells that its producer has entered it in the books. Hooks
        hear of a new letter, once. The call must not be acknowledged when this raises.
        """
        kept = retention or Retention()
        ttl = self._ttl if kept.age is None else seconds(kept.age)
        tags = {name: getattr(letter, name) or "" for name in ("task", "queue", "reason", "group", "key")}
        bounds = Bounds(kept.count or self._bounds.count, kept.size or self._bounds.size, self._bounds.total)
        grave = Grave(letter.id, letter.to_json(), letter.buried_at, ttl, tags, letter.error[:200], bounds, counted)
        burial = self.graves.bury(grave)
        if burial.new:
            tell(letter, on_dead)
        if burial.new_group:
            logger.error("A new kind of dead letter, %s: %s", letter.group, letter.error)
            self._emit(letter, events.GroupAppeared, group=letter.group, error=letter.error)
        if burial.dropped:
            logger.error("%d dead letters left before their time to make room for %s.", burial.dropped, letter.id)
            self._emit(letter, events.LettersTruncated, count=burial.dropped)
        return burial.new

    def newest(self, limit: int = 50, *, where: Callable[[DeadLetter], bool] | None = None) -> Sequence[DeadLetter]:
        """
        Return at most *limit* open letters, the newest first; *where* picks among them.
        """
        return list(islice(filter(where, self._read(_ALL)), limit))

    def list(self, where: Selection = _ALL, *, limit: int = 50) -> Sequence[DeadLetter]:
        """
        Return at most *limit* open letters of *where*, the newest first.
        """
        return list(islice(self._read(where), limit))

    def replayed(self, limit: int = 50) -> Sequence[DeadLetter]:
        """
        Return letters that were sent again, the last first, without their payload.
        """
        return self._letters(self.graves.sent_ids(limit))

    def ids(self, where: Selection = _ALL, *, limit: int = _EVERYTHING) -> Sequence[str]:
        """
        Return the ids of the open letters of *where*, the newest first.
        """
        if where.text is None and not where.ids:
            return self.graves.ids(_inquiry(where), limit=limit)
        return [letter.id for letter in islice(self._read(where), limit)]

    def find(self, letter_id: str) -> DeadLetter | None:
        """
        Return the letter *letter_id*, open or sent again, or nothing.
        """
        record = self.graves.records([letter_id])[0]
        return None if record is None else DeadLetter.from_json(record)

    def count(self, where: Selection = _ALL) -> int:
        """
        Return how many open letters of *where* are kept.
        """
        if where.text is None and not where.ids:
            return self.graves.count(_inquiry(where))
        return sum(1 for _ in self._read(where))

    def groups(self, where: Selection = _ALL, *, limit: int = 1000) -> Sequence[GroupRow]:
        """
        Return the kinds of errors among the open letters of *where*, the one with the newest letter first.

        Without a selection the store keeps the count, and the number of letters does not matter.
        """
        return _grouped(self._read(where))[:limit] if where else self.graves.groups(limit)

    def edit(
        self, letter_id: str, args: Sequence[Any], kwargs: dict[str, Any], *, actor: str = "", because: str = ""
    ) -> DeadLetter:
        """
        Put other arguments into an open letter, in their JSON form, and return it; what was received is kept beside.

        Whether they fit the task's contract is for the caller to check (`replay.edited` does). Raises `DeadLetterError`
        when there is no such letter, or when it has no arguments.
        """
        letter = self.find(letter_id)
        new = changed(letter, args, kwargs, at=self._clock.now()) if letter is not None else None
        if new is None or not self.graves.amend(letter_id, new.to_json()):
            raise DeadLetterError(f"There is no open dead letter {letter_id!r}. `dead list` shows those there are.")
        self.note("edit", letter_id, 1, actor, because)
        return new

    def discard(self, where: Selection, *, actor: str = "", because: str = "") -> int:
        """
        Remove the open letters of *where* and return how many there were; those on hold stay.

        Raises `DeadLetterError` for a selection of everything: that is `purge`.
        """
        if not where:
            raise DeadLetterError("discard expected a selection, got none. Name letters, or purge them all.")
        removed = self.graves.remove(self.ids(where))
        self.note("discard", where.told(), removed, actor, because)
        return removed

    def purge(self, older_than: float = 0.0, *, actor: str = "", because: str = "") -> int:
        """
        Remove every open letter buried more than *older_than* seconds ago, but for those on hold; return how many.
        """
        where = Selection(until=self._clock.now() - older_than + (0 if older_than else 1))
        removed = self.graves.remove(self.ids(where))
        self.note("purge", f"older than {older_than:g} s", removed, actor, because)
        return removed

    def hold(self, where: Selection, *, actor: str = "", because: str = "") -> int:
        """
        Keep the letters of *where* from every removal, also by age and by number; return how many there were.
        """
        found = self.graves.hold(self.ids(where), on=True, ttl=self._ttl)
        self.note("hold", where.told(), found, actor, because)
        return found

    def release(self, where: Selection, *, actor: str = "", because: str = "") -> int:
        """
        End a hold; the letters are kept for another full retention from now. Returns how many there were.
        """
        found = self.graves.hold(self.ids(where), on=False, ttl=self._ttl)
        self.note("release", where.told(), found, actor, because)
        return found

    def export(self, where: Selection = _ALL) -> Iterator[str]:
        """
        Yield a line of JSON a letter, the newest first, **with** its payload: private values are in it.
        """
        return (line_of(letter) for letter in self._read(where))

    def read_in(self, lines: Iterable[str], *, actor: str = "", because: str = "") -> int:
        """
        Keep the letters of *lines*, as `export` wrote them, and return how many were new.

        Raises `DeadLetterError` that names the first line that is none; nothing was kept then.
        """
        letters = read(lines)
        new = sum(self.bury(letter) for letter in letters)
        self.note("import", f"{len(letters)} lines", new, actor, because)
        return new

    def audit(self, limit: int = 50) -> Sequence[dict[str, Any]]:
        """
        Return who changed what, the last first: ``at``, ``actor``, ``action``, ``what``, ``count``, ``because``.
        """
        found = self._audit.newest(limit, about=_AUDITED) if self._audit is not None else ()
        return [
            {
                "at": action.at,
                "actor": action.actor,
                "action": action.action.removeprefix(_AUDITED),
                "what": action.target,
                "count": action.after,
                "because": action.reason,
            }
            for action in found
        ]

    def _read(self, where: Selection) -> Iterator[DeadLetter]:
        ids = where.ids or self.graves.ids(_inquiry(where), limit=_EVERYTHING)
        if where.ids:
            ids = [letter_id for letter_id in ids if self.graves.is_open(letter_id)]
        for first in range(0, len(ids), _PAGE):
            yield from filter(where.fits, self._letters(ids[first : first + _PAGE]))

    def _letters(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        return [DeadLetter.from_json(record) for record in self.graves.records(ids) if record is not None]

    def note(self, action: str, what: str, count: int, actor: str, because: str) -> None:
        """
        Write a line of the audit.
        """
        if self._audit is not None:
            self._audit.done(
                Action(actor=actor, role="", action=_AUDITED + action, target=what, reason=because, after=count)
            )

    def _emit(self, letter: DeadLetter, event: Any, **facts: Any) -> None:
        if events.listening():
            events.emit(event(call_id=letter.call_id, task=letter.task, queue=letter.queue, **facts))


def _inquiry(where: Selection) -> Inquiry:
    return Inquiry(where.tags, where.since, where.until)


def _grouped(letters: Iterable[DeadLetter]) -> Sequence[GroupRow]:
    by_group: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        by_group.setdefault(letter.group, []).append(letter)
    rows = []
    for group, members in by_group.items():
        newest = max(members, key=lambda one: one.buried_at)
        first = min(one.buried_at for one in members)
        rows.append(
            GroupRow(
                group,
                newest.task,
                newest.reason,
                newest.error,
                len(members),
                len(members),
                first,
                newest.buried_at,
                newest.id,
            )
        )
    return sorted(rows, key=lambda row: row.last, reverse=True)
