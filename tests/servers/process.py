"""
Start real programs for tests, stop them, and know that nothing stays behind.

Every program lives in its own session and dies with the test run, even when that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

#: Every descendant of the run carries this variable, also one that has detached itself.
RUN_VARIABLE = "CELERY_PLATFORM_TEST_RUN"

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
# Below the range the kernel hands to outgoing connections: a server that is restarted finds its port free.
_PORTS = range(20_000, 32_000)
_RANDOM = random.SystemRandom()


def need(program: str, *, also: Sequence[str | Path] = ()) -> str:
    """
    Return the path of *program*; skip the test when the machine lacks it, fail when `CI` is set.

    *also* are places to look besides PATH.
    """
    for place in (shutil.which(program), *also):
        if place and os.access(place, os.X_OK):
            return str(place)
    return missing(f"{program} is not installed: run scripts/install-test-servers")


def missing(reason: str) -> str:
    """
    Skip the test for *reason*, or fail it when `CI` is set: there, everything is to be tested.
    """
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (CI is set, so this is no reason to skip)", pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """
    Return a TCP port of the loopback interface that nothing listens on right now.
    """
    while True:
        port = _RANDOM.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def temporary_folder(name: str) -> Path:
    """
    Make a folder with a short path: unix sockets allow 108 bytes.
    """
    return Path(tempfile.mkdtemp(prefix=f"cp-{name}-"))


class Program:
    """One child process with its output in a file."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.argv = [str(part) for part in argv]
        self.log = log
        self._env = dict(env or {})
        self._cwd = cwd
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """
        Start the program; its output is appended to the log.
        """
        assert not self.alive, f"{self.argv[0]} runs already"
        # The kernel ties the signal to the thread that forks; only the main thread lives as long as the run.
        in_main_thread = threading.current_thread() is threading.main_thread()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env={**os.environ, **self._env},
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                preexec_fn=_die_with_parent if in_main_thread else None,  # noqa: PLW1509 - one prctl, nothing more
            )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """
        The running process, or the last one.
        """
        assert self._process is not None, f"{self.argv[0]} was never started"
        return self._process

    @property
    def pid(self) -> int:
        """
        Its process id.
        """
        return self.process.pid

    @property
    def alive(self) -> bool:
        """
        Tell whether it runs (a paused program runs).
        """
        return self._process is not None and self._process.poll() is None

    def send(self, number: int) -> None:
        """
        Send signal *number* to the program alone.
        """
        if self.alive:
            self.process.send_signal(number)

    def pause(self) -> None:
        """
        Freeze the program with SIGSTOP: it accepts connections and never answers.
        """
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """
        Let a paused program go on.
        """
        self.send(signal.SIGCONT)

    def stop(self, *, number: int = signal.SIGTERM, timeout: float = 20) -> int | None:
        """
        Ask the program to end, kill its whole group when it does not within *timeout*; return its exit status.
        """
        if self._process is None:
            return None
        self.resume()
        self.send(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill_group()
        return self._process.wait(timeout)

    def kill9(self) -> None:
        """
        Kill the program (not its children) with SIGKILL and wait until it is gone.
        """
        self.send(signal.SIGKILL)
        self.process.wait(20)

    def kill_group(self) -> None:
        """
        Kill whatever is left of its process group with SIGKILL.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def output(self) -> str:
        """
        Return what it has written so far.
        """
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for_output(self, text: str, *, timeout: float = 60, times: int = 1) -> None:
        """
        Wait until *text* stands in the output; fail at once with the output when the program has died.
        """

        def seen() -> bool:
            return self.output().count(text) >= times or not self.alive

        wait_until(seen, timeout=timeout, what=f"{text!r} in the output of {self.argv[0]}:\n{self.output()[-2000:]}")
        assert self.output().count(text) >= times, f"{self.argv[0]} died:\n{self.output()[-3000:]}"


class Server:
    """What every server of the tests can do; also a context manager that starts and stops it."""

    #: Seconds a server gets to answer; a loaded machine is slow.
    patience = 60.0

    def __init__(self, name: str) -> None:
        self.folder = temporary_folder(name)
        self.program: Program | None = None

    def launch(self) -> Program:
        """
        Start the program of this server and return it.
        """
        raise NotImplementedError

    def answers(self) -> bool:
        """
        Tell whether the server serves requests; may raise when it does not.
        """
        raise NotImplementedError

    def new_ports(self) -> None:
        """
        Choose free ports; called again when another process took one in between.
        """

    def start(self) -> Self:
        """
        Start the server and wait until it answers.
        """
        first = self.program is None
        for _ in range(3):
            if first:
                self.new_ports()
            self.program = self.launch()
            wait_until(lambda: not self.running.alive or self.answers(), timeout=self.patience, what=f"{self}")
            if self.running.alive:
                return self
        raise AssertionError(f"{self} did not start:\n{self.running.output()[-3000:]}")

    @property
    def running(self) -> Program:
        """
        The program of a started server.
        """
        assert self.program is not None, f"{self} was never started"
        return self.program

    def stop(self) -> None:
        """
        Stop the server cleanly; its data stay until `remove`.
        """
        if self.program is not None:
            self.program.stop()

    def kill9(self) -> None:
        """
        Kill the server with SIGKILL.
        """
        self.running.kill9()
        self.running.kill_group()

    def pause(self) -> None:
        """
        Freeze the server: connections hang.
        """
        self.running.pause()

    def resume(self) -> None:
        """
        Let a paused server go on.
        """
        self.running.resume()

    def restart(self, *, kill: bool = False) -> None:
        """
        Stop the server (with SIGKILL when *kill*) and start it on the same ports with the same data.
        """
        if kill:
            self.kill9()
        else:
            self.stop()
        self.start()

    def remove(self) -> None:
        """
        Stop the server and delete its data.
        """
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __str__(self) -> str:
        return f"{type(self).__name__} in {self.folder}"


def descendants(run: str) -> Iterator[psutil.Process]:
    """
    Find the processes that carry *run* in `RUN_VARIABLE`, however far they have detached themselves.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                process.environ().get(RUN_VARIABLE) == run
                and process.pid != os.getpid()
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                yield process


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
