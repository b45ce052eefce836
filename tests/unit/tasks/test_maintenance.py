from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from celery_platform import Dead
from tasks.maintenance import clean_logs, clean_temp_files

DAY = timedelta(days=1)


def _file(path, age=timedelta(0), size=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    _aged(path, age)
    return path


def _aged(path, age):
    moment = time.time() - age.total_seconds()
    os.utime(path, (moment, moment), follow_symlinks=False)


def test_old_logs_go_and_young_ones_and_other_files_stay(tmp_path):
    _file(tmp_path / "app.log.3", 20 * DAY, 100)
    _file(tmp_path / "deep" / "worker.log", 20 * DAY, 50)
    young, other = _file(tmp_path / "app.log"), _file(tmp_path / "ledger.db", 20 * DAY)

    cleaned = clean_logs(tmp_path)

    assert (cleaned.files, cleaned.size, cleaned.failed) == (2, 150, 0)
    assert young.exists()
    assert other.exists()


def test_a_dry_run_counts_the_same_and_removes_nothing(tmp_path):
    old = _file(tmp_path / "app.log", 20 * DAY, 100)

    cleaned = clean_logs(tmp_path, dry_run=True)

    assert (cleaned.files, cleaned.size, cleaned.dry_run) == (1, 100, True)
    assert old.exists()


def test_an_age_is_to_the_second(tmp_path):
    _file(tmp_path / "older", timedelta(seconds=3610))
    _file(tmp_path / "younger", timedelta(seconds=3590))

    clean_temp_files(tmp_path, timedelta(hours=1))

    assert [path.name for path in tmp_path.iterdir()] == ["younger"]


def test_links_lead_nowhere_and_stay(tmp_path):
    root, outside = tmp_path / "root", _file(tmp_path / "outside" / "precious", 20 * DAY)
    root.mkdir()
    (root / "file").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)
    for link in root.iterdir():
        _aged(link, 20 * DAY)

    cleaned = clean_temp_files(root)

    assert cleaned.files == 0
    assert outside.exists()
    assert len(list(root.iterdir())) == 2


def test_old_empty_folders_go_and_young_or_filled_ones_stay(tmp_path):
    for name in ("old", "young", "filled"):
        (tmp_path / name).mkdir()
    _file(tmp_path / "filled" / "file")
    for name in ("old", "filled"):
        _aged(tmp_path / name, 20 * DAY)

    clean_temp_files(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["filled", "young"]


def test_only_the_given_pattern_goes(tmp_path):
    _file(tmp_path / "upload-1.part", 2 * DAY)
    _file(tmp_path / "upload-1.done", 2 * DAY)

    clean_temp_files(tmp_path, pattern="*.part")

    assert [path.name for path in tmp_path.iterdir()] == ["upload-1.done"]


@pytest.mark.parametrize("root", [Path("/"), Path.home(), Path("/usr/..")])
def test_the_whole_machine_is_never_cleaned(root):
    with pytest.raises(Dead, match="no folder to clean"):
        clean_temp_files(root, dry_run=True)


def test_a_folder_that_is_not_there_is_dead(tmp_path):
    with pytest.raises(Dead, match="does not exist"):
        clean_logs(tmp_path / "none")
