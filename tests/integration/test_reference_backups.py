"""
Backups of a real PostgreSQL.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest

from celery_platform import Dead, Secret
from tasks.backups import DumpFailed
from tasks.maintenance import backup_database
from tests.servers import free_port, need, postgres_binary


@pytest.fixture(autouse=True)
def _client_programs(monkeypatch):
    need("pg_dump", also=[Path(postgres_binary("pg_dump"))])


@pytest.fixture
def shop(postgres_server):
    """
    A database with a thousand orders.
    """
    url = postgres_server.create_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id")
    return url


def test_a_dump_can_be_restored(postgres_server, shop, tmp_path):
    backup = backup_database(tmp_path, Secret(shop))

    restored = postgres_server.create_database()
    subprocess.run(["pg_restore", f"--dbname={restored}", backup.path], check=True)
    with psycopg.connect(restored) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (1000,)
    assert backup.path.stat().st_mode & 0o077 == 0


def test_the_url_of_the_environment_is_used_when_none_is_given(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("TASKS_BACKUP_URL", shop)

    assert backup_database(tmp_path).size > 0


def test_a_server_that_is_not_there_is_tried_again_and_leaves_nothing(tmp_path):
    url = Secret(f"postgresql://ada:s3cret@127.0.0.1:{free_port()}/shop")

    with pytest.raises(DumpFailed, match="pg_dump ended with 1") as failed:
        backup_database(tmp_path, url)
    assert "s3cret" not in str(failed.value)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_without_pg_dump_says_what_to_install(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Dead, match="pg_dump is not on PATH"):
        backup_database(tmp_path / "backups", Secret(shop))
