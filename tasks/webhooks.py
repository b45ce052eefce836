"""
Deliver signed webhooks, and never to an address inside the house.

The signature follows the Standard Webhooks specification: HMAC-SHA256 over ``id.timestamp.body``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import os
import ssl
import time
from typing import Any

import httpx

from celery_platform import Backoff, Dead, Discard, RetryAfter, Secret, current_call, platform_task
from celery_platform.backoff import retry_after_of
from tasks.addresses import pinned

__all__ = ["EndpointFailed", "deliver_webhook", "signatures"]

# httpx logs every URL it calls, and a webhook's may hold a token.
logging.getLogger("httpx").setLevel(logging.WARNING)

_TIMEOUT = httpx.Timeout(10, connect=5)


class EndpointFailed(Exception):  # noqa: N818 - reads as a sentence
    """The endpoint answered that it failed; *retry_after* is its own word on when to come back, if it gave one."""

    def __init__(self, status: int, retry_after: str | None = None) -> None:
        super().__init__(f"the endpoint answered {status}")
        self.status = status
        self.retry_after = retry_after


@platform_task(
    retry=Backoff(on=(EndpointFailed, httpx.TransportError, OSError), attempts=8, first=1, ceiling=3600),
    timeout=30,
)
def deliver_webhook(url: str, event: str, data: dict[str, Any], secret: Secret[str] | None = None) -> int:
    """
    Post *event* with *data* to *url*, signed, and return the status of the answer.

    ``webhook-id`` is the id of the call: the same through all retries, so that the receiver can drop a duplicate.
    *secret* is ``whsec_`` and base64; several, separated by spaces, sign side by side while one is being replaced.
    Without it ``TASKS_WEBHOOK_SECRET`` is used. The answer decides: 2xx succeeded; 410 discarded, the receiver is gone;
    429 and 5xx tried again, after their ``Retry-After`` if given; any other answer buries the call, a redirect
    included. Private addresses are refused unless ``TASKS_WEBHOOK_ALLOW_PRIVATE=1``.
    """
    keys = secret.reveal() if secret is not None else os.environ.get("TASKS_WEBHOOK_SECRET", "")
    body = json.dumps({"type": event, "data": data}, separators=(",", ":"), ensure_ascii=False).encode()
    status, asked = _post(url, body, _headers(current_call().id, body, keys))
    return _judged(status, asked)


def signatures(secret: str, identity: str, timestamp: int, body: bytes) -> str:
    """
    Return the value of ``webhook-signature``: one ``v1,…`` a key in *secret*.

    Raises `ValueError` when there is no key, or one is not base64.
    """
    keys = secret.split()
    if not keys:
        raise ValueError("no key to sign with")
    content = b".".join([identity.encode(), str(timestamp).encode(), body])
    digests = (
        hmac.digest(base64.b64decode(key.removeprefix("whsec_"), validate=True), content, hashlib.sha256)
        for key in keys
    )
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def _headers(identity: str, body: bytes, keys: str) -> dict[str, str]:
    timestamp = int(time.time())
    try:
        signature = signatures(keys, identity, timestamp, body)
    except (ValueError, binascii.Error):
        raise Dead("no usable secret; expected whsec_BASE64 as secret=… or in TASKS_WEBHOOK_SECRET.") from None
    return {
        "content-type": "application/json",
        "user-agent": "celery-platform-webhooks",
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }


def _post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str | None]:
    target = pinned(url, private=os.environ.get("TASKS_WEBHOOK_ALLOW_PRIVATE") == "1")
    # Proxies and .netrc of the environment are left out: a proxy would resolve the name again, unguarded.
    with (
        httpx.Client(timeout=_TIMEOUT, verify=ssl.create_default_context(), trust_env=False) as client,
        client.stream(
            "POST",
            target.url,
            content=body,
            headers={**headers, "host": target.authority},
            extensions={"sni_hostname": target.host},
        ) as answer,
    ):
        # Its body is not read: what the receiver says beyond its status is nobody's business, and may be endless.
        return answer.status_code, answer.headers.get("retry-after")


def _judged(status: int, asked: str | None) -> int:
    if httpx.codes.is_success(status):
        return status
    if status == httpx.codes.GONE:
        raise Discard("the endpoint is gone (410)")
    if status != httpx.codes.TOO_MANY_REQUESTS and not httpx.codes.is_server_error(status):
        raise Dead(f"the endpoint refused the webhook ({status})")
    failed = EndpointFailed(status, asked)
    wait = retry_after_of(failed, time.time())
    if wait is None:
        raise failed
    raise RetryAfter(wait, str(failed))
