"""
Send dead letters again: a few first, then the rest, at a pace, each of them once.

```python
from celery_platform.dead_letters import Selection
from celery_platform.replay import Replay, ReplayPlan

plan = ReplayPlan(where=Selection(group="ConnectionError-1f2e3d4c"), canary=10, stop_if_fail=0.2, rate=50)
replay = Replay(platform, plan)
replay.preview()                       # the letters it would send
report = replay.run(progress=print)    # progress(sent, of) after every letter
report.state                           # done, stopped, or waiting (the canary has not ended in time)
```

Running the same plan again goes on where a killed run stopped. `edited(platform, letter_id, patch)` changes the
arguments of one letter by a JSON patch, held against the contract of its task.
"""

from __future__ import annotations

from celery_platform.replay.engine import Replay
from celery_platform.replay.patching import edited
from celery_platform.replay.plan import ReplayPlan, ReplayReport

__all__ = ["Replay", "ReplayPlan", "ReplayReport", "edited"]
