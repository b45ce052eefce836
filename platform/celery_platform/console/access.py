"""
Say who may do what: a role for each visitor, and the right to see payloads apart from it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from celery_platform.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LOCAL", "Right", "Roles", "Visitor"]

# The name of everybody on a console without authentication, which is one that only this machine reaches.
LOCAL = "local"
_PAYLOADS = "payloads"


class Right(enum.IntEnum):
    """
    What a request needs. Each right holds the ones below it.

    `OPEN` is for what a browser needs before it knows who is asking (style sheets, the log-in), and for probes.
    """

    OPEN = 0
    VIEW = 1
    OPERATE = 2
    ADMINISTER = 3

    @property
    def role(self) -> str:
        """
        Return the least role that holds the right.
        """
        return next(name for name, right in _ROLES.items() if right >= self)


_ROLES: Mapping[str, Right] = {
    "none": Right.OPEN,
    "viewer": Right.VIEW,
    "operator": Right.OPERATE,
    "admin": Right.ADMINISTER,
}


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: *name* of the log-in, *role*, and whether arguments and results may be shown to them."""

    name: str
    role: str
    payloads: bool = False

    def may(self, right: Right) -> bool:
        """
        Tell whether the visitor's role holds *right*.
        """
        return _ROLES[self.role] >= right

    def __str__(self) -> str:
        return self.name


class Roles:
    """
    Who has which role, by `PLATFORM_CONSOLE_ROLES`.

    *rules* map a name (shell wildcards) to ``role`` or ``role+payloads``; the first that matches counts. Whoever is
    named by none of them is a viewer without payloads; `LOCAL` is an admin who sees them.

    Raises `ConfigurationError` for a role nobody knows.
    """

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._rules = [(pattern, *_role_of(pattern, word)) for pattern, word in rules.items()]

    def visitor(self, name: str) -> Visitor:
        """
        Return the visitor who logged in as *name*.
        """
        for pattern, role, payloads in self._rules:
            if fnmatchcase(name, pattern):
                return Visitor(name, role, payloads)
        return Visitor(name, "admin", payloads=True) if name == LOCAL else Visitor(name, "viewer")


def _role_of(pattern: str, word: str) -> tuple[str, bool]:
    role, plus, extra = word.partition("+")
    if role not in _ROLES or (plus and extra != _PAYLOADS):
        raise ConfigurationError(
            f"PLATFORM_CONSOLE_ROLES: {pattern!r} has the role {word!r}; expected one of {', '.join(_ROLES)}, "
            f"and +payloads after it for whoever may see arguments.{did_you_mean(role, _ROLES)}"
        )
    return role, bool(plus)
