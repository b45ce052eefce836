"""
Show the work while it runs, and count how it ended.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from demo.work import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from types import TracebackType
    from typing import Self

    from rich.console import Console

    from demo.work import Errand

__all__ = ["Board", "Snapshot", "summary", "tally"]

_WORDS = {"PENDING": "waiting", "STARTED": "running", "PROGRESS": "running", "RETRY": "to retry"}
_ENDED = {"SUCCESS": "succeeded", "FAILURE": "buried", "REVOKED": "discarded"}


@dataclass(slots=True)
class Snapshot:
    """What was last heard of every call; an ended call is not asked again."""

    errands: Sequence[Errand]
    states: dict[str, str] = field(default_factory=dict)
    step: str = ""

    def refresh(self) -> None:
        """
        Ask the result store about every call that has not ended.
        """
        for errand in self.errands:
            for call in errand.calls:
                if self.states.get(call.id) not in _ENDED:
                    meta: dict[str, Any] = call.backend.get_task_meta(call.id)
                    self.states[call.id] = meta["status"]
                    if meta["status"] == "PROGRESS":
                        self.step = f"{errand.name}: {meta['result']['message']}"

    @property
    def over(self) -> bool:
        """
        Tell whether every call has ended.
        """
        return all(self.states.get(call.id) in _ENDED for errand in self.errands for call in errand.calls)

    def counts(self, errand: Errand) -> Counter[str]:
        """
        Count the calls of *errand* by the word for their state.
        """
        states = (self.states.get(call.id, "PENDING") for call in errand.calls)
        return Counter((_ENDED | _WORDS).get(state, state.lower()) for state in states)


class Board:
    """
    The work as a live table on a terminal, or as one line a change where there is none.
    """

    def __init__(self, console: Console, snapshot: Snapshot) -> None:
        self._console = console
        self._snapshot = snapshot
        self._told: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, elapsed: float) -> None:
        """
        Show the snapshot as it stands *elapsed* seconds after the start.
        """
        if self._live:
            self._live.update(self._table(elapsed), refresh=True)
            return
        for errand in self._snapshot.errands:
            line = ", ".join(f"{count} {word}" for word, count in sorted(self._snapshot.counts(errand).items()))
            if self._told.get(errand.name) != line:
                self._told[errand.name] = line
                self._console.print(f"{elapsed:5.1f} s  {errand.name}: {line}", highlight=False)

    def _table(self, elapsed: float) -> Table:
        table = Table(title=f"{elapsed:.0f} s", caption=self._snapshot.step or " ", expand=False)
        for heading in ("work", "done", "", "state"):
            table.add_column(heading)
        for errand in self._snapshot.errands:
            counts = self._snapshot.counts(errand)
            done, total = sum(counts[word] for word in _ENDED.values()), len(errand.calls)
            state = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
            table.add_row(errand.name, ProgressBar(total, done, width=20), f"{done}/{total}", state)
        return table


def tally(errand: Errand, states: Mapping[str, str], knocks: Mapping[str, int], letters: AbstractSet[str]) -> Tally:
    """
    Count how the calls of *errand* ended.

    Retried is what knocked at a sink more than once; buried is what failed and has its dead letter.
    """
    ids = [call.id for call in errand.calls]
    return Tally(
        succeeded=sum(states.get(call) == "SUCCESS" for call in ids),
        retried=sum(knocks.get(call, 0) > 1 for call in ids),
        buried=sum(states.get(call) == "FAILURE" and call in letters for call in ids),
        discarded=sum(states.get(call) == "REVOKED" for call in ids),
    )


def summary(errands: Sequence[Errand], tallies: Sequence[Tally]) -> Table:
    """
    Return the table of outcomes; the last column tells whether they are the expected ones.
    """
    table = Table(title="Outcomes", show_footer=True)
    totals = [sum(column) for column in zip(*(astuple(one) for one in tallies), strict=True)]
    table.add_column("work", footer="in all")
    table.add_column("calls", justify="right", footer=str(sum(len(errand.calls) for errand in errands)))
    for one, total in zip(fields(Tally), totals, strict=True):
        table.add_column(one.name, justify="right", footer=str(total))
    table.add_column("as expected")
    for errand, found in zip(errands, tallies, strict=True):
        verdict = "yes" if found == errand.expected else f"[red]no: {errand.expected}[/red]"
        table.add_row(errand.name, str(len(errand.calls)), *(str(count) for count in astuple(found)), verdict)
    return table
