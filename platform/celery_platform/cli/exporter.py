"""
`celery -A platform exporter`: show Prometheus the queues, the leases and the dead letters of the whole fleet.
"""

from __future__ import annotations

import signal
import threading
from importlib.util import find_spec
from typing import Any

import click

from celery_platform.cli.output import guarded, platform_of
from celery_platform.errors import ConfigurationError
from celery_platform.instrumentation import web
from celery_platform.instrumentation.exposition import Reading, written
from celery_platform.instrumentation.fleet import Fleet
from celery_platform.instrumentation.vitals import Vitals

__all__ = ["exporter"]

_EVERY = 5.0
_BEAT = 1.0


@click.command()
@click.pass_context
@guarded
def exporter(ctx: click.Context) -> None:
    """
    Serve the metrics of the fleet on PLATFORM_METRICS_PORT, and probes on PLATFORM_HEALTH_PORT, until it is stopped.

    One is enough for a deployment. It needs neither workers nor events; without its servers it says so and waits.
    """
    platform = platform_of(ctx)
    settings = platform.settings
    if settings.metrics_port is None and settings.health_port is None:
        raise click.UsageError("There is no port to serve. Set PLATFORM_METRICS_PORT.")
    if find_spec("prometheus_client") is None:
        raise ConfigurationError(
            "The exporter needs the library that writes metrics. "
            'Install it with `pip install "celery-platform[metrics]"`.'
        )
    vitals = Vitals("exporter")
    fleet = Fleet(platform, vitals.note)

    def metrics() -> bytes:
        ready: Reading = (("celery_platform_ready", "exporter"), [float(vitals.ready().ok)])
        return written([*fleet.readings(), ready])

    opened = web.serve(settings, vitals, metrics)
    if not opened.ports:
        raise ConfigurationError("The exporter has no port to serve; the line above says why.")
    click.echo(f"celery-platform: the exporter serves on port {', '.join(map(str, opened.ports))}.", err=True)
    _stay(fleet, vitals)


def _stay(fleet: Fleet, vitals: Vitals) -> None:
    ended = threading.Event()

    def end(*_: Any) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    reader = threading.Thread(target=_look, args=(fleet, vitals, ended), name="fleet", daemon=True)
    reader.start()
    vitals.beat()
    while not ended.wait(_BEAT):
        vitals.beat()


def _look(fleet: Fleet, vitals: Vitals, ended: threading.Event) -> None:
    # Readiness must not wait for the first scrape.
    fleet.readings()
    vitals.start()
    while not ended.wait(_EVERY):
        fleet.readings()
