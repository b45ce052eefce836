"""
Add the supervised pool to the names that `celery worker -P` knows.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from celery import concurrency

__all__ = ["install"]

NAME = "supervised"
_HOME = "celery_platform.worker.supervised.pool:SupervisedPool"


def install(*, default: bool) -> None:
    """
    Let `-P supervised` be said; with *default*, a worker without `-P` takes it.
    """
    known: Any = concurrency
    known.ALIASES[NAME] = _HOME
    if "celery.bin.worker" not in sys.modules:
        return
    # The command line has read the names already.
    command: Any = import_module("celery.bin.worker")
    option = next(option for option in command.worker.params if option.name == "pool")
    option.type.choices = (*dict.fromkeys((*option.type.choices, NAME)),)
    if default:
        option.default = NAME
