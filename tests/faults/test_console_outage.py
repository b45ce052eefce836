"""
A console whose Redis goes away says so, does nothing unseen, and comes back by itself.
"""

from __future__ import annotations

import pytest

from tests.console import Console, log_ins
from tests.deployment import Deployment
from tests.servers import RedisServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_pages_say_that_the_store_is_away_and_come_back(tmp_path):
    with RedisServer() as server:
        deployment = Deployment(tmp_path, PLATFORM_BROKER_URL=server.url(0), **log_ins())
        deployment.write("tasks/__init__.py", "")
        with Console(deployment) as console:
            viewer, operator = console.visitor("vera"), console.visitor("otto")
            assert viewer.get("/platform/queues").status_code == 200
            server.kill9()
            for page in ("queues", "dead-letters", "breakers", "limits", "calls/7", "audit"):
                shown = viewer.get(f"/platform/{page}")
                assert shown.status_code == 503, page
                assert "did not answer" in shown.text, page
                assert "did not answer" in viewer.get(f"/api/platform/{page}").json()["error"]
            order = {"action": "pause", "queue": "default", "reason": "x"}
            refused = operator.post("/api/platform/queues", json=order)
            assert refused.status_code == 503
            assert "Nothing was done" in refused.json()["message"]
            assert viewer.get("/healthcheck").status_code == 200
            server.restart()
            wait_until(lambda: viewer.get("/platform/queues").status_code == 200, timeout=30, what="the pages")
            assert operator.post("/api/platform/queues", json=order).json()["done"]
