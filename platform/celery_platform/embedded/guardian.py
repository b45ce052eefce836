"""
Watch over the embedded Redis of one folder: start it, restart it after a crash, stop it when its last user has left.

A program of its own (`python guardian.py HOME SOCKETS BINARY`), in the standard library alone, so that it starts in
some 30 ms and runs under any Python. It must not share a module with the rest of the package.

Each user holds a connection to `SOCKETS/guardian.sock`. The kernel closes it however the user ends, `kill -9` included,
so the count of users is always right. What a connection says first is one word:

- ``hold``: answer once the server serves, and count as a user until the connection closes
- ``keep``: the same, and stay without users until ``stop``
- ``status``: answer what is running
- ``stop``: stop the server cleanly; the connection is closed when it is gone

An answer is one line of JSON. Exit status of the program: 0 when the guardian is listening (detached by then), 1
when it could not, with the reason on stderr.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

GRACE = 2.0  # seconds without a user before the server is stopped
FIRST_USER = 20.0  # the same, before anyone has come at all
PROBE = 0.02  # seconds between two looks at a starting server
STOPPING = 20.0  # seconds a clean stop may take
CRASHES = 5  # deaths within CRASH_WINDOW seconds that end the guardian
CRASH_WINDOW = 20.0

_PR_SET_PDEATHSIG = 1


class Guardian:
    """The server of one folder, and who uses it."""

    def __init__(self, home: Path, sockets: Path, binary: str) -> None:
        self._home, self._sockets, self._binary = home, sockets, binary
        self._selector = selectors.DefaultSelector()
        self._connections: set[socket.socket] = set()
        self._users: set[socket.socket] = set()
        self._waiting: set[socket.socket] = set()
        self._server: subprocess.Popen[bytes] | None = None
        self._version = ""  # empty until the server serves
        self._served = False
        self._failure = ""  # why there will be no server
        self._started = self._idle_since = time.monotonic()
        self._crashes: list[float] = []
        self._restarts = 0
        self._patience = FIRST_USER
        self._kept = self._leaving = False

    def listen(self) -> None:
        """
        Take the lock of the folder and listen; wait for a guardian that is about to leave.

        Raises `TimeoutError` when another guardian keeps the lock.
        """
        self._lock = os.open(self._home / "guardian.lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + STOPPING
        while not _locked(self._lock):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another guardian or its server holds {self._home / 'guardian.lock'}")
            time.sleep(PROBE)
        for folder in (self._sockets.parent, self._sockets):
            folder.mkdir(mode=0o700, exist_ok=True)
        path = self._sockets / "guardian.sock"
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(512)
        self._listener.settimeout(0)

    def run(self) -> None:
        """
        Serve until the last user has left, or `stop` or SIGTERM says so.
        """
        self._heed_signals()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        try:
            self._start()
            while not self._finished():
                for key, _ in self._selector.select(self._timeout()):
                    if key.data is not None:
                        key.data()
                self._look_after_server()
        finally:
            self._close()

    def _heed_signals(self) -> None:
        reader, self._wakeup = socket.socketpair()
        reader.settimeout(0)
        self._wakeup.settimeout(0)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_leaving", True))
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        self._selector.register(reader, selectors.EVENT_READ, lambda: reader.recv(4096))

    def _timeout(self) -> float | None:
        if not self._version and not self._failure:
            return PROBE
        if self._users or self._kept:
            return None
        return max(0.0, self._idle_since + self._patience - time.monotonic()) + 0.001

    def _finished(self) -> bool:
        if self._leaving:
            return True
        idle = not self._connections and not self._kept
        return idle and time.monotonic() - self._idle_since >= self._patience

    # The server

    def _start(self) -> None:
        self._version = ""
        self._started = time.monotonic()
        try:
            self._launch()
        except (OSError, subprocess.SubprocessError) as error:
            self._give_up(str(error))

    def _launch(self) -> None:
        words = {
            "port": "0",
            "unixsocket": str(self._sockets / "redis.sock"),
            "unixsocketperm": "600",
            "dir": str(self._home),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            # With `everysec` a write may be put off while the disk syncs, after its caller has been answered: then
            # `kill -9` of the server loses a call that `delay()` had handed over. `always` cannot.
            "appendfsync": "always",
            "maxmemory": "0",
            "maxmemory-policy": "noeviction",
            "tcp-keepalive": "60",
        }
        argv = [self._binary, *(part for name, value in words.items() for part in (f"--{name}", value))]
        parent = os.getpid()
        with (self._home / "server.log").open("ab" if self._served else "wb") as log:
            self._server = subprocess.Popen(  # noqa: S603 - the path comes from our own look-up
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                # The lock lives as long as either of us: a new guardian never starts a second server on these data.
                pass_fds=(self._lock,),
                preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509 - this program has one thread
            )

    def _look_after_server(self) -> None:
        if self._failure or self._server is None:
            return
        if self._server.poll() is not None:
            self._mourn()
        elif not self._version and (version := _served_version(self._sockets / "redis.sock")):
            self._version, self._served = version, True
            for connection in self._waiting:
                self._tell(connection)
            self._waiting.clear()

    def _mourn(self) -> None:
        now = time.monotonic()
        self._crashes = [moment for moment in self._crashes if now - moment < CRASH_WINDOW] + [now]
        if self._served and len(self._crashes) < CRASHES:
            self._restarts += 1
            self._start()
            return
        lines = (self._home / "server.log").read_text(errors="replace").strip().splitlines()
        self._give_up(" | ".join(lines[-3:]) or "it ended without a word")

    def _give_up(self, reason: str) -> None:
        """
        Tell everyone that there is no server; stay a little for those who are on their way here.
        """
        self._failure = reason
        self._version = ""
        self._kept = False
        for connection in tuple(self._users):
            if connection in self._waiting:
                self._tell(connection)
            self._drop(connection)  # who asks again gets the reason
        self._patience, self._idle_since = GRACE, time.monotonic()

    # Who uses it

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.settimeout(0)
            self._connections.add(connection)
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(connection))

    def _hear(self, connection: socket.socket) -> None:
        if connection not in self._connections:  # dropped since it became readable
            return
        try:
            word = connection.recv(64).decode(errors="replace").strip()
        except BlockingIOError:
            return
        except OSError:
            word = ""
        if word in {"hold", "keep"}:
            self._kept = not self._failure and (self._kept or word == "keep")
            self._patience = GRACE
            self._users.add(connection)
            if self._version or self._failure:
                self._tell(connection)
            else:
                self._waiting.add(connection)
        elif word == "status":
            self._tell(connection)
        elif word == "stop":
            self._leaving = True
        else:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._connections.discard(connection)
        self._waiting.discard(connection)
        if connection in self._users:
            self._users.discard(connection)
            self._idle_since = time.monotonic()
        connection.close()

    def _tell(self, connection: socket.socket) -> None:
        _send(
            connection,
            {
                "state": "ready" if self._version else "failed" if self._failure else "starting",
                "reason": self._failure,
                "version": self._version,
                "pid": self._server.pid if self._server else None,
                "guardian_pid": os.getpid(),
                "users": len(self._users),
                "kept": self._kept,
                "restarts": self._restarts,
                "uptime": round(time.monotonic() - self._started, 3),
            },
        )

    def _close(self) -> None:
        # First the door: who comes now starts another guardian, which waits for our lock.
        (self._sockets / "guardian.sock").unlink(missing_ok=True)
        self._listener.close()
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(STOPPING)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        (self._sockets / "redis.sock").unlink(missing_ok=True)
        if self._sockets != self._home:
            with contextlib.suppress(OSError):
                self._sockets.rmdir()
        # Before the lock is free: who waits for it must find that his own connection is closed.
        for connection in self._connections:
            connection.close()
        os.close(self._lock)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before it could be watched
        os.kill(os.getpid(), signal.SIGKILL)


def _send(connection: socket.socket, answer: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _served_version(path: Path) -> str:
    """
    Return name and version of the server on *path*, or an empty string while it does not serve.
    """
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            if not probe.recv(64).startswith(b"+PONG"):  # it may still read its file
                return ""
            probe.sendall(b"INFO server\r\n")
            fields = dict(line.split(":", 1) for line in probe.recv(65536).decode().splitlines() if ":" in line)
    except (OSError, ValueError):
        return ""
    valkey = fields.get("valkey_version")
    return f"valkey {valkey}" if valkey else f"redis {fields.get('redis_version', '?')}"


def main(home: str, sockets: str, binary: str) -> None:
    """
    Listen, detach from whoever started us, and watch.
    """
    guardian = Guardian(Path(home), Path(sockets), binary)
    guardian.listen()
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir(home)
    log = os.open(Path(home) / "guardian.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(source, target)
    guardian.run()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as error:
        sys.exit(str(error))
