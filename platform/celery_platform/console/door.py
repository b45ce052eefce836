"""
Open Flower's configuration door: roles and pages of ours come in, and an open console is refused.

Flower executes `flowerconfig.py`, which calls `open_door`, before it builds its application, and reads the command line
once more afterwards; only then everything is known.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click

from celery_platform.console import configuration_of_the_deployment
from celery_platform.console.access import Roles
from celery_platform.errors import ConfigurationError

if TYPE_CHECKING:
    from celery_platform.celery_app import Platform

__all__ = ["check_exposure", "open_door"]

_FLOWER = "2.2."
_LOOPBACK = "127.0.0.1"
_opened = False


def open_door() -> None:
    """
    Read the deployment's own configuration of Flower, and finish when the command line has been read.

    Ends the command with a sentence when Flower is another version than the pages were made for, or when the
    console would be open to others without a log-in.
    """
    from tornado.options import options

    theirs = configuration_of_the_deployment()
    if theirs is not None:
        options.parse_config_file(str(theirs), final=False)
    options.add_parse_callback(_finish)


def _finish() -> None:
    global _opened  # noqa: PLW0603 - Flower reads its options once a process
    if _opened:
        return
    _opened = True
    from tornado.options import options

    from celery_platform.celery_app import current_platform

    try:
        if not options.address and not options.unix_socket:
            options.address = _LOOPBACK
        check_exposure(options)
        _furnish(current_platform(), options)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error


def check_exposure(options: Any) -> None:
    """
    Refuse a console that others than this machine's users reach without a log-in.

    Raises `ConfigurationError` with the remedies.
    """
    if options.basic_auth or options.auth:
        return
    where = options.unix_socket or options.address
    if not options.unix_socket and _is_loopback(options.address):
        return
    raise ConfigurationError(
        f"The console would be open to everybody who reaches {where}. Give it a log-in: FLOWER_BASIC_AUTH=user:word, "
        "or OAuth with --auth and --auth_provider; or let it listen on this machine alone: --address=127.0.0.1"
    )


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _furnish(platform: Platform, options: Any) -> None:
    from celery.utils.imports import symbol_by_name
    from flower import urls

    from celery_platform.console import pages
    from celery_platform.console.desk import Desk
    from celery_platform.console.furniture import BothLoader
    from celery_platform.console.stock import gated_urls

    _check_version()
    settings = platform.settings
    token = settings.console_metrics_token
    loader = BothLoader(urls.settings["template_path"])
    provider = symbol_by_name(options.auth_provider) if options.auth_provider else None
    *theirs, nothing_else = gated_urls(urls.handlers, provider)
    urls.handlers[:] = [*theirs, *pages.urls(), nothing_else]
    urls.settings |= {
        "template_loader": loader,
        "platform_desk": Desk(
            platform,
            Roles(settings.console_roles),
            token.get_secret_value() if token else None,
            [_hash(loader.inline_script(refresh)) for refresh in (0, 1)],
        ),
    }


def _check_version() -> None:
    found = version("flower")
    if not found.startswith(_FLOWER):
        raise ConfigurationError(
            f"The console's pages were made for Flower {_FLOWER}x, and Flower {found} is installed. "
            "Install the extra: celery-platform[flower]."
        )


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
