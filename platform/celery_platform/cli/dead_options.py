"""
Read what the commands on dead letters have in common: a selection, an actor, a patch.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.dead_letters import Selection

__all__ = ["audited", "moment", "patch_of", "selecting", "selection_of"]

_WORDS = ("task", "queue", "reason", "group", "key", "text", "since", "until")


class _Moment(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs only
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """
        Return a Unix time of an ISO 8601 text (UTC unless it says otherwise), or of a number.
        """
        try:
            return float(value)
        except ValueError:
            pass
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time: expected 2026-11-24T09:00:00 or a Unix time.", param, ctx)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """
    Give *command* the words by which dead letters are chosen.
    """
    options = [
        click.argument("ids", nargs=-1),
        click.option("--task", help="Only letters of this task."),
        click.option("--queue", help="Only letters of this queue."),
        click.option("--reason", help="Only letters with this reason code."),
        click.option("--group", help="Only letters of this group."),
        click.option("--key", help="Only letters with this idempotency key."),
        click.option("--text", help="Only letters whose listing holds this text."),
        click.option("--since", type=_Moment(), help="Only letters buried at this time or later."),
        click.option("--until", type=_Moment(), help="Only letters buried before this time."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def audited(command: Callable[..., Any]) -> Callable[..., Any]:
    """
    Ask *command* who does it, and why.
    """
    because = click.option("--because", default="", help="The reason, for the audit.")
    actor = click.option("--actor", default="", help="Who does it; the user of this process otherwise.")
    return actor(because(command))


def selection_of(words: dict[str, Any]) -> Selection:
    """
    Return the selection that *words* make.

    Raises `click.UsageError` for a word that cannot work.
    """
    from celery_platform.dead_letters import Selection
    from celery_platform.errors import SelectionError

    try:
        return Selection(ids=tuple(words["ids"]), **{name: words[name] for name in _WORDS})
    except SelectionError as error:
        raise click.UsageError(str(error)) from error


def patch_of(text: str) -> tuple[dict[str, Any], ...]:
    """
    Return the operations of a JSON patch.

    Raises `click.UsageError` for a text that is none.
    """
    try:
        operations = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--edit expected a JSON patch, got {text!r} ({error}).") from error
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise click.UsageError('--edit expected a list, like [{"op": "replace", "path": "/args/0", "value": 3}].')
    return tuple(operations)


def moment(at: float) -> str:
    """
    Return a Unix time for people.
    """
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
