"""
What hides payloads, and what an open console is refused with.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from celery_platform import console
from celery_platform.console.door import check_exposure
from celery_platform.console.gate import HIDDEN, masked
from celery_platform.errors import ConfigurationError


def options(address="", unix_socket="", auth="", basic_auth=()):
    return SimpleNamespace(address=address, unix_socket=unix_socket, auth=auth, basic_auth=list(basic_auth))


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.7", "flower.internal", ""])
def test_a_console_that_others_reach_needs_a_log_in(address):
    with pytest.raises(ConfigurationError, match="FLOWER_BASIC_AUTH"):
        check_exposure(options(address))
    check_exposure(options(address, basic_auth=["kim:tulip"]))
    check_exposure(options(address, auth="kim@example.com"))


def test_a_socket_that_every_user_may_open_needs_a_log_in():
    with pytest.raises(ConfigurationError, match=r"/run/flower\.sock"):
        check_exposure(options("127.0.0.1", unix_socket="/run/flower.sock"))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_console_for_this_machine_needs_none(address):
    check_exposure(options(address))


def test_payloads_are_hidden_at_any_depth_and_nothing_else_is():
    said = {
        "active": [{"id": "7", "args": ["tulip"], "kwargs": {"card": "tulip"}, "info": {"result": "tulip"}}],
        "n": 1,
    }
    assert masked(said) == {
        "active": [{"id": "7", "args": HIDDEN, "kwargs": HIDDEN, "info": {"result": HIDDEN}}],
        "n": 1,
    }
    assert said["active"][0]["args"] == ["tulip"]


def test_a_task_is_hidden_in_a_copy():
    task = SimpleNamespace(uuid="7", args="tulip", kwargs="tulip", result="tulip", state="SUCCESS")
    hidden = masked(task)
    assert (hidden.args, hidden.kwargs, hidden.result, hidden.state) == (HIDDEN, HIDDEN, HIDDEN, "SUCCESS")
    assert task.args == "tulip"


def test_another_configuration_on_the_command_line_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["celery", "-A", "platform", "flower", "--conf=mine.py"])
    with pytest.raises(SystemExit) as ended:
        console.announce()
    assert ended.value.code == 2
    assert "FLOWER_CONF" in capsys.readouterr().err


def test_the_deployments_own_configuration_is_found_by_its_variable_or_beside_the_tasks(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["celery", "flower"])
    monkeypatch.setenv("PLATFORM_CONSOLE_FLOWER_CONF", "")
    monkeypatch.setenv("FLOWER_CONF", "/etc/flower.py")
    monkeypatch.chdir(tmp_path)
    console.announce()
    assert console.configuration_of_the_deployment().as_posix() == "/etc/flower.py"
    monkeypatch.setenv("FLOWER_CONF", "")
    console.announce()
    assert console.configuration_of_the_deployment() is None
    (tmp_path / "flowerconfig.py").touch()
    assert console.configuration_of_the_deployment() == tmp_path / "flowerconfig.py"
