"""
An HTTP server that keeps what it receives, and answers what it is told.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True)
class Received:
    """One request; `at` is the Unix time of its arrival, `headers` have lower-case names."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer once; *hang* never answers (until the server stops), *drop* closes the connection."""

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang: bool = False
    drop: bool = False


class HttpServer:
    """
    A real HTTP server with a thread a request.

    `script` queues answers, used up one a request; afterwards `default` is answered.
    """

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.default = Answer()
        self._answers: list[Answer] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    def script(self, *answers: Answer | int) -> None:
        """
        Queue *answers* (a number is a status) for the next requests.
        """
        with self._lock:
            self._answers += [Answer(status=answer) if isinstance(answer, int) else answer for answer in answers]

    def clear(self) -> None:
        """
        Forget requests and scripted answers.
        """
        with self._lock:
            self.requests.clear()
            self._answers.clear()
            self.default = Answer()

    def take(self, request: Received) -> Answer:
        """
        Keep *request* and return the answer that is due.
        """
        with self._lock:
            self.requests.append(request)
            return self._answers.pop(0) if self._answers else self.default

    def wait(self, answer: Answer) -> None:
        """
        Wait as *answer* says; a stopping server waits no longer.
        """
        if answer.hang or answer.delay:
            self._stopping.wait(None if answer.hang else answer.delay)

    def start(self) -> Self:
        """
        Listen on a private port of the loopback interface.
        """
        self._stopping.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="http", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """
        Stop listening; hanging requests end. `start` listens on the same port again.
        """
        self._stopping.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(10)
            self._server = None

    def url(self, path: str = "/") -> str:
        """
        Return the URL of *path*.
        """
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _handler(server: HttpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = server.take(Received(self.command, self.path, headers, body, time.time()))
            server.wait(answer)
            if answer.hang or answer.drop:
                self.close_connection = True
                return
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client gave up waiting
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Stay silent; `requests` tells more."""

    return Handler
