"""
Make kombu use our transport for `sqs://`, without importing the libraries of Amazon before it connects.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from celery_platform.errors import ConfigurationError

__all__ = ["install"]

_NEEDED = ("boto3", "pycurl")


def install() -> None:
    """
    Use our transport for SQS in this process. Calling it again changes nothing.

    Raises:
        ConfigurationError: the extra `sqs` is not installed.

    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"PLATFORM_BROKER_URL is SQS, which needs {' and '.join(missing)}. Install celery-platform[sqs]."
        )
    transport: Any = import_module("kombu.transport")
    transport.TRANSPORT_ALIASES["sqs"] = "celery_platform.transport.sqs:Transport"
    transport._transport_cache.pop("sqs", None)  # noqa: SLF001 - what was resolved before would stay
