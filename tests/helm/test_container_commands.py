"""
Each command of the chart, started as its pod would be: its words, its environment, another user, a read-only tree.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import redis
import yaml

from tests.servers import Program, free_port, need, redis_binary, temporary_folder
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = 60
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TASKS = """
import pathlib, time
from celery_platform import platform_task

@platform_task
def hold(name: str, gate: str, ledger: str):
    note(ledger, f"began {name}")
    while not pathlib.Path(gate).exists():
        time.sleep(0.02)
    note(ledger, f"ended {name}")

@platform_task
def tick(ledger: str):
    note(ledger, "tick")

def note(ledger, line):
    with open(ledger, "a") as file:
        file.write(line + "\\n")
"""
BEAT = """
import os
from celery_platform.beat import every
from tasks import tick

schedule = [every(tick, seconds=1, name="tick", kwargs={"ledger": os.environ.get("LEDGER", "")})]
"""


def another_user() -> list[str]:
    """
    Return the words that run a program as another user than root; none when we are not root.

    The interpreter may stand in a folder of root's, so that user may read all, and write nothing more than others.
    """
    if os.geteuid() != 0:
        return []
    capabilities = "-all,+dac_read_search"
    return [
        *(need("setpriv"), "--reuid=daemon", "--regid=daemon", "--clear-groups"),
        *(f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}", "--"),
    ]


class Image:
    """What the Dockerfile puts together, as folders that nobody may write to."""

    def __init__(self) -> None:
        self.folder = temporary_folder("image")
        self.python = [*another_user(), sys.executable]
        self.srv = self.folder / "srv"
        shutil.copytree(ROOT / "platform", self.folder / "platform", ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in {"tasks": TASKS, "beat": BEAT}.items():
            (self.srv / name).mkdir(parents=True)
            (self.srv / name / "__init__.py").write_text(text)
        # The only writable folder, where the pod has its own /tmp.
        self.tmp = self.folder / "tmp"
        self.tmp.mkdir()
        self.set_mode("a-w,a+rX")
        self.tmp.chmod(0o777)
        (entry,) = re.findall(r"^ENTRYPOINT (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert json.loads(entry)[0] == "celery"
        self.entry = [*self.python, "-m", *json.loads(entry)]

    def set_mode(self, mode: str) -> None:
        subprocess.run(["chmod", "-R", mode, self.folder], check=True)

    def environment(self, given: dict[str, object], **secrets: str) -> dict[str, str]:
        """
        Return the environment of a pod: what the image sets, what the chart gives, and the Secrets' contents.
        """
        ours = {name: value if isinstance(value, str) else secrets[name] for name, value in given.items()}
        return {
            "PYTHONPATH": str(self.folder / "platform"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.tmp),
            "TMPDIR": str(self.tmp),
            "LEDGER": str(self.tmp / "ledger"),
            **ours,
        }

    def start(self, args: list[str], environment: dict[str, str], log: Path) -> Program:
        """
        Start the container's command.
        """
        return Program([*self.entry, *args], log=log, env=environment, cwd=self.srv).start()

    def python_says(self, text: str, environment: dict[str, str]) -> str:
        """
        Run a program text in the image, as a producer would.
        """
        return subprocess.run(
            [*self.python, "-c", text],
            cwd=self.srv,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        ).stdout

    def ledger(self) -> list[str]:
        file = self.tmp / "ledger"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def image():
    image = Image()
    yield image
    image.set_mode("u+w")
    shutil.rmtree(image.folder)


@pytest.fixture
def pod(image, install, redis_url, tmp_path):
    """
    Start the pod of a part of the chart; every one started is stopped at the end.
    """
    started = []

    def start(part, change, *, replace=(), **secrets):
        release = install(change)
        args = [str(word) for word in release.container(part)["args"]]
        for old, new in replace:
            assert any(old in word for word in args)
            args = [word.replace(old, new) for word in args]
        environment = image.environment(release.environment(part), PLATFORM_BROKER_URL=redis_url, **secrets)
        program = image.start(args, environment, tmp_path / f"{len(started)}.log")
        started.append(program)
        program.environment = environment
        program.grace = release.pod(part).get("terminationGracePeriodSeconds", 30)
        return program

    yield start
    for program in started:
        program.stop()


def call_hold(image, worker, name, gate):
    words = ", ".join(repr(str(word)) for word in (name, gate, image.tmp / "ledger"))
    image.python_says(f"from tasks import hold; hold.delay({words})", worker.environment)


WORKER = {"workers": {"concurrency": 1}}


def test_the_commands_below_run_as_another_user_from_a_tree_they_cannot_change(image):
    environment = image.environment({})
    told = image.python_says("import os, celery_platform as c; print(os.geteuid(), c.__file__)", environment)
    user, file = told.split()
    assert int(user) != 0
    assert file == str(image.folder / "platform/celery_platform/__init__.py")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        image.python_says("open('tasks/new.py', 'w')", environment)
    assert "Permission denied" in caught.value.stderr


def test_a_worker_stopped_by_sigterm_ends_its_call_takes_no_other_and_exits_with_zero(image, pod):
    gate = image.tmp / "gate"
    worker = pod("-worker-default", WORKER)
    worker.wait_for_output(" ready.")
    call_hold(image, worker, "first", gate)
    wait_until(lambda: image.ledger() == ["began first"], timeout=PATIENCE)

    worker.send(signal.SIGTERM)
    worker.wait_for_output("Warm shutdown")
    call_hold(image, worker, "second", gate)
    gate.touch()
    assert worker.process.wait(worker.grace) == 0
    assert image.ledger() == ["began first", "ended first"]

    pod("-worker-default", WORKER)
    wait_until(lambda: "ended second" in image.ledger(), timeout=PATIENCE)
    assert sorted(image.ledger()) == ["began first", "began second", "ended first", "ended second"]


def test_a_call_that_outlasts_the_soft_shutdown_goes_back_within_the_grace_period(image, pod):
    gate = image.tmp / "gate"
    change = {**WORKER, "settings": {"softShutdown": 1}}
    worker = pod("-worker-default", change)
    worker.wait_for_output(" ready.")
    call_hold(image, worker, "long", gate)
    wait_until(lambda: image.ledger() == ["began long"], timeout=PATIENCE)

    worker.send(signal.SIGTERM)
    assert worker.process.wait(worker.grace) == 0
    assert image.ledger() == ["began long"]

    gate.touch()
    pod("-worker-default", change)
    wait_until(lambda: "ended long" in image.ledger(), timeout=PATIENCE)


def test_a_worker_writes_nothing_outside_its_tmp(image, pod):
    before = sorted(path for path in image.folder.rglob("*") if image.tmp not in path.parents)
    worker = pod("-worker-default", WORKER)
    worker.wait_for_output(" ready.")
    assert worker.stop(timeout=worker.grace) == 0
    assert sorted(path for path in image.folder.rglob("*") if image.tmp not in path.parents) == before


def test_beat_fires_what_the_deployment_has_scheduled_and_stops_on_sigterm(image, pod):
    change = {"beat": {"enabled": True}, "database": {"existingSecret": "database"}}
    beat = pod("-beat", change, PLATFORM_DATABASE_URL=f"sqlite:///{image.tmp}/beat.sqlite3")
    pod("-worker-default", WORKER)
    wait_until(lambda: "tick" in image.ledger() or not beat.alive, timeout=PATIENCE)
    assert beat.alive, beat.output()
    assert beat.stop(timeout=30) == 0


def test_flower_is_healthy_for_everybody_and_open_to_those_with_the_password(image, pod):
    port = free_port()
    change = {"flower": {"enabled": True, "auth": {"existingSecret": "flower"}}}
    here = [("0.0.0.0", "127.0.0.1"), ("5555", str(port))]
    flower = pod("-flower", change, replace=here, FLOWER_BASIC_AUTH="ops:long-word")

    def status(path, user=None):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        if user:
            request.add_header("Authorization", f"Basic {user}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    wait_until(lambda: not flower.alive or status("/healthcheck") == 200, timeout=PATIENCE)
    assert flower.alive, flower.output()
    assert status("/") == 401
    assert status("/api/workers") == 401
    assert status("/", "b3BzOmxvbmctd29yZA==") == 200

    check = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["flower"]["healthcheck"]["test"]
    text = check[-1].replace("5555", str(port))
    assert check[:3] == ["CMD", "python", "-c"]
    assert subprocess.run([*image.python, "-c", text], check=False, timeout=PATIENCE).returncode == 0
    assert flower.stop(timeout=30) == 0
    assert subprocess.run([*image.python, "-c", text], check=False, timeout=PATIENCE, stderr=-3).returncode != 0


def test_the_redis_of_the_compose_file_keeps_what_it_takes_and_asks_for_the_password(tmp_path):
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]
    shell, flag, script = service["entrypoint"]
    port = free_port()
    script = script.replace("$$", "$").replace("/data", str(tmp_path))
    script = script.replace("redis-server -", f"{redis_binary()} - --bind 127.0.0.1 --port {port}", 1)
    server = Program([shell, flag, script], log=tmp_path / "log", env={"REDIS_PASSWORD": "long-word"}).start()
    try:
        client = redis.Redis(port=port, password="long-word", decode_responses=True)
        wait_until(client.ping)
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert 0 < int(client.config_get("maxmemory")["maxmemory"]) < 512 * 2**20
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        client.close()
    finally:
        assert server.stop() == 0
    assert "long-word" not in server.output()
