from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from celery_platform import embedded
from celery_platform.embedded.place import Place


def test_data_and_sockets_stand_in_the_folder(tmp_path):
    place = Place.of(tmp_path)
    assert place.home == tmp_path / ".celery-platform"
    assert place.socket.parent == place.guardian.parent == place.home


def test_the_working_directory_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Place.of().folder == tmp_path


def test_a_symbolic_link_leads_to_the_same_place(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert Place.of(tmp_path / "link") == Place.of(tmp_path / "real")


@pytest.mark.parametrize("name", ["x" * 110, "with space", "what?", "a#b", "50%", "grün"])
def test_a_folder_no_socket_url_can_name_gets_its_sockets_elsewhere(tmp_path, name):
    place = Place.of(tmp_path / name)
    assert place.home == tmp_path / name / ".celery-platform"
    assert place.sockets.parent.parent == Path("/tmp")
    assert len(str(place.guardian)) < 104


def test_two_deep_folders_do_not_share_sockets(tmp_path):
    assert Place.of(tmp_path / ("x" * 110)).sockets != Place.of(tmp_path / ("y" * 110)).sockets


@pytest.mark.parametrize("length", range(1, 12))
def test_no_socket_path_is_longer_than_the_kernel_takes(length):
    folder = "/" + "d" * (103 - len("/.celery-platform/guardian.sock") - 6 + length)
    assert len(str(Place.of(Path(folder)).guardian)) <= 103


def test_the_urls_name_the_socket_for_kombu_and_for_redis_py(tmp_path):
    socket = str(Place.of(tmp_path).socket)
    assert embedded.broker_url(tmp_path) == embedded.result_url(tmp_path) == f"redis+socket://{socket}?virtual_host=0"
    assert embedded.socket_url(tmp_path) == f"unix://{socket}?db=0"
    assert urlsplit(embedded.broker_url(tmp_path)).path == socket


def test_nothing_is_created_by_asking(tmp_path):
    embedded.broker_url(tmp_path)
    assert embedded.status(tmp_path) is None
    assert embedded.stop(tmp_path) is False
    assert list(tmp_path.iterdir()) == []
