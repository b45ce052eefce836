from __future__ import annotations

import importlib

import pytest

import beat


@pytest.fixture
def schedule_of(monkeypatch):
    """
    The schedule as an environment makes it.
    """

    def read(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return {entry.name: entry for entry in importlib.reload(beat).schedule}

    yield read
    monkeypatch.undo()
    importlib.reload(beat)


def test_every_entry_rests_until_its_folder_is_configured(schedule_of):
    assert {entry.enabled for entry in schedule_of().values()} == {False}


def test_a_configured_entry_runs_on_its_folder(schedule_of):
    entries = schedule_of(TASKS_BACKUP_FOLDER="/backups")

    assert [name for name, entry in entries.items() if entry.enabled] == ["nightly backup"]
    assert entries["nightly backup"].kwargs == {"folder": "/backups"}
    assert entries["nightly backup"].task == "tasks.maintenance.backup_database"
