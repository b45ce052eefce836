"""
Build every key of the state store. Each has a type, an owner that deletes it, and a lifetime.

============================  ======  ===============================  =======================================
key                           type    owner                            lifetime
============================  ======  ===============================  =======================================
``{ns}:dead``                 zset    `dead_letters.DeadLetters`       entries leave after ``dead_letter_ttl``
``{ns}:dead:letter:<id>``     string  `dead_letters.DeadLetters`       ``dead_letter_ttl``
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
