"""
RabbitMQ before 3.12 takes a call that runs too long from its worker; that ends in a dead letter, not in a loop.
"""

from __future__ import annotations

import pytest

from tests.integration.hostile_team import hostile_team
from tests.servers import RabbitServer
from tests.servers.redis import DATABASES
from tests.waiting import wait_until

PATIENCE = 90
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class ImpatientRabbit(RabbitServer):
    """A RabbitMQ that waits two seconds for an acknowledgement, and looks every second."""

    def __init__(self) -> None:
        super().__init__(config={"consumer_timeout": "2000"})

    def _environment(self) -> dict[str, str]:
        environment = super()._environment()
        environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] += " -rabbit channel_tick_interval 1000"
        return environment


def test_a_call_over_the_consumer_timeout_is_warned_of_and_ends_as_a_dead_letter(redis_server, tmp_path):
    number = DATABASES - 310
    with redis_server.client(number) as client:
        client.flushdb()
    with (
        ImpatientRabbit() as rabbit,
        hostile_team(tmp_path, rabbit.url(rabbit.vhost()), redis_server.url(number), module="cloudy") as team,
    ):
        worker = team.deployment.worker("-c", "2")
        call = team.tasks.slow.delay("too long", 600)
        neighbours = [team.tasks.add.delay(number, 1) for number in range(5)]
        assert team.letter(call.id, timeout=PATIENCE).reason == "poison"
        assert [neighbour.get(timeout=PATIENCE) for neighbour in neighbours] == [1, 2, 3, 4, 5]
        assert team.tasks.add.delay(9, 1).get(timeout=PATIENCE) == 10
        assert worker.alive
        began = team.notes().count("slow too long")
        assert 2 <= began <= 4
        version = rabbit.api("GET", "overview")["rabbitmq_version"]
        if tuple(int(part) for part in version.split(".")[:2]) < (3, 12):
            wait_until(lambda: "consumer_timeout (30 minutes" in worker.output(), what="the warning")
