"""
Hold one buried call: what it was, why it ended, and all that is needed to send it again.
"""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import zlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from celery_platform.clock import SYSTEM
from celery_platform.dead_letters.fingerprint import fingerprint_of, traceback_of
from celery_platform.errors import DeadLetterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["DeadLetter", "Failure", "failure_of", "trace_id_of"]

_LONGEST_ERROR = 1024
_CUT = 2048
_TRACEPARENT = 4
# By the names that kombu gives them.
_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "application/x-gzip": zlib.decompress,
    "application/x-bz2": bz2.decompress,
    "application/x-lzma": lzma.decompress,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """
    One attempt that failed: *error* is the class, *message* its scrubbed text, *at* a Unix time in seconds.

    The traceback of an attempt before the last is cut to 2 KiB, since it travels with the call.
    """

    error: str
    message: str
    fingerprint: str
    at: float
    attempt: int = 0
    worker: str | None = None
    version: str = ""
    traceback: str = ""


def failure_of(
    error: BaseException,
    task: str,
    *,
    attempt: int,
    worker: str | None,
    version: str,
    most: int = _CUT,
) -> Failure:
    """
    Return what is kept of a failed attempt at *task*; *most* bounds the traceback in bytes.
    """
    return Failure(
        error=type(error).__name__,
        message=str(error)[:_LONGEST_ERROR],
        fingerprint=fingerprint_of(error, task),
        at=SYSTEM.now(),
        attempt=attempt,
        worker=worker,
        version=version,
        traceback=traceback_of(error, most),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """
    One buried call.

    *reason* is its code (docs/dead_letters.md lists them); *error* the class and the scrubbed message; *group* the
    fingerprint it shares with its like; *key* its idempotency key; *buried_at* a Unix time in seconds; *version* the
    build of the worker. *history* holds one `Failure` an attempt, the oldest first. *lineage* are the ids of the
    letters this call was replayed from, the first first; *sent_as* is the call it became itself. *argsrepr* and
    *kwargsrepr* are safe to show; *message* is what a replay needs (``raw`` bytes in base64, headers, properties) and
    is never listed.
    """

    id: str
    call_id: str
    task: str
    queue: str | None
    reason: str
    error: str
    buried_at: float
    attempts: int
    deliveries: int
    deferrals: int = 0
    group: str = ""
    key: str = ""
    worker: str | None = None
    version: str = ""
    trace_id: str = ""
    traceback: str = ""
    argsrepr: str = ""
    kwargsrepr: str = ""
    history: tuple[Mapping[str, Any], ...] = ()
    lineage: tuple[str, ...] = ()
    edited_at: float | None = None
    sent_as: str = ""
    sent_at: float | None = None
    message: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", tuple(self.history))
        object.__setattr__(self, "lineage", tuple(self.lineage))

    def listing(self) -> dict[str, Any]:
        """
        Return what may be shown: everything but the payload.
        """
        shown = asdict(self)
        del shown["message"]
        return shown

    def mentions(self, text: str) -> bool:
        """
        Tell whether *text* stands, in any case, in what a listing shows of this letter.
        """
        shown = (self.id, self.task, self.error, self.key, self.argsrepr, self.kwargsrepr, self.traceback)
        wanted = text.casefold()
        return any(wanted in one.casefold() for one in shown)

    def to_json(self) -> bytes:
        """
        Return the whole record as JSON.
        """
        return json.dumps(asdict(self), default=str).encode()

    @classmethod
    def from_json(cls, record: bytes | str) -> DeadLetter:
        """
        Return the letter kept in *record*; fields of a newer version are ignored.
        """
        fields = json.loads(record)
        return cls(**{name: value for name, value in fields.items() if name in cls.__slots__})

    @property
    def raw(self) -> bytes:
        """
        The bytes as they were received; on Redis, of a message no worker could read, the whole envelope.
        """
        return base64.b64decode(self.message.get("raw") or "")

    def parcel(self) -> Parcel:
        """
        Return the message as the broker carried it: body, headers, properties.

        Raises `DeadLetterError` when no message can be made of the bytes that came.
        """
        if "headers" in self.message:
            properties = dict(self.message.get("properties") or {})
            return Parcel(self.raw, dict(self.message["headers"]), properties)
        try:
            return _opened(json.loads(self.raw))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DeadLetterError(
                f"The dead letter {self.id} ({self.reason}) cannot be sent or edited: no message can be read from its "
                f"{len(self.raw)} bytes ({type(error).__name__}). `dead export` gives you the bytes."
            ) from error

    def arguments(self) -> tuple[list[Any], dict[str, Any], Any]:
        """
        Return the positional and the named arguments in their JSON form, and what Celery embeds beside them.

        Raises `DeadLetterError` when the body holds none.
        """
        parcel = self.parcel()
        try:
            body = json.loads(_unpacked(parcel))
            args, kwargs, embed = (
                (body.get("args", []), body.get("kwargs", {}), None) if isinstance(body, dict) else body
            )
            if isinstance(args, list) and isinstance(kwargs, dict):
                return args, kwargs, embed
        except (ValueError, TypeError, OSError, zlib.error, lzma.LZMAError):
            pass
        raise DeadLetterError(
            f"The dead letter {self.id} ({self.reason}) has no arguments that can be read; it can be exported or "
            "discarded."
        )


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message on its way: *body* as bytes, and what stands around it."""

    body: bytes
    headers: dict[str, Any]
    properties: dict[str, Any]


def _opened(envelope: dict[str, Any]) -> Parcel:
    properties = dict(envelope["properties"])
    encoding = properties.pop("body_encoding", None)
    text = envelope["body"]
    body = base64.b64decode(text, validate=True) if encoding == "base64" else text.encode()
    told = {"content_type": envelope.get("content-type"), "content_encoding": envelope.get("content-encoding")}
    return Parcel(body, dict(envelope.get("headers") or {}), {**properties, **told})


def _unpacked(parcel: Parcel) -> bytes:
    packed = str(parcel.headers.get("compression") or "")
    return _UNPACK[packed](parcel.body) if packed in _UNPACK else parcel.body


def trace_id_of(headers: Mapping[str, Any]) -> str:
    """
    Return the id of the trace that *headers* belong to (W3C ``traceparent``), or an empty text.
    """
    parts = str(headers.get("traceparent") or "").split("-")
    return parts[1] if len(parts) == _TRACEPARENT else ""
