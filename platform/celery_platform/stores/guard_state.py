"""
Say what guards ask of their shared state, and what it answers; all durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Admitted",
    "BreakerRule",
    "BudgetRule",
    "CallRecord",
    "Claim",
    "ClaimRule",
    "Claimed",
    "Entry",
    "GuardState",
    "Move",
    "RateRule",
    "Refused",
    "Request",
    "Rule",
    "Settled",
    "Settlement",
    "SlotRule",
]


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """The idempotency key of a call; *hold* is how long the key outlives the last sign of a waiting owner."""

    key: str
    scope: str
    conflict: str
    fingerprint: str
    keep: float
    hold: float
    lease: float
    delay: float = 0.0
    max_wait: float = 0.0


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """One breaker; *window_calls* 0 means a window by time, *slow_call* 0 that slowness does not count."""

    id: str
    failure_rate: float
    minimum_calls: int
    window: float
    window_calls: int
    slow_call: float
    slow_call_rate: float
    cool_down: float
    growth: float
    longest: float
    trials: int
    ramp: float
    lease: float


@dataclass(frozen=True, slots=True)
class RateRule:
    """One rate limit."""

    id: str
    limit: float
    per: float
    burst: float
    cost: float
    sliding: bool
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class SlotRule:
    """One concurrency limit."""

    id: str
    slots: float
    lease: float
    cost: float
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """A retry budget: what a first try earns, and how many retries a minute are always allowed."""

    id: str
    share: float
    reserve: float


Rule = ClaimRule | BreakerRule | RateRule | SlotRule | BudgetRule


@dataclass(frozen=True, slots=True)
class Request:
    """
    Everything a call needs admission for.

    *nonce* names this one run of the call; *subjects* are what may be paused (``queue:x``, ``task:y``, ``key:z``);
    *dropping* are the ids of rules whose refusal does not wait; *failures* above 0 make it a retry.
    """

    call_id: str
    task: str
    nonce: str
    rules: Sequence[Rule]
    subjects: Sequence[str] = ()
    dropping: Sequence[str] = ()
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """A breaker went from one state to another."""

    breaker: str
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """Every guard said yes; *breakers* holds each breaker's epoch, *over* the limits that would have refused."""

    fence: int = 0
    breakers: Mapping[str, int] = field(default_factory=dict)
    moved: Sequence[Move] = ()
    over: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """
    One guard said no.

    *guard* is ``cancel``, ``pause``, ``idempotency``, ``breaker``, ``rate``, ``concurrency`` or ``budget``; *id* its
    name; *why* its reason. The call should come back in *delay* seconds if *waits*; it has *waited* seconds so far.
    """

    guard: str
    id: str
    why: str
    delay: float = 0.0
    waits: bool = True
    waited: float = 0.0
    holder: str = ""
    state: str = ""
    result: str | None = None
    moved: Sequence[Move] = ()


@dataclass(frozen=True, slots=True)
class Settlement:
    """
    How an admitted call ended.

    *ending* is ``done``, ``waiting`` (a retry or a deferral, in *delay* seconds) or ``freed``; *ran* is the run time;
    *verdicts* says per breaker ``success``, ``failure`` or ``ignored``; *actual* what a call really cost, per limit.
    """

    ending: str
    result: str | None = None
    ran: float = 0.0
    delay: float = 0.0
    verdicts: Mapping[str, str] = field(default_factory=dict)
    actual: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """The guards know; a *fenced* call had been overtaken by another run, whose *result* is given when it is known."""

    fenced: bool = False
    result: str | None = None
    moved: Sequence[Move] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """What an enqueued call asks for."""

    call_id: str
    task: str
    rule: ClaimRule


@dataclass(frozen=True, slots=True)
class Claimed:
    """
    The answer at enqueue.

    *verdict* is ``new``, ``duplicate``, ``raise``, ``drop``, ``mismatch`` or ``unclaimed`` (publish it, it waits for
    the holder when it runs). *age* is how long the holder has the key; *delay* how long a debounced call waits.
    """

    verdict: str
    holder: str = ""
    state: str = ""
    age: float = 0.0
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a listing: its name and its fields as they are kept; *ttl* in seconds."""

    name: str
    fields: Mapping[str, str]
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What is known of a guarded call that waits, runs or is done; times are Unix seconds."""

    state: str
    fields: Mapping[str, str]


class GuardState(Protocol):
    """
    Shared state of all guards: one question before a call, one answer after it.

    Every method raises `StoreError` when the store cannot be reached.
    """

    def claim(self, claim: Claim) -> Claimed:
        """
        Take an idempotency key for a call that is being enqueued, or say who holds it.
        """

    def unclaim(self, claim: Claim) -> None:
        """
        Give back the key of a call that could not be published.
        """

    def admit(self, request: Request) -> Admitted | Refused:
        """
        Admit the call under all its rules, or take nothing and say which rule refused.
        """

    def settle(self, request: Request, admitted: Admitted, settlement: Settlement) -> Settled:
        """
        Tell the guards how the admitted call ended.
        """

    def renew(self, request: Request) -> tuple[bool, bool]:
        """
        Keep what the running call holds for another lease; answer (still held, cancelled).
        """
