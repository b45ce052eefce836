"""
A mail server and a web server that take what the demo sends, and fail where its script says so.

Both listen on free ports of the loopback interface, and count how often each call knocked.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import threading
from collections import Counter
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer, StreamRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SECRET", "MailSink", "WebSink", "listening"]

SECRET = "whsec_" + base64.b64encode(b"the demo signs with this key").decode()
_BUSY_TIMES = 2


class MailSink(ThreadingTCPServer):
    """
    Takes mail; answers ``later@…`` with 451 the first time, and ``nobody@…`` with 550 always.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _MailHandler)
        self.knocks: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """
        Its ``smtp://`` URL.
        """
        return f"smtp://127.0.0.1:{self.server_address[1]}"


class _MailHandler(StreamRequestHandler):
    server: MailSink
    timeout = 30

    def handle(self) -> None:
        self._say("220 demo")
        recipient = ""
        for line in iter(self.rfile.readline, b""):
            words = line.decode("utf-8", "replace").strip()
            match words[:4].upper():
                case "RCPT":
                    recipient = words.partition("<")[2].partition(">")[0]
                    self._say("250 ok")
                case "DATA":
                    self._say("354 go on")
                    self._say(self._judge(recipient, self._message()))
                case "QUIT":
                    self._say("221 bye")
                    return
                case "EHLO" | "HELO" | "MAIL" | "RSET" | "NOOP":
                    self._say("250 demo")
                case _:
                    self._say("502 not here")

    def _message(self) -> bytes:
        lines = iter(self.rfile.readline, b".\r\n")
        return b"".join(line.removeprefix(b".") for line in lines)

    def _judge(self, recipient: str, message: bytes) -> str:
        # The Message-ID begins with the id of the call.
        call = message_from_bytes(message)["Message-ID"].strip("<>").partition("@")[0]
        self.server.knocks[call] += 1
        if recipient.startswith("nobody@"):
            return "550 5.1.1 no such mailbox"
        if recipient.startswith("later@") and self.server.knocks[call] == 1:
            return "451 4.7.1 greylisted, try again"
        return "250 taken"

    def _say(self, reply: str) -> None:
        self.wfile.write(reply.encode() + b"\r\n")


class WebSink(ThreadingHTTPServer):
    """
    Takes webhooks whose signature is right; ``/busy`` asks twice to come back, ``/gone`` is gone, ``/strict`` refuses.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _WebHandler)
        self.knocks: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """
        Its ``http://`` URL, without a path.
        """
        return f"http://127.0.0.1:{self.server_address[1]}"


class _WebHandler(BaseHTTPRequestHandler):
    server: WebSink
    timeout = 30

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        call = self.headers["webhook-id"]
        self.server.knocks[call] += 1
        status = self._status(call) if self._is_signed(call, body) else 401
        self.send_response(status)
        if status == 503:  # noqa: PLR2004
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _status(self, call: str) -> int:
        if self.path == "/busy" and self.server.knocks[call] <= _BUSY_TIMES:
            return 503
        return {"/gone": 410, "/strict": 422}.get(self.path, 204)

    def _is_signed(self, call: str, body: bytes) -> bool:
        content = f"{call}.{self.headers['webhook-timestamp']}.".encode() + body
        digest = hmac.digest(base64.b64decode(SECRET.removeprefix("whsec_")), content, hashlib.sha256)
        return hmac.compare_digest(self.headers["webhook-signature"], f"v1,{base64.b64encode(digest).decode()}")

    def log_message(self, *_: object) -> None:
        """Stay silent; the summary tells what came."""


@contextlib.contextmanager
def listening(server: BaseServer) -> Iterator[None]:
    """
    Serve in a thread for the length of the block.
    """
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
