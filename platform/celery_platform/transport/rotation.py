"""
Decide in which order a consumer looks at its lists: by priority first, then fairly among the queues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kombu.utils.scheduling import cycle_by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Rotation"]


class Rotation:
    """
    The lists of some queues, in the order of the next fetch.

    *list_of* names the list of a queue and a priority step as kombu does. *strategy* is kombu's `queue_order_strategy`:
    `round_robin` (a queue that was served goes to the end), `sorted` or `priority` (the order never changes).
    """

    def __init__(
        self,
        list_of: Callable[[str, int], str],
        steps: Sequence[int],
        queues: Iterable[str] = (),
        strategy: str = "round_robin",
    ) -> None:
        self._list_of = list_of
        self._steps = tuple(steps)
        self._cycle = cycle_by_name(strategy)()
        self._queue_of: dict[str, str] = {}
        self._queues: tuple[str, ...] = ()
        self.update(queues)

    def __bool__(self) -> bool:
        return bool(self._queues)

    def update(self, queues: Iterable[str]) -> None:
        """
        Look at these *queues* from now on.
        """
        self._queues = tuple(dict.fromkeys(queues))
        self._cycle.update(self._queues)
        self._queue_of |= {self._list_of(queue, step): queue for queue in self._queues for step in self._steps}

    def lists(self) -> list[str]:
        """
        Return every list in the order of the next fetch.
        """
        queues = self._cycle.consume(len(self._queues))
        return [self._list_of(queue, step) for step in self._steps for queue in queues]

    def lists_of(self, queue: str) -> list[str]:
        """
        Return the lists of *queue*, most urgent first.
        """
        lists = [self._list_of(queue, step) for step in self._steps]
        self._queue_of |= dict.fromkeys(lists, queue)
        return lists

    def queue_of(self, key: str) -> str:
        """
        Return the queue whose list is *key*; a list never asked for is its own queue.
        """
        return self._queue_of.get(key, key)

    def served(self, queues: Iterable[str]) -> None:
        """
        Let the others go first next time.
        """
        for queue in dict.fromkeys(queues):
            if queue in self._queues:
                self._cycle.rotate(queue)
