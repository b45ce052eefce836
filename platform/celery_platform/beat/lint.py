"""
Find what is wrong with a schedule as a whole: names, dependencies, unknown tasks and arguments.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from celery_platform.errors import PayloadInvalid, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery_platform.beat.entries import Entry

__all__ = ["problems"]


def problems(schedule: Sequence[Entry], app: Any | None = None) -> list[str]:
    """
    Return one sentence for each thing that cannot work, with its remedy; *app* knows the tasks and queues.
    """
    found = [*_twins(schedule), *_strangers(schedule), *_circles(schedule)]
    if app is not None:
        for entry in schedule:
            found += _of_task(entry, app)
    return found


def _twins(schedule: Sequence[Entry]) -> Iterator[str]:
    for name, count in Counter(entry.name for entry in schedule).items():
        if count > 1:
            yield f"{count} entries are named {name!r}. Give each one a name of its own: name='…'."


def _strangers(schedule: Sequence[Entry]) -> Iterator[str]:
    names = [entry.name for entry in schedule]
    for entry in schedule:
        for upstream in entry.rules.after:
            if upstream not in names:
                yield (
                    f"{entry.name!r} runs after {upstream!r}, which is no entry.{did_you_mean(upstream, names)} "
                    "Name an entry of this schedule."
                )


def _circles(schedule: Sequence[Entry]) -> Iterator[str]:
    after = {entry.name: entry.rules.after for entry in schedule}
    done: set[str] = set()
    for start in after:
        path: list[str] = []
        yield from _walk(start, after, path, done)


def _walk(name: str, after: dict[str, tuple[str, ...]], path: list[str], done: set[str]) -> Iterator[str]:
    if name in path:
        circle = [*path[path.index(name) :], name]
        yield f"Entries wait for each other: {' after '.join(map(repr, circle))}. Remove one of these dependencies."
        return
    if name in done or name not in after:
        return
    path.append(name)
    for upstream in after[name]:
        yield from _walk(upstream, after, path, done)
    path.pop()
    done.add(name)


def _of_task(entry: Entry, app: Any) -> Iterator[str]:
    task = app.tasks.get(entry.task)
    if task is None:
        yield (
            f"{entry.name!r} names the task {entry.task!r}, which nobody registers."
            f"{did_you_mean(entry.task, app.tasks)} Import its module in tasks/__init__.py."
        )
        return
    contract = getattr(task, "contract", None)
    if contract is not None:
        try:
            contract.dump(entry.args, entry.kwargs)
        except PayloadInvalid as error:
            yield f"{entry.name!r}: {error}"
    router = getattr(getattr(app, "platform", None), "router", None)
    if entry.queue is not None and router is not None and entry.queue not in router.queues:
        yield (
            f"{entry.name!r} goes to the queue {entry.queue!r}, which nobody declared."
            f"{did_you_mean(entry.queue, router.queues)} Declare it in PLATFORM_QUEUES."
        )
