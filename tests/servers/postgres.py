"""
A private PostgreSQL cluster.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg

from tests.servers.process import Program, Server, free_port, need


def postgres_binary(name: str) -> str:
    """
    Return a program of PostgreSQL's newest installed version; Debian keeps them out of PATH.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    return need(name, also=[folder / name for folder in reversed(versions)])


class PostgresServer(Server):
    """
    A PostgreSQL cluster on a private port; run as the user `postgres` when the tests run as root.

    It does not sync to disk: a test that needs crash safety of the machine says so itself.
    """

    def __init__(self) -> None:
        self._postgres = postgres_binary("postgres")
        initdb = postgres_binary("initdb")
        super().__init__("postgres")
        self.port = 0
        self._numbers = itertools.count(1)
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, self._user, self._user)
        self._data = self.folder / "data"
        subprocess.run(
            [initdb, "-D", self._data, "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
        )

    def new_ports(self) -> None:
        self.port = free_port()

    def launch(self) -> Program:
        argv = [self._postgres, "-D", self._data, "-p", str(self.port), "-k", self.folder]
        argv += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=200"]
        return Program(argv, log=self.folder / "server.log", cwd=self.folder, user=self._user).start()

    def answers(self) -> bool:
        with psycopg.connect(self.url(), connect_timeout=2):
            return True

    def stop(self) -> None:
        if self.program is not None:
            self.program.stop(number=signal.SIGINT)  # "fast": open sessions are ended

    def url(self, database: str = "postgres") -> str:
        """
        Return the URL of *database*.
        """
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """
        Make a fresh database and return its URL.
        """
        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)
