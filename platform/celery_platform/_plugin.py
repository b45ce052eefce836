"""
Give Celery's command line our commands, and let `celery -A platform` find our app.

Celery imports this module for every `celery` command, `celery --help` included, and hides a plug-in that fails to
import: so only click and the standard library stand at the top, and everything else is loaded when it is used.
"""

from __future__ import annotations

import os
import platform as standard_platform
import sys
from importlib import import_module, reload
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from celery_platform.celery_app import PlatformCelery

__all__ = [
    "LazyCommand",
    "breakers",
    "cancel",
    "compat",
    "dead",
    "embedded",
    "explain",
    "exporter",
    "health",
    "limits",
    "locks",
    "pause",
    "registry",
    "resume",
    "route",
    "schedule",
    "settings",
]


def _remap_sigterm() -> None:
    # SIGTERM means: finish what runs within the soft shutdown's time, give the rest back; and the children ignore one
    # that is sent to the whole process group. billiard read the variable when Celery's command line imported it, before
    # any plug-in; it reads it again here, for this app alone and before its worker is loaded.
    if "REMAP_SIGTERM" not in os.environ:
        os.environ["REMAP_SIGTERM"] = "SIGQUIT"
        reload(import_module("billiard.common"))


def _answer(name: str) -> PlatformCelery:
    if name != "app":
        raise AttributeError(f"module 'platform' has no attribute {name!r}")
    _remap_sigterm()
    if "flower" in sys.argv:
        import_module("celery_platform.console").announce()
    try:
        from celery_platform.celery_app import current_app

        return current_app()
    except AttributeError as error:
        # Celery takes an AttributeError for "this module has no app" and hides the true cause.
        raise RuntimeError(f"the platform's app could not be built: {error}") from error


# `platform` is the standard library's module; this adds one lazy name to it, in the `celery` process only.
standard_platform.__dict__.setdefault("__getattr__", _answer)


class LazyCommand(click.Command):
    """A command whose code is imported when it is run, or when its own help is asked for."""

    def __init__(self, name: str, home: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help, add_help_option=False)
        self.home = home
        self.context_settings = {"ignore_unknown_options": True, "allow_extra_args": True}
        self.params = [click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)]
        self.callback = None

    def invoke(self, ctx: click.Context) -> Any:
        """
        Hand all words over to the real command.
        """
        module, _, attribute = self.home.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        with command.make_context(self.name, list(ctx.params["words"]), parent=ctx.parent) as real:
            return command.invoke(real)


def _command(name: str, short_help: str, home: str = "") -> LazyCommand:
    return LazyCommand(name, f"celery_platform.cli.{home or name}:{name}", short_help)


settings = _command("settings", "List every setting of the platform with its source.")
route = _command("route", "Explain where a call would go.")
compat = _command("compat", "Compare the tasks of two versions; fail when calls on their way would break.")
registry = _command("registry", "List the tasks of this code, or export what they take.", "compat")
dead = _command("dead", "Look at dead letters, change them, send them again.")
schedule = _command("schedule", "Look at the schedules and steer them.")
embedded = _command("embedded", "Start, stop or show the embedded Redis of this folder.")
locks = _command("locks", "See who holds which idempotency key, and free one.")
breakers = _command("breakers", "See the circuit breakers, and open or close one by hand.")
limits = _command("limits", "See the limits in use, and change one without a deployment.")
pause = _command("pause", "Hold back a queue, a task or a key in the whole fleet.")
resume = _command("resume", "End the pause of a queue, a task or a key.", "pause")
cancel = _command("cancel", "Stop a call wherever it is, and say what came of it.")
explain = _command("explain", "Say in one sentence why a call is not running.")
health = _command("health", "Ask a process of this machine whether it is live, ready, started.")
exporter = _command("exporter", "Show Prometheus the queues and dead letters of the fleet.")
