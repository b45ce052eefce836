"""
Hold the embedded Redis of a folder for as long as this process lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery_platform.embedded.binary import find_server
from celery_platform.embedded.place import Place
from celery_platform.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Status", "ensure_running", "start", "status", "stop"]

_PATIENCE = 60.0  # seconds until a start is given up: the server may have a long file to read
_GUARDIAN = Path(__file__).with_name("guardian.py")


@dataclass(frozen=True, slots=True)
class Status:
    """
    What runs in a folder.

    `state` is ``starting``, ``ready`` or ``failed`` (then `reason` tells why). `version` is name and number of the
    server, empty while it starts; `uptime` is in seconds; `kept` tells that it stays without users until it is stopped.
    """

    state: str
    reason: str
    version: str
    pid: int | None
    guardian_pid: int
    users: int
    kept: bool
    restarts: int
    uptime: float


@dataclass(frozen=True, slots=True)
class _Hold:
    connection: socket.socket
    pid: int

    def stands(self) -> bool:
        """
        Tell whether this very process is a user of a living guardian.
        """
        if self.pid != os.getpid():
            return False
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False


_holds: dict[Path, _Hold] = {}
# Connections that a forked child got from its parent: they stay open, so a child counts before it first asks, but their
# descriptors may have been closed and given to something else, so they are never touched again.
_inherited: list[socket.socket] = []
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _inherited.extend(hold.connection for hold in _holds.values())
    _holds.clear()


os.register_at_fork(after_in_child=_after_fork)


def ensure_running(folder: Path | None = None) -> None:
    """
    Start the embedded Redis of *folder* unless it runs, and keep it up until this process ends.

    The working directory is the default. Safe to call from any number of processes and threads at once, and cheap when
    nothing is to do. Call it again after a lost connection: it starts what has died since.

    Raises `EmbeddedServerError` when no server is installed or it does not start.
    """
    place = Place.of(folder)
    with _lock:
        hold = _holds.get(place.folder)
        if hold is not None and hold.stands():
            return
        if hold is not None:
            hold.connection.close()
        _holds[place.folder] = _Hold(_hold(place, "hold"), os.getpid())


def start(folder: Path | None = None) -> None:
    """
    Start the embedded Redis of *folder* and let it run without users until `stop`.

    Raises `EmbeddedServerError` when no server is installed or it does not start.
    """
    _hold(Place.of(folder), "keep").close()


def stop(folder: Path | None = None) -> bool:
    """
    Stop the embedded Redis of *folder* cleanly, whoever uses it; return False when none runs.

    The data stay. Raises `EmbeddedServerError` when it is not gone after a minute.
    """
    place = Place.of(folder)
    connection = _connect(place)
    if connection is None:
        return False
    with connection:
        _say(connection, "stop")
        _read(connection, time.monotonic() + _PATIENCE)
    with _locked(place.home / "guardian.lock", time.monotonic() + _PATIENCE):
        return True


def status(folder: Path | None = None) -> Status | None:
    """
    Tell what runs in *folder*, without becoming its user; None when nothing does.
    """
    connection = _connect(Place.of(folder))
    if connection is None:
        return None
    with connection:
        _say(connection, "status")
        answer = _read(connection, time.monotonic() + _PATIENCE)
    return Status(**answer) if answer else None


def _hold(place: Place, word: str) -> socket.socket:
    """
    Return a connection to the guardian of *place* that counts as a user; start what is missing.
    """
    deadline = time.monotonic() + _PATIENCE
    started = False
    while time.monotonic() < deadline:
        connection = _connect(place)
        if connection is None:
            started = _start_guardian(place, deadline) or started
            continue
        _say(connection, word)
        answer = _read(connection, deadline)
        if answer and answer["state"] == "ready":
            connection.settimeout(0)
            if started:
                _announce(answer["version"])
            return connection
        connection.close()
        if answer:
            raise EmbeddedServerError(
                f"The embedded Redis of {place.folder} did not start: {answer['reason']}. "
                f"See {place.home / 'server.log'}; set PLATFORM_BROKER_URL to use another server."
            )
        # Otherwise the guardian was about to leave: go round again.
    raise EmbeddedServerError(
        f"The embedded Redis of {place.folder} did not answer within {_PATIENCE:g} s. "
        f"See {place.home / 'server.log'}; `celery -A platform embedded stop` ends it."
    )


def _start_guardian(place: Place, deadline: float) -> bool:
    """
    Start the guardian of *place*; return False when another process has done so meanwhile.
    """
    try:
        place.home.mkdir(mode=0o700, exist_ok=True)
        (place.home / ".gitignore").write_text("*\n")
    except OSError as error:
        raise EmbeddedServerError(
            f"The embedded Redis cannot keep its data in {place.home}: {error.strerror}. "
            "Run in a folder you may write to, set PLATFORM_WORKDIR to one, or set PLATFORM_BROKER_URL."
        ) from error
    with _locked(place.home / "start.lock", deadline):
        if (connection := _connect(place)) is not None:
            connection.close()
            return False
        argv = [_python(), "-I", "-S", str(_GUARDIAN), str(place.home), str(place.sockets), find_server()]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True)  # noqa: S603
    if done.returncode:
        raise EmbeddedServerError(f"The embedded Redis of {place.folder} did not start: {done.stderr.strip()}")
    return True


def _python() -> str:
    # Inside an application server `sys.executable` is that server; any Python 3 will do for the guardian.
    own = sys.executable or ""
    return own if "python" in Path(own).name else shutil.which("python3") or own


def _announce(version: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(
            f"celery-platform: embedded Redis ({version}) started for this folder; data in .celery-platform/; "
            "set PLATFORM_BROKER_URL in production\n"
        )
        sys.stderr.flush()


def _connect(place: Place) -> socket.socket | None:
    if not _is_ours(place):
        return None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(place.guardian))
    except OSError:
        connection.close()
        return None
    return connection


def _is_ours(place: Place) -> bool:
    """
    Tell whether the folders of *place* exist.

    Raises `EmbeddedServerError` when one belongs to somebody else, who could listen in our place.
    """
    for folder in place.private_folders:
        try:
            owner = folder.lstat().st_uid
        except OSError:
            return False
        if owner != os.getuid():
            raise EmbeddedServerError(
                f"{folder} belongs to another user (uid {owner}). Run as that user, or set PLATFORM_BROKER_URL."
            )
    return True


def _say(connection: socket.socket, word: str) -> None:
    with contextlib.suppress(OSError):  # it left: the answer will be none
        connection.sendall(f"{word}\n".encode())


def _read(connection: socket.socket, deadline: float) -> dict[str, Any] | None:
    """
    Return the answer of the guardian, or None when it has closed the connection.
    """
    line = b""
    try:
        while not line.endswith(b"\n"):
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            if not (part := connection.recv(4096)):
                return None
            line += part
    except OSError:
        return None
    answer: dict[str, Any] = json.loads(line)
    return answer


@contextlib.contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(
                        f"{path} is held by another process for more than {_PATIENCE:g} s. "
                        "End that process, or set PLATFORM_BROKER_URL."
                    ) from error
            time.sleep(0.01)
        yield
