"""
Know whether this process lives, may be given work, and has started: what its probes answer.

Nothing is asked of a server here. The main loop leaves a beat each second, whoever talks to a server leaves a note when
it does not answer, and a probe only reads both.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BLOCKED_AFTER", "PROBES", "Probe", "Vitals"]

# Seconds without a beat until the loop counts as blocked: with a probe each five seconds it is told within fifteen.
BLOCKED_AFTER = 10.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One answer: *why* says what is wrong, and is empty when all is well."""

    why: str = ""

    @property
    def ok(self) -> bool:
        """
        Tell whether all is well.
        """
        return not self.why


class Vitals:
    """
    What is known of this process, a *role* such as ``worker``; safe to read from any thread.

    A process starts in the state "starting", and is ready when it has started, its loop turns and no note is left.
    """

    def __init__(self, role: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self.role = role
        self._now = now
        self._since = now()
        self._started = False
        self._beaten: float | None = None
        self._resting = "its main loop has not begun"
        self._notes: dict[str, str] = {}
        self._occupied: Callable[[], bool] = bool

    def start(self) -> None:
        """
        Note that the process has all that it needs itself; what others must provide is a matter of readiness.
        """
        self._started = True

    def beat(self) -> None:
        """
        Note that the main loop turns.
        """
        self._beaten = self._now()

    def rest(self, why: str) -> None:
        """
        Note that the main loop does not turn for a good reason, until the next beat: it reconnects, or shuts down.
        """
        self._resting = why
        self._beaten = None

    def note(self, subject: str, trouble: str) -> None:
        """
        Keep what is wrong with *subject*; empty *trouble* says that it is well again.
        """
        if trouble:
            self._notes = {**self._notes, subject: trouble}
        elif subject in self._notes:
            self._notes = {name: text for name, text in self._notes.items() if name != subject}

    def occupied_by(self, asked: Callable[[], bool]) -> None:
        """
        Let *asked* tell whether the main loop itself runs a task: then its silence means nothing.
        """
        self._occupied = asked

    def live(self) -> Probe:
        """
        Tell whether the process can go on; when it cannot, only a restart helps.
        """
        beaten = self._beaten
        if beaten is None:
            return Probe()
        silence = self._now() - beaten
        if silence <= BLOCKED_AFTER or self._occupied():
            return Probe()
        return Probe(f"the main loop has been blocked for {silence:.0f} seconds")

    def startup(self) -> Probe:
        """
        Tell whether the process has come up; a server that is away does not hold this back.
        """
        return Probe("" if self._started else f"the {self.role} is still starting")

    def ready(self) -> Probe:
        """
        Tell whether the process can take work now.
        """
        for probe in (self.startup(), self.live()):
            if not probe.ok:
                return probe
        if self._beaten is None:
            return Probe(self._resting)
        return Probe("; ".join(f"{subject}: {trouble}" for subject, trouble in self._notes.items()))

    @property
    def age(self) -> float:
        """
        Return for how many seconds the process has been here.
        """
        return self._now() - self._since


PROBES: dict[str, Callable[[Vitals], Probe]] = {
    "live": Vitals.live,
    "ready": Vitals.ready,
    "startup": Vitals.startup,
}
