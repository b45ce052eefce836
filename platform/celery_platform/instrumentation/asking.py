"""
Ask a process of this machine how it is: `python -m celery_platform.instrumentation.asking [live|ready|startup]`.

For a container's health check, which `celery -A platform health` would serve too, at the price of loading Celery: this
needs the standard library only and ends within a tenth of a second.
"""

from __future__ import annotations

import json
import os
import sys
from http.client import HTTPConnection, HTTPException
from typing import Any

__all__ = ["ask", "main"]

_PATIENCE = 3.0


def ask(probe: str, port: int, *, host: str = "127.0.0.1") -> dict[str, Any]:
    """
    Return what the process behind *port* answers to *probe*; one that does not answer is not well.
    """
    connection = HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", f"/{probe}")
        told: Any = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError) as error:
        why = f"nothing answers on port {port} ({type(error).__name__}: {error}). Does the process run?"
        return {"probe": probe, "ok": False, "why": why}
    finally:
        connection.close()
    if not isinstance(told, dict) or "ok" not in told:
        return {"probe": probe, "ok": False, "why": f"port {port} serves no probes"}
    return told


def main(probe: str = "ready") -> int:
    """
    Print why this container is not well; the exit status is 0 when it is, 1 when not, 2 without a port to ask.
    """
    port = os.environ.get("PLATFORM_HEALTH_PORT") or os.environ.get("PLATFORM_METRICS_PORT")
    if not port or not port.isdigit():
        sys.stderr.write("PLATFORM_HEALTH_PORT is not set: there is no port to ask.\n")
        return 2
    told = ask(probe, int(port))
    sys.stdout.write("ok\n" if told["ok"] else f"{told['why']}\n")
    return 0 if told["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:2]))
