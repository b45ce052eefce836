"""
Name every Redis key of the transport in one place.

================================  ======  ==========================  ===========================================
key                               type    owner                       lifetime
================================  ======  ==========================  ===========================================
``<queue>``, ``<queue>␆␖<step>``  list    stock kombu's own keys      while it has messages
``platform:held:<owner>``         hash    one consumer                until it settled or lost what it holds
``platform:leases``               zset    all consumers               an entry until its owner leaves or is reaped
``platform:delayed``              zset    all producers, consumers    an entry until its message is due
``platform:delayed:messages``     hash    the same                    the same
``platform:bell``                 string  nobody: it never exists     rung (set and deleted) to wake the idle
``platform:casualties``           list    the drain of dead letters   an entry until it is a dead letter
================================  ======  ==========================  ===========================================

Every key carries kombu's ``global_keyprefix`` in front. Field names of ``held`` are ``<number>|<list key>``: the number
grows for the life of the owner, so a field is never used twice. Scores are milliseconds by the server's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TransportKeys"]


@dataclass(frozen=True, slots=True)
class TransportKeys:
    """The transport's own keys under *prefix*, which is kombu's ``global_keyprefix`` plus the namespace."""

    prefix: str = "platform:"

    @property
    def leases(self) -> str:
        """Until when each consumer is believed to live."""
        return f"{self.prefix}leases"

    @property
    def delayed(self) -> str:
        """When each delayed message is due."""
        return f"{self.prefix}delayed"

    @property
    def delayed_messages(self) -> str:
        """The delayed messages themselves."""
        return f"{self.prefix}delayed:messages"

    @property
    def bell(self) -> str:
        """The key idle consumers watch to learn of a due time sooner than the one they wait for."""
        return f"{self.prefix}bell"

    @property
    def casualties(self) -> str:
        """What could not be delivered and waits to become a dead letter."""
        return f"{self.prefix}casualties"

    def held(self, owner: str) -> str:
        """Return the key of what *owner* has fetched and not settled."""
        return f"{self.prefix}held:{owner}"
