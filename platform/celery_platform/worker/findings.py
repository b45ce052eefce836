"""
Say what a start-up check has found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something unsafe: *severity* decides whether a worker starts, *remedy* tells how to mend it."""

    severity: Literal["refuse", "warn"]
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}"
