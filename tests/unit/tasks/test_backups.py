from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from datetime import timedelta

import pytest

from celery_platform import Dead, Secret
from tasks.backups import _connection
from tasks.maintenance import backup_database


def _database(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE orders (id INTEGER)")
        database.executemany("INSERT INTO orders VALUES (?)", [(number,) for number in range(1000)])
        database.commit()
    return Secret(f"sqlite:///{path}")


def _rows(path):
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT count(*) FROM orders").fetchone()[0]


def test_a_backup_holds_what_the_database_held(tmp_path):
    backup = backup_database(tmp_path / "backups", _database(tmp_path / "shop.db"))

    assert _rows(backup.path) == 1000
    assert backup.size == backup.path.stat().st_size
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [backup.path.name]


def test_a_database_in_use_is_copied_as_it_was_last_committed(tmp_path):
    url = _database(tmp_path / "shop.db")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as writer:
        writer.execute("INSERT INTO orders VALUES (1000)")  # not committed

        backup = backup_database(tmp_path / "backups", url)

    assert _rows(backup.path) == 1000


def test_a_damaged_database_gives_no_backup_and_costs_no_older_one(tmp_path):
    url = _database(tmp_path / "shop.db")
    good = backup_database(tmp_path / "backups", url, minimum_age=timedelta(0), keep=1)
    with (tmp_path / "shop.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096))

    with pytest.raises((Dead, sqlite3.DatabaseError)):
        backup_database(tmp_path / "backups", url, minimum_age=timedelta(0), keep=1)
    assert list((tmp_path / "backups").iterdir()) == [good.path]


def test_the_newest_stay_and_so_does_what_is_young(tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir()
    for day in range(1, 10):
        old = folder / f"shop-2024010{day}T000000Z.sqlite3"
        old.touch()
        if day < 8:  # the eighth and ninth are young
            os.utime(old, (time.time() - 2 * 86_400,) * 2)
    bystander = folder / "shop-notes.sqlite3"
    bystander.touch()
    os.utime(bystander, (0, 0))

    backup = backup_database(folder, _database(tmp_path / "shop.db"), keep=2)

    assert backup.removed == 7
    assert sorted(path.name for path in folder.iterdir()) == [
        "shop-20240108T000000Z.sqlite3",
        "shop-20240109T000000Z.sqlite3",
        backup.path.name,
        "shop-notes.sqlite3",
    ]


@pytest.mark.parametrize("url", ["", "mysql://host/db", "postgresql://host/", "sqlite://"])
def test_a_url_that_names_no_database_is_dead(tmp_path, url):
    with pytest.raises(Dead, match="with a database"):
        backup_database(tmp_path, Secret(url))


def test_a_missing_database_is_dead_and_is_not_created(tmp_path):
    with pytest.raises(Dead, match="does not exist"):
        backup_database(tmp_path / "backups", Secret(f"sqlite:///{tmp_path}/none.db"))
    assert not (tmp_path / "none.db").exists()


def test_keeping_none_is_dead(tmp_path):
    with pytest.raises(Dead, match="keep expected at least 1"):
        backup_database(tmp_path, _database(tmp_path / "shop.db"), keep=0)


def test_a_password_reaches_libpq_by_the_environment():
    found = _connection("postgresql://ada:p%40ss@db.example.com:5433/shop?sslmode=verify-full")

    assert found == {
        "PGHOST": "db.example.com",
        "PGPORT": "5433",
        "PGUSER": "ada",
        "PGPASSWORD": "p@ss",
        "PGDATABASE": "shop",
        "PGSSLMODE": "verify-full",
        "PGCONNECT_TIMEOUT": "10",
    }
