"""
Hold the firings that have not ended, and decide which of them may go on.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from celery_platform.beat.firing import rule
from celery_platform.beat.ledger import Held, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from celery_platform.beat.book import Live

__all__ = ["Progress"]

_ASK_AGAIN = timedelta(seconds=5)
_BACKFILL = "backfill"
_STOPPING = "asked to stop"


class Progress:
    """All open firings by call id, with what each entry runs and holds back."""

    def __init__(self, firings: Iterable[Held] = ()) -> None:
        self._open: dict[str, Held] = {}
        self._by_entry: defaultdict[str, dict[str, Held]] = defaultdict(dict)
        self._due: dict[str, Held] = {}
        self._waiting: dict[str, Held] = {}
        self._lanes: defaultdict[str, dict[str, Held]] = defaultdict(dict)
        self._ready: set[str] = set()
        self._stops: list[tuple[str, bool]] = []
        self._given_way: list[Held] = []
        self._ask_at: datetime | None = None
        self._stirred = True
        self.add(firings)
        self._ready.update(self._by_entry)

    def add(self, firings: Iterable[Held]) -> None:
        """
        Take *firings* in; those that have ended already are left out.
        """
        for held in firings:
            if held.state in ("skipped", "missed"):
                continue
            self._open[held.call_id] = held
            self._by_entry[held.entry][held.call_id] = held
            if held.state == "due":
                self._due[held.call_id] = held
            elif held.state == "waiting":
                self._waiting[held.call_id], self._stirred = held, True
            if held.lane:
                self._lanes[held.lane][held.call_id] = held

    def remove(self, call_ids: Iterable[str]) -> None:
        """
        Forget firings.
        """
        for call_id in call_ids:
            held = self._open.pop(call_id, None)
            self._due.pop(call_id, None)
            self._waiting.pop(call_id, None)
            if held is not None:
                self._by_entry[held.entry].pop(call_id, None)
                if not self._by_entry[held.entry]:
                    del self._by_entry[held.entry]
                if held.lane:
                    self._lanes[held.lane].pop(call_id, None)
                    if not self._lanes[held.lane]:
                        del self._lanes[held.lane]
                self._ready.add(held.entry)
        self._stirred = True

    def settle(self, moved: Iterable[Held]) -> None:
        """
        Sort *moved* by the state that each has now; what has ended is forgotten.
        """
        for held in moved:
            self._due.pop(held.call_id, None)
            self._waiting.pop(held.call_id, None)
            if held.state in ("due", "sent", "buffered", "waiting", "queued"):
                self.add([held])
            else:
                self.remove([held.call_id])

    def unknown(self, firings: Iterable[Held]) -> list[Held]:
        """
        Return those of *firings* that are not held yet.
        """
        return [held for held in firings if held.call_id not in self._open]

    def running(self, entry: str) -> list[Held]:
        """
        Return the firings of *entry* that are with the broker or on their way; a backfill does not count.
        """
        firings = self._by_entry.get(entry, {}).values()
        return [held for held in firings if held.running and held.kind != _BACKFILL]

    def buffered(self, entry: str) -> list[Held]:
        """
        Return the firings of *entry* that wait for an earlier run, oldest first.
        """
        return [held for held in self._by_entry.get(entry, {}).values() if held.state == "buffered"]

    def cancel(self, running: Iterable[Held], buffered: Iterable[Held]) -> None:
        """
        Ask *running* to stop; the firings that wait already give way to the newest.
        """
        for held in running:
            held.note = _STOPPING
            self._stops.append((held.call_id, False))
        self._give_way(buffered, "skipped", "a later firing took its place")

    def terminate(self, running: Iterable[Held]) -> None:
        """
        Kill *running* and count it as ended.
        """
        running = list(running)
        self._stops += [(held.call_id, True) for held in running]
        self._give_way(running, "cancelled", "terminated by a later firing")

    def _give_way(self, firings: Iterable[Held], state: str, note: str) -> None:
        for held in list(firings):
            held.state, held.note = state, note
            self._given_way.append(held)
            self.remove([held.call_id])

    def take_stops(self) -> tuple[list[tuple[str, bool]], list[Held]]:
        """
        Return the calls to stop, each with whether by force, and the firings that gave way; both are empty then.
        """
        taken = self._stops, self._given_way
        self._stops, self._given_way = [], []
        return taken

    def due(self, most: int) -> list[Held]:
        """
        Return up to *most* firings to send, oldest first.
        """
        return list(islice(self._due.values(), most))

    @property
    def any_due(self) -> bool:
        """
        Tell whether there is anything to send.
        """
        return bool(self._due)

    def sent(self) -> Iterator[Held]:
        """
        Return the firings whose runs have not ended.
        """
        return (held for held in self._open.values() if held.state == "sent")

    def ended(self, ends: Mapping[str, str]) -> list[Held]:
        """
        Give each firing the end that its run has come to; return those that were open.
        """
        found = []
        for call_id, state in ends.items():
            held = self._open.get(call_id)
            if held is not None:
                asked = held.note == _STOPPING and state in ("failed", "discarded")
                held.state, held.note = ("cancelled", "for a later firing") if asked else (state, "")
                found.append(held)
        return found

    def release(self, book: Mapping[str, Live], now: datetime) -> list[Held]:
        """
        Return the firings that may go on now, or never, with their new state.
        """
        return [*self._after_upstream(book, now), *self._after_runs(), *self._from_lanes()]

    def _after_runs(self) -> list[Held]:
        ready, self._ready = self._ready, set()
        moved = []
        for entry in ready:
            if not self.running(entry) and (buffered := self.buffered(entry)):
                buffered[0].state, buffered[0].note = "due", "held back by an earlier run"
                moved.append(buffered[0])
        return moved

    def _from_lanes(self) -> list[Held]:
        moved = []
        for lane in self._lanes.values():
            queued = [held for held in lane.values() if held.state == "queued"]
            room = queued[0].width - sum(held.running for held in lane.values()) if queued else 0
            for held in queued[: max(0, room)]:
                held.state = "due"
                moved.append(held)
        return moved

    def _after_upstream(self, book: Mapping[str, Live], now: datetime) -> list[Held]:
        if not self._waiting or not (self._stirred or self._ask_at is None or now >= self._ask_at):
            return []
        self._stirred, self._ask_at = False, now + _ASK_AGAIN
        pairs = {
            (name, held.nominal)
            for held in self._waiting.values()
            if held.entry in book
            for name in book[held.entry].entry.rules.after
        }
        states = Ledger.states_at(pairs)
        moved = []
        for held in list(self._waiting.values()):
            live = book.get(held.entry)
            verdict = _verdict(live, held, states, now)
            if verdict is None:
                continue
            go, held.note = verdict
            held.state = "skipped"
            if go and live is not None:
                self._waiting.pop(held.call_id)
                told = held.note
                rule(live, held, self)
                held.note = held.note or told
                self.add([held])
            moved.append(held)
        return moved


def _verdict(
    live: Live | None, held: Held, states: Mapping[tuple[str, datetime], str], now: datetime
) -> tuple[bool, str] | None:
    """
    Return whether *held* may go on, and why; nothing while an upstream entry is still at work.
    """
    if live is None:
        return False, "its entry is gone"
    rules = live.entry.rules
    found = {name: states.get((name, held.nominal)) for name in rules.after}
    failed = [f"{name} {state}" for name, state in found.items() if state in _FAILED]
    if not failed and all(state == "succeeded" for state in found.values()):
        return True, ""
    if not failed and now - (held.claimed_at or held.nominal) > rules.after_timeout:
        unfinished = [name for name, state in found.items() if state != "succeeded"]
        failed = [f"{name} did not succeed in time" for name in unfinished]
    if not failed:
        return None
    return rules.on_upstream_failure == "run", f"upstream: {', '.join(failed)}"


_FAILED = frozenset({"failed", "discarded", "cancelled", "skipped", "missed", "lost"})
