"""
SIGKILL between any two commands to the store: the key is free within the lease, and nobody counts twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from celery_platform.stores.guard_state import Admitted, Claim, ClaimRule, Refused, Request, Settlement
from celery_platform.stores.keys import Keys
from celery_platform.stores.redis import RedisStore
from celery_platform.stores.redis_guards import RedisGuards
from tests.waiting import wait_until

LEASE = 1.0
RULE = ClaimRule("k", "until_ttl", "return_existing", "same", keep=60, hold=3600, lease=LEASE)

# One life of a call, from enqueue to its end, in a process that kills itself before or after its nth command.
LIFE = """
import os, signal, sys
from celery_platform.stores import redis_guards
from celery_platform.stores.guard_state import Claim, ClaimRule, Request, Settlement
from celery_platform.stores.keys import Keys
from celery_platform.stores.redis import RedisStore

url, number, when, lease = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
commands = 0
plain = redis_guards.RedisGuards._run

def counted(self, *args):
    global commands
    commands += 1
    if commands == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    answer = plain(self, *args)
    if commands == number and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

redis_guards.RedisGuards._run = counted
state = redis_guards.RedisGuards(RedisStore(url, Keys("crash")))
rule = ClaimRule("k", "until_ttl", "return_existing", "same", keep=60, hold=3600, lease=lease)
state.claim(Claim("first", "t", rule))
request = Request("first", "t", "dead", (rule,))
admitted = state.admit(request)
state.renew(request)
state.settle(request, admitted, Settlement("done", '"first"'))
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_key_is_free_within_the_lease_wherever_the_holder_dies(redis_url, number, when):
    argv = [sys.executable, "-c", LIFE, redis_url, str(number), when, str(LEASE)]
    dead = subprocess.run(argv, check=False, timeout=60, cwd=Path(__file__).parents[2], env=dict(os.environ))
    assert dead.returncode == -signal.SIGKILL
    store = RedisStore(redis_url, Keys("crash"))
    state = RedisGuards(store)
    try:
        # The broker hands the call of the dead worker out again; a producer asks for the same key.
        again = Request("first", "t", "alive", (RULE,))
        asked = wait_until(lambda: _final(state, again), timeout=LEASE + 2, what="the key to be free or the work done")
        if (number, when) == (4, "after"):
            assert asked.result == '"first"'
            assert state.claim(Claim("second", "t", RULE)).state == "done"
            return
        assert isinstance(asked, Admitted)
        assert state.claim(Claim("second", "t", RULE)).verdict == "duplicate"
        # The dead one wakes up after all (a paused machine): what it says does not count.
        stale = Request("first", "t", "dead", (RULE,))
        assert state.settle(stale, Admitted(1), Settlement("done", '"stale"')).fenced
        assert not state.settle(again, asked, Settlement("done", '"again"')).fenced
        assert state.admit(Request("third", "t", "x", (RULE,))).result == '"again"'
    finally:
        store.client.close()


def _final(state, request):
    answer = state.admit(request)
    return None if isinstance(answer, Refused) and answer.waits else answer
