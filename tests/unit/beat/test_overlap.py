"""
The six overlap policies, as rulings.
"""

from __future__ import annotations

import pytest

from celery_platform.beat.overlap import Ruling, checked, ruled
from celery_platform.errors import ScheduleError

POLICIES = ["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_in_the_way_means_go(policy):
    assert ruled(policy, running=0, buffered=0) is Ruling.SEND


@pytest.mark.parametrize(
    ("policy", "alone", "behind_a_buffered_one"),
    [
        ("skip", Ruling.SKIP, Ruling.SKIP),
        ("buffer_one", Ruling.BUFFER, Ruling.SKIP),
        ("buffer_all", Ruling.BUFFER, Ruling.BUFFER),
        ("cancel_other", Ruling.CANCEL_THEN_BUFFER, Ruling.CANCEL_THEN_BUFFER),
        ("terminate_other", Ruling.TERMINATE_THEN_SEND, Ruling.TERMINATE_THEN_SEND),
        ("allow_all", Ruling.SEND, Ruling.SEND),
    ],
)
def test_a_run_in_the_way_is_ruled_by_the_policy(policy, alone, behind_a_buffered_one):
    assert ruled(policy, running=1, buffered=0) is alone
    assert ruled(policy, running=1, buffered=1) is behind_a_buffered_one


def test_an_unknown_policy_is_refused_with_the_nearest_one():
    with pytest.raises(ScheduleError, match="Did you mean 'buffer_one'"):
        checked("bufer_one")
