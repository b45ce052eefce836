"""
Say where the embedded Redis of a folder keeps its data and its sockets.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["Place"]

_HOME = ".celery-platform"
# The kernel takes 108 bytes for the path of a unix socket on Linux, 104 elsewhere.
_LONGEST = 103
# What stands for itself in a URL, whoever parses it.
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
_LONGEST_NAME = "guardian.sock"


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one deployment, and where its embedded server lives."""

    folder: Path
    home: Path
    sockets: Path

    @classmethod
    def of(cls, folder: Path | None = None) -> Place:
        """
        Return the place of *folder* (the working directory by default); symbolic links lead to the same place.

        Nothing is created. The sockets stand beside the data, unless their path is too long for the kernel or does
        not stand for itself in a URL: then in a private folder under /tmp that is the same for every process.
        """
        return _place(os.path.realpath(folder or "."))

    @property
    def socket(self) -> Path:
        """
        Where the server listens.
        """
        return self.sockets / "redis.sock"

    @property
    def private_folders(self) -> tuple[Path, ...]:
        """
        The folders that nobody else may own.
        """
        return (self.home,) if self.sockets == self.home else (self.home, self.sockets.parent, self.sockets)

    @property
    def guardian(self) -> Path:
        """
        Where its guardian listens.
        """
        return self.sockets / _LONGEST_NAME


@lru_cache(maxsize=256)
def _place(folder: str) -> Place:
    home = Path(folder) / _HOME
    longest = str(home / _LONGEST_NAME)
    if len(os.fsencode(longest)) <= _LONGEST and _PLAIN.fullmatch(longest):
        return Place(Path(folder), home, home)
    # Not TMPDIR or XDG_RUNTIME_DIR: two processes of the folder may see different ones.
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Place(Path(folder), home, Path(f"/tmp/celery-platform-{os.getuid()}/{digest}"))  # noqa: S108 - made 0700
