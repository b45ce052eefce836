"""
Keep what could not be done, with its reason, so that nothing is ever dropped.

`platform.dead_letters` (a `DeadLetters`) is the whole tool in Python, and the command `dead` stands on it:

- `list(where)` and `newest(n)` read letters, the newest first; `where` is a `Selection`, which names any of ids, queue,
  task, reason, group, key, text, since and until. `count(where)` counts them and `find(id)` shows one.
- `groups(where)` tells which errors there are: count, first, last, a sample.
- `edit(id, args, kwargs)` changes the arguments of one; `discard(where)`, `purge(older_than)` remove letters;
  `hold(ids)` and `release(ids)` keep letters from every removal.
- `export(where)` yields lines of JSON and `read_in(lines)` takes them back, whole or not at all.
- `celery_platform.replay.Replay(platform, ReplayPlan(where=…, canary=10, rate=50)).run()` sends letters again.

Whoever removes, edits or replays names an actor and a reason, which `audit()` lists.
"""

from __future__ import annotations

from celery_platform.dead_letters.fingerprint import fingerprint_of, traceback_of
from celery_platform.dead_letters.graveyard import DeadLetters
from celery_platform.dead_letters.hooks import on_dead
from celery_platform.dead_letters.letter import DeadLetter, Failure, failure_of
from celery_platform.dead_letters.selection import REASONS, Selection
from celery_platform.policy import Retention

__all__ = [
    "REASONS",
    "DeadLetter",
    "DeadLetters",
    "Failure",
    "Retention",
    "Selection",
    "failure_of",
    "fingerprint_of",
    "on_dead",
    "traceback_of",
]
