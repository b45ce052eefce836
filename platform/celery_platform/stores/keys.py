"""
Build every key of the state store. Each has a type, an owner that deletes it, and a lifetime.

============================  ======  ===============================  =======================================
key                           type    owner                            lifetime
============================  ======  ===============================  =======================================
``{ns}:dead``                 zset    `dead_letters.DeadLetters`       entries leave after ``dead_letter_ttl``
``{ns}:dead:letter:<id>``     string  `dead_letters.DeadLetters`       ``dead_letter_ttl``
``{ns}:beat:lease``           string  `beat.lease.RedisLease`          ``lease.TTL``, renewed by the leader
``{ns}:beat:fence``           string  `beat.lease.RedisLease`          none: one number that grows
``{ns}:beat:claim:<id>``      string  `beat.runs`                      seven days after it was last asked for
``{ns}:beat:outcomes``        hash    the leading scheduler            seven days after the last end
============================  ======  ===============================  =======================================

The braces are a Redis Cluster hash tag: one script may touch all keys of a namespace.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Keys"]


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one *namespace* (`PLATFORM_NAMESPACE`)."""

    namespace: str = "platform"

    @property
    def dead(self) -> str:
        """
        Return the index of dead letters, scored by burial time.
        """
        return f"{{{self.namespace}}}:dead"

    def dead_letter(self, letter_id: str) -> str:
        """
        Return the record of one dead letter.
        """
        return f"{{{self.namespace}}}:dead:letter:{letter_id}"

    @property
    def beat_lease(self) -> str:
        """
        Return the leadership of the schedules.
        """
        return f"{{{self.namespace}}}:beat:lease"

    @property
    def beat_fence(self) -> str:
        """
        Return the last fence of that leadership.
        """
        return f"{{{self.namespace}}}:beat:fence"

    @property
    def beat_outcomes(self) -> str:
        """
        Return the ends of scheduled runs that no scheduler has taken yet.
        """
        return f"{{{self.namespace}}}:beat:outcomes"

    def beat_claim(self, call_id: str) -> str:
        """
        Return the claim of one scheduled call: which copy of its message runs.
        """
        return f"{{{self.namespace}}}:beat:claim:{call_id}"
