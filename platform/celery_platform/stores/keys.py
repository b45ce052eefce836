"""
Build every key of the state store. Each has a type, an owner that deletes it, and a lifetime.

============================  ======  ===============================  ===============================================
key                           type    owner                            lifetime
============================  ======  ===============================  ===============================================
``{ns}:dead``                 zset    `redis_graves`, as all below     open letters, until expired or removed
``{ns}:dead:letter:<id>``     hash    the sweep of every burial        its retention; without end while held
``{ns}:dead:expiry``          zset    the same                         one entry a letter that is not held
``{ns}:dead:by:<tag>:<text>`` zset    the same                         one entry an open letter
``{ns}:dead:sizes``           hash    the same                         as many fields as tasks with letters
``{ns}:dead:groups``          zset    the same                         one entry a group with open letters
``{ns}:dead:group:<group>``   hash    nobody                           twice the retention of its last letter
``{ns}:dead:replayed``        zset    the same                         the newest ten thousand, for lineage
``{ns}:dead:truncated``       hash    nobody                           none: as many fields as tasks cut short
``{ns}:dead:replay:<name>``   hash    one replay                       thirty days
``{ns}:dead:ends:<name>``     hash    the calls of one replay          a day after the last end
``{ns}:books``                hash    burials and replays              none: a few fields a queue
``{ns}:beat:lease``           string  `beat.lease.RedisLease`          ``lease.TTL``, renewed by the leader
``{ns}:beat:fence``           string  `beat.lease.RedisLease`          none: one number that grows
``{ns}:beat:claim:<id>``      string  `beat.runs`                      seven days after it was last asked for
``{ns}:beat:outcomes``        hash    the leading scheduler            seven days after the last end
``{ns}:audit``                stream  `audit.AuditLog`                 none: as many lines as `audit.LINES`
============================  ======  ===============================  ===============================================

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
        Return the index of open dead letters, scored by burial time (ms); the prefix of all their other keys.
        """
        return f"{{{self.namespace}}}:dead"

    def of_dead(self, kind: str, *names: str) -> str:
        """
        Return the key of *kind* among those of dead letters (a word of the table above).
        """
        return ":".join((self.dead, kind, *names))

    def dead_letter(self, letter_id: str) -> str:
        """
        Return the record of one dead letter.
        """
        return self.of_dead("letter", letter_id)

    @property
    def books(self) -> str:
        """
        Return the counters of all queues.
        """
        return f"{{{self.namespace}}}:books"

    @property
    def audit(self) -> str:
        """
        Return the journal of what operators did.
        """
        return f"{{{self.namespace}}}:audit"

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
