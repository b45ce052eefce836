"""
Hold the result of one call in the hands of its caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from celery.result import AsyncResult

if TYPE_CHECKING:
    from celery_platform.payload import Contract

__all__ = ["PlatformResult"]

R = TypeVar("R")


class PlatformResult(AsyncResult[R], Generic[R]):
    """
    The result of a call; `get` returns what the task's return annotation promises.

    *is_duplicate* tells that nothing was enqueued because the idempotency key is held: this is then the result of the
    holder, in state *holder_state* (``waiting``, ``parked``, ``running``, ``done``), which took the key *age* seconds
    ago.
    """

    contract: Contract | None = None
    is_duplicate: bool = False
    holder_state: str | None = None
    age: float = 0.0

    def get(self, *args: Any, **kwargs: Any) -> R:
        """
        Wait for the call and return its value; raises what the call raised, as `AsyncResult.get` does.
        """
        value = super().get(*args, **kwargs)
        # A failure that was asked not to propagate arrives as the exception itself.
        if self.contract is None or isinstance(value, BaseException):
            return value
        return self.contract.load_result(value)  # type: ignore[no-any-return]
