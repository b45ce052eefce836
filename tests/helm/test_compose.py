"""
docker-compose.yml, read by the real `docker compose config`; no engine is needed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from celery_platform.settings import Settings
from tests.servers import missing

ROOT = Path(__file__).parents[2]
SECRETS = {"REDIS_PASSWORD": "long-random-word", "FLOWER_BASIC_AUTH": "ops:other-word"}
OURS = ("worker", "beat", "flower")


def program() -> str:
    """
    Return Docker Compose, from the package that carries it, else the machine's.
    """
    if package := find_spec("compose"):
        # Its own `docker-compose` script ends with 0 whatever the program says.
        return str(Path(package.origin).with_name("docker-compose"))
    return shutil.which("docker-compose") or missing("no Docker Compose, whose package is for Linux on x86_64 only")


def config(text: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """
    Ask for the whole configuration with *variables*; *text* stands for the file.
    """
    file = "-" if text else "docker-compose.yml"
    return subprocess.run(
        [program(), "--project-directory", ROOT, "-f", file, "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables},
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def services():
    told = config(**SECRETS)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)["services"]


def seconds(duration: str) -> float:
    parts = re.findall(r"([\d.]+)(h|m|s)", duration)
    return sum(float(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("value", [None, ""], ids=["missing", "empty"])
def test_a_password_that_is_not_given_is_refused_by_name(name, value):
    variables = {**SECRETS, name: value}
    told = config(**{key: text for key, text in variables.items() if text is not None})
    assert told.returncode != 0
    assert f"required variable {name} is missing a value: set it to" in told.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("stop_grace_period", "stop_grace_perod"), ("service_healthy", "service_happy"), ("redis:/data", "rediss:/data")],
)
def test_a_mistake_in_the_file_is_seen(right, wrong):
    text = (ROOT / "docker-compose.yml").read_text()
    assert right in text
    assert config(text, **SECRETS).returncode == 0
    assert config(text.replace(right, wrong), **SECRETS).returncode != 0


@pytest.mark.parametrize("name", ["redis", *OURS])
def test_every_service_is_bounded_and_may_do_little(services, name):
    service = services[name]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_one_image_on_a_read_only_tree_when_redis_is_healthy(services, name):
    service = services[name]
    assert service["image"] == services["worker"]["image"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp:size=256m"]
    assert service["init"] is True
    assert service["depends_on"]["redis"]["condition"] == "service_healthy"


def test_the_platform_accepts_the_environment_of_its_services(services, monkeypatch):
    for name, value in services["worker"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.broker_url == f"redis://:{SECRETS['REDIS_PASSWORD']}@redis:6379/0"
    assert settings.queues == ()


def test_queues_and_routes_come_from_the_environment(monkeypatch):
    told = config(**SECRETS, PLATFORM_QUEUES="billing", PLATFORM_ROUTES="billing.*=billing:high")
    for name, value in json.loads(told.stdout)["services"]["worker"]["environment"].items():
        monkeypatch.setenv(name, value)
    assert Settings.load().routes == {"billing.*": "billing:high"}


def test_a_worker_gets_more_time_than_its_tasks(services):
    worker = services["worker"]
    soft = float(worker["environment"]["PLATFORM_SOFT_SHUTDOWN"])
    assert seconds(worker["stop_grace_period"]) >= soft + 15


def test_nothing_but_flower_is_reachable_and_flower_from_this_machine_only(services):
    assert [name for name, service in services.items() if service.get("ports")] == ["flower"]
    (port,) = services["flower"]["ports"]
    assert (port["host_ip"], port["published"]) == ("127.0.0.1", "5555")
    assert services["flower"]["environment"]["FLOWER_BASIC_AUTH"] == SECRETS["FLOWER_BASIC_AUTH"]


def test_the_schedules_outlive_the_container_of_beat(services):
    (volume,) = services["beat"]["volumes"]
    assert volume["type"] == "volume"
    assert services["beat"]["environment"]["PLATFORM_DATABASE_URL"] == f"sqlite:///{volume['target']}/beat.sqlite3"
    assert f"install -d -o celery -g celery {volume['target']}" in (ROOT / "Dockerfile").read_text()


def test_redis_and_flower_are_checked(services):
    assert {name for name, service in services.items() if "healthcheck" in service} == {"redis", "flower"}
