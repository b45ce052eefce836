"""
Build the keys of the guards. Each has a type, an owner, and a lifetime.

==============================  ======  ==========================  ==============================================
key                             type    owner                       lifetime
==============================  ======  ==========================  ==============================================
``{ns}:claim:<task>|<key>``     hash    idempotency                 while held, then `keep`; at most an hour more
``{ns}:call:<id>``              hash    the running or parked call  its wait plus an hour; `keep` when it is done
``{ns}:steps:<id>``             hash    `once`                      a day after its last change
``{ns}:fence``                  string  idempotency                 none: one counter for the namespace
``{ns}:breaker:<id>``           hash    circuit breaker             twice its longest time, from its last change
``{ns}:permits:<id>``           zset    circuit breaker             twice the lease
``{ns}:rate:<id>``              hash    rate limit                  until it is back at rest, plus one second
``{ns}:log:<id>``               zset    rate limit, sliding         one window plus one second
``{ns}:slots:<id>``             zset    concurrency limit           twice the lease
``{ns}:waiting:<id>``           zset    concurrency limit           an hour after its last change
``{ns}:mean:<id>``              string  concurrency limit           an hour after its last change
``{ns}:budget:<id>``            hash    retry budget                two minutes after its last change
``{ns}:limits``                 hash    `limits set` and `reset`    none: as many fields as limits changed live
``{ns}:pauses``                 hash    `pause` and `resume`        none: as many fields as subjects paused
``{ns}:cancelled``              zset    `cancel`                    entries leave after seven days
==============================  ======  ==========================  ==============================================

``<id>`` is ``name`` or ``name|key``. The braces are a Redis Cluster hash tag: one script touches all guards of a call.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GuardKeys"]


@dataclass(frozen=True, slots=True)
class GuardKeys:
    """The keys of the guards in one *namespace* (`PLATFORM_NAMESPACE`)."""

    namespace: str = "platform"

    def of(self, kind: str, name: str = "") -> str:
        """
        Return the key *name* of *kind* (a word of the table above).
        """
        return f"{{{self.namespace}}}:{kind}:{name}" if name else f"{{{self.namespace}}}:{kind}"

    def record(self, call_id: str) -> str:
        """
        Return the record of one call.
        """
        return f"{{{self.namespace}}}:call:{call_id}"

    def claim(self, task: str, key: str) -> str:
        """
        Return the claim of an idempotency key of *task*.
        """
        return f"{{{self.namespace}}}:claim:{task}|{key}"
