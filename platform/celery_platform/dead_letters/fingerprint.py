"""
Tell errors of one kind from another: by their class and the innermost frames of the user's own code.
"""

from __future__ import annotations

import hashlib
import sysconfig
import traceback
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, TracebackType

__all__ = ["fingerprint_of", "group_named", "traceback_of"]

_TRACEBACK_BYTES = 16_384
_FRAMES = 3
_SHORTEST_HASH = 8
_OURS = str(Path(__file__).parents[1])


def fingerprint_of(error: BaseException, task: str) -> str:
    """
    Return the group of *error*: the name of its class and a hash of *task*, class and frames.

    The three innermost frames of code that is neither installed, nor the standard library's, nor ours count, by file
    and function and not by line: an edit elsewhere in the file starts no new group, and neither does another message.
    """
    frames = list(_frames(error.__traceback__))
    own = [code for code in frames if _is_own(code.co_filename)] or frames
    places = [f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_qualname}" for code in own[-_FRAMES:]]
    return group_named(type(error).__name__, task, type(error).__module__, *places)


def group_named(name: str, *parts: str) -> str:
    """
    Return a group that people can read and type: *name* and a short hash of all *parts*.
    """
    digest = hashlib.sha256("\0".join((name, *parts)).encode(errors="replace")).hexdigest()
    return f"{name}-{digest[:_SHORTEST_HASH]}"


def traceback_of(error: BaseException, most: int = _TRACEBACK_BYTES) -> str:
    """
    Return the end of the traceback of *error*, at most *most* bytes: the innermost frames matter.
    """
    text = "".join(traceback.format_exception(error)).encode(errors="replace")
    return text[-most:].decode(errors="ignore")


def _frames(trace: TracebackType | None) -> Iterator[CodeType]:
    while trace is not None:
        yield trace.tb_frame.f_code
        trace = trace.tb_next


@lru_cache(maxsize=1024)
def _is_own(file: str) -> bool:
    return not file.startswith("<") and not file.startswith((_OURS, *_installed()))


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
