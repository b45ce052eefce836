"""
Start worker, beat and Flower as any deployment would, and take them down again.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ROOT", "Stage", "free_port"]

ROOT = Path(__file__).resolve().parent.parent
_TERM_GRACE = 20.0
_PORTS = range(20_000, 32_000)


@dataclass(slots=True)
class Stage:
    """
    The processes of the demo; each has this process's environment, and writes its log into *folder*.
    """

    folder: Path
    flower_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def console(self) -> str:
        """
        Where the console is.
        """
        return f"http://127.0.0.1:{self.flower_port}/"

    def raise_curtain(self) -> None:
        """
        Start worker, beat and Flower.
        """
        self._start("worker", "--loglevel=INFO", "--concurrency=2", "--task-events", "--hostname=demo@localhost")
        self._start("beat", "--loglevel=INFO", f"--schedule={self.folder / 'beat'}")
        self._start("flower", "--address=127.0.0.1", f"--port={self.flower_port}", "--logging=warning")

    def _start(self, command: str, *options: str) -> None:
        with (self.folder / f"{command}.log").open("wb") as log:
            self.processes[command] = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-m", "celery", "-A", "platform", command, *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the demo, which then ends them one by one.
                start_new_session=True,
            )

    def fallen(self) -> str | None:
        """
        Name a process that ended too soon, or nothing.
        """
        return next((name for name, process in self.processes.items() if process.poll() is not None), None)

    def log_of(self, name: str, lines: int = 25) -> str:
        """
        Return the last *lines* of what *name* wrote.
        """
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def console_answers(self) -> bool:
        """
        Tell whether Flower serves, be it a page or the question who is asking.
        """
        try:
            urllib.request.urlopen(self.console, timeout=2).close()  # noqa: S310 - our own loopback URL
        except urllib.error.HTTPError as answered:
            answered.close()
            return answered.code < 500  # noqa: PLR2004
        except OSError:
            return False
        return True

    def drop_curtain(self) -> None:
        """
        Ask every process to end, and end those that do not within 20 seconds.
        """
        # Those that only watch go first; the worker may still be finishing something.
        for name in ("flower", "beat", "worker"):
            if name in self.processes:
                with contextlib.suppress(ProcessLookupError):
                    self.processes[name].send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _TERM_GRACE
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            # Each leads a session of its own, so its group holds its children and nobody else.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """
    Return a port of the loopback interface that nobody listens on.

    It lies below the range from which the kernel gives ports to whoever connects, so that it is still free a moment
    later.
    """
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
