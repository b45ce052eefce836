"""
A team's folder: its own tasks, the platform's command line, workers as real processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
CELERY = Path(sys.executable).with_name("celery")


class Deployment:
    """
    *folder* with a package of tasks; *settings* are environment variables of every command that runs there.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PLATFORM_")}
        self.environment = {**inherited, **settings}
        self._workers: list[Program] = []

    def write(self, path: str, text: str) -> Path:
        """
        Write a file of the folder.
        """
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def celery(self, *words: str, timeout: float = 60, **settings: str) -> subprocess.CompletedProcess[str]:
        """
        Run ``celery -A platform`` with *words* to its end.
        """
        return self.run([str(CELERY), "-A", "platform", *words], timeout=timeout, **settings)

    def python(self, text: str, *, timeout: float = 60, **settings: str) -> subprocess.CompletedProcess[str]:
        """
        Run a program text in the folder.
        """
        return self.run([sys.executable, "-c", text], timeout=timeout, **settings)

    def run(self, argv: list[str], *, timeout: float, **settings: str) -> subprocess.CompletedProcess[str]:
        """
        Run *argv* in the folder to its end and return what it said.
        """
        return subprocess.run(
            argv,
            cwd=self.folder,
            env={**self.environment, **settings},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def worker(self, *words: str, wait: bool = True, environment: Mapping[str, str] | None = None) -> Program:
        """
        Start a worker with *words*; returns when it takes calls, unless *wait* is false.
        """
        number = len(self._workers) + 1
        argv = [CELERY, "-A", "platform", "worker", "--loglevel=INFO", f"--hostname=w{number}@%h", *words]
        settings = {**self.environment, **(environment or {})}
        program = Program(argv, log=self.folder / f"worker-{number}.log", env=settings, cwd=self.folder)
        self._workers.append(program.start())
        if wait:
            program.wait_for_output(" ready.")
        return program

    def stop(self) -> None:
        """
        Stop every worker that still runs.
        """
        for worker in self._workers:
            worker.stop(timeout=40)
