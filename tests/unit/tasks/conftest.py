"""
The reference work, called as plain functions: each test runs as the body of a call.
"""

from __future__ import annotations

import pytest

from celery_platform.current import RunningCall, running
from celery_platform.outcomes import Call


@pytest.fixture
def reported() -> list[dict[str, object]]:
    """
    What the body said about its progress.
    """
    return []


@pytest.fixture(autouse=True)
def call(reported: list[dict[str, object]]):
    """
    The call the body runs for.
    """
    with running(RunningCall(Call(id="call-1", task="tasks.tested"), report=reported.append)) as current:
        yield current
