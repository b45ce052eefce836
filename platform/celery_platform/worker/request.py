"""
Keep private arguments out of what a worker tells about the calls it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.worker.request import Request

if TYPE_CHECKING:
    from celery_platform.task import PlatformTask

__all__ = ["PlatformRequest"]


class PlatformRequest(Request):
    """
    A received call of a platform task.

    Of a task with private parameters, `inspect active`, events and logs show the masked texts of the arguments, also
    when the producer knew nothing of the platform and wrote them into the message's header in clear.
    """

    _task: PlatformTask[..., Any]
    _args: list[Any]
    _kwargs: dict[str, Any]
    _request_dict: dict[str, Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if (shown := self._task.contract.argsrepr(self._args, self._kwargs)) is not None:
            self._argsrepr, self._kwargsrepr = shown
            self._request_dict["argsrepr"], self._request_dict["kwargsrepr"] = shown

    def info(self, safe: bool = False) -> Any:
        """
        Return what remote control tells of this call; private arguments are masked even when all is asked for.
        """
        return super().info(safe=safe or bool(self._task.contract.private))
