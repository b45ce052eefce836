"""
The embedded Redis is one per folder, outlives whoever is killed, and leaves with its last user.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time

import psutil
import pytest
import redis
from celery import Celery
from click.testing import CliRunner

from celery_platform import embedded
from celery_platform.cli.embedded import embedded as command
from celery_platform.embedded.place import Place
from celery_platform.errors import EmbeddedServerError
from tests.servers import missing
from tests.waiting import assert_stays, gone, wait_until

USER = """
import sys
from pathlib import Path
from celery_platform import embedded
embedded.ensure_running(Path(sys.argv[1]))
print(embedded.status(Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""


class User:
    """Another process that uses the embedded server until it is told to leave, or killed."""

    def __init__(self, folder, script=USER, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def server_pid(self):
        line = self.process.stdout.readline()
        return int(line) if line else pytest.fail(self.process.stderr.read())

    def leave(self):
        _, errors = self.process.communicate(timeout=60)
        return errors

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture(autouse=True)
def _server_installed():
    try:
        embedded.binary.find_server()
    except EmbeddedServerError as error:
        missing(str(error))


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    embedded.stop(tmp_path)


@pytest.fixture
def user(folder):
    someone = User(folder)
    yield someone
    someone.kill()


def client(folder):
    return redis.Redis.from_url(embedded.socket_url(folder), decode_responses=True)


def running(folder):
    try:
        found = embedded.status(folder)
    except OSError:
        return None
    return found if found and found.state == "ready" else None


def lock_is_free(folder):
    return embedded.status(folder) is None and not embedded.stop(folder)


def test_it_serves_and_a_second_call_changes_nothing(folder, capfd):
    embedded.ensure_running(folder)
    first = embedded.status(folder)
    embedded.ensure_running(folder)
    assert embedded.status(folder).pid == first.pid
    assert embedded.status(folder).users == 1
    with client(folder) as redis_client:
        assert redis_client.ping()
    assert capfd.readouterr().err.count("embedded Redis") == 1


def test_a_second_call_is_cheap(folder):
    embedded.ensure_running(folder)
    begun = time.process_time()
    for _ in range(1000):
        embedded.ensure_running(folder)
    assert time.process_time() - begun < 0.5


def test_twenty_processes_at_once_get_one_server(folder):
    users = [User(folder) for _ in range(20)]
    try:
        assert len({user.server_pid() for user in users}) == 1
        assert embedded.status(folder).users == 20
    finally:
        errors = [user.leave() for user in users]
    announced = [text for text in errors if text]
    assert len(announced) == 1
    assert "data in .celery-platform/; set PLATFORM_BROKER_URL in production" in announced[0]
    assert announced[0].count("\n") == 1


def test_it_leaves_with_its_last_user_and_keeps_the_data(folder):
    first, second = User(folder), User(folder)
    pid = first.server_pid()
    second.server_pid()
    guardian = embedded.status(folder).guardian_pid
    with client(folder) as redis_client:
        redis_client.set("kept", "yes")
    first.leave()
    assert not gone(pid)
    second.leave()
    wait_until(lambda: gone(pid) and gone(guardian), what="server and guardian to go")
    assert not Place.of(folder).socket.exists()
    embedded.ensure_running(folder)
    with client(folder) as redis_client:
        assert redis_client.get("kept") == "yes"


def test_a_killed_user_neither_stops_it_for_the_others_nor_keeps_it_alive(folder):
    killed, other = User(folder), User(folder)
    pid = killed.server_pid()
    assert other.server_pid() == pid
    killed.kill()
    wait_until(lambda: embedded.status(folder).users == 1)
    with client(folder) as redis_client:
        assert redis_client.ping()
    other.kill()
    wait_until(lambda: gone(pid), what="the server to leave after its last user was killed")


def test_a_killed_server_is_started_again_with_everything_it_had_acknowledged(folder, user):
    pid = user.server_pid()
    with client(folder) as redis_client:
        redis_client.rpush("queue", *range(1000))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: running(folder) and running(folder).pid != pid, what="another server")
        assert redis_client.llen("queue") == 1000
    assert embedded.status(folder).restarts == 1


def test_a_killed_guardian_takes_the_server_along_and_the_next_call_starts_both(folder):
    embedded.ensure_running(folder)
    before = embedded.status(folder)
    with client(folder) as redis_client:
        redis_client.set("kept", "yes")
    os.kill(before.guardian_pid, signal.SIGKILL)
    wait_until(lambda: gone(before.guardian_pid))
    embedded.ensure_running(folder)
    after = embedded.status(folder)
    wait_until(lambda: gone(before.pid), what="the first server to end")
    assert (after.pid, after.guardian_pid) != (before.pid, before.guardian_pid)
    with client(folder) as redis_client:
        assert redis_client.get("kept") == "yes"


def test_a_killed_guardian_leaves_no_server_when_nobody_comes(folder, user):
    pid = user.server_pid()
    os.kill(embedded.status(folder).guardian_pid, signal.SIGKILL)
    wait_until(lambda: gone(pid), what="the server to follow its guardian")


def test_a_forked_child_keeps_it_when_the_parent_is_killed_and_may_ask_itself(folder):
    script = USER.replace(
        "sys.stdin.read()",
        "import os, signal\n"
        "if os.fork() == 0:\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    embedded.ensure_running(Path(sys.argv[1]))\n"
        "    print(embedded.status(Path(sys.argv[1])).pid, flush=True)\n"
        "    sys.stdin.read()\n"
        "sys.stdin.read()",
    )
    parent = User(folder, script)
    pid = parent.server_pid()
    assert parent.server_pid() == pid
    parent.process.wait(30)
    assert running(folder).pid == pid
    parent.leave()
    wait_until(lambda: gone(pid))


def test_ctrl_c_in_the_terminal_of_its_starter_does_not_reach_it(folder, user):
    pid = user.server_pid()
    found = embedded.status(folder)
    assert os.getsid(found.pid) == os.getsid(found.guardian_pid) != os.getsid(user.process.pid)
    assert psutil.Process(found.guardian_pid).ppid() != user.process.pid
    assert psutil.Process(pid).ppid() == found.guardian_pid


def test_stop_ends_it_whoever_uses_it_and_the_next_call_finds_the_data(folder):
    embedded.ensure_running(folder)
    with client(folder) as redis_client:
        redis_client.set("kept", "yes")
    found = embedded.status(folder)
    assert embedded.stop(folder) is True
    assert gone(found.pid)
    assert embedded.status(folder) is None
    assert embedded.stop(folder) is False
    embedded.ensure_running(folder)
    with client(folder) as redis_client:
        assert redis_client.get("kept") == "yes"


@pytest.mark.parametrize("name", ["d" * 120, "two words"])
def test_a_folder_no_socket_path_fits_in_is_served_all_the_same(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    embedded.ensure_running(folder)
    try:
        with client(folder) as redis_client:
            assert redis_client.ping()
        assert (folder / ".celery-platform" / "appendonlydir").is_dir()
    finally:
        embedded.stop(folder)
    assert not Place.of(folder).sockets.exists()


def test_nobody_else_may_look_into_its_data(folder):
    embedded.ensure_running(folder)
    assert stat.S_IMODE(Place.of(folder).home.stat().st_mode) == 0o700
    assert (Place.of(folder).home / ".gitignore").read_text() == "*\n"


def test_it_is_set_up_so_that_acknowledged_calls_survive(folder):
    embedded.ensure_running(folder)
    with client(folder) as redis_client:
        words = {name: redis_client.config_get(name)[name] for name in ("appendonly", "appendfsync", "port")}
        assert words == {"appendonly": "yes", "appendfsync": "always", "port": "0"}
        assert redis_client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_a_file_it_cannot_read_is_an_error_that_tells_why(folder):
    embedded.start(folder)
    embedded.stop(folder)
    (manifest,) = (Place.of(folder).home / "appendonlydir").glob("*.manifest")
    manifest.write_text("nonsense\n")
    with pytest.raises(EmbeddedServerError, match=r"did not start: .*server\.log"):
        embedded.ensure_running(folder)
    manifest.unlink()
    wait_until(lambda: lock_is_free(folder), what="the failed guardian to leave")


@pytest.mark.parametrize("binary", ["/bin/false", "/nonexistent/redis-server"])
def test_a_server_that_does_not_run_is_an_error_at_once(folder, monkeypatch, binary):
    monkeypatch.setattr("celery_platform.embedded.session.find_server", lambda: binary)
    begun = time.monotonic()
    with pytest.raises(EmbeddedServerError, match="did not start"):
        embedded.ensure_running(folder)
    assert time.monotonic() - begun < 20


def test_a_folder_that_cannot_be_written_is_an_error_with_the_remedy(tmp_path):
    (tmp_path / ".celery-platform").write_text("in the way")
    with pytest.raises(EmbeddedServerError, match="PLATFORM_WORKDIR"):
        embedded.ensure_running(tmp_path)


def test_celery_uses_it_as_broker_and_for_results(folder):
    embedded.ensure_running(folder)
    app = Celery(broker=embedded.broker_url(folder), backend=embedded.result_url(folder))
    app.conf.task_default_queue = "some"
    call = app.send_task("tasks.unknown", (1,))
    app.backend.store_result(call.id, 42, "SUCCESS")
    assert call.get(timeout=20) == 42
    with client(folder) as redis_client:
        assert redis_client.llen("some") == 1
    app.close()


def test_flower_reads_the_length_of_its_queues(folder):
    import asyncio

    broker = pytest.importorskip("flower.utils.broker")
    embedded.ensure_running(folder)
    with client(folder) as redis_client:
        redis_client.rpush("some", "a", "b")
    found = asyncio.run(broker.Broker(embedded.broker_url(folder)).queues(["some"]))
    assert found == [{"name": "some", "messages": 2}]


def test_the_command_starts_shows_and_stops_it(folder, monkeypatch):
    monkeypatch.setenv("PLATFORM_WORKDIR", str(folder))
    run = CliRunner().invoke
    assert run(command, ["status"]).exit_code == 1
    assert run(command, ["start"]).exit_code == 0
    shown = run(command, ["status", "--json"])
    facts = json.loads(shown.stdout)
    assert (shown.exit_code, facts["running"], facts["users"], facts["kept"]) == (0, True, 0, True)
    assert str(folder) in run(command, ["status"]).stdout
    # Longer than a server without users stays otherwise.
    assert_stays(lambda: embedded.status(folder).pid == facts["pid"], seconds=2.5)
    assert run(command, ["stop"]).exit_code == 0
    assert run(command, ["stop"]).exit_code == 1
    assert json.loads(run(command, ["status", "--json"]).stdout)["running"] is False
    assert run(command, ["nonsense"]).exit_code == 2
