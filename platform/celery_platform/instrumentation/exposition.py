"""
Write counts and readings as Prometheus reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_platform.instrumentation.families import FAMILIES, Family
from celery_platform.instrumentation.tally import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from celery_platform.instrumentation.tally import Key, Tally

__all__ = ["Reading", "counted", "written"]

# The value of one series: the family's name and label values first.
Reading = tuple["Key", list[float]]


def counted(tally: Tally | None) -> Iterator[Reading]:
    """
    Yield every count of *tally*.
    """
    if tally is not None:
        yield from tally.totals().items()
        yield ("celery_platform_series_dropped",), [tally.dropped]


def written(readings: Iterable[Reading]) -> bytes:
    """
    Return *readings* in the text format; a family that is not in `families` is left out.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    by_family: dict[str, list[tuple[tuple[str, ...], list[float]]]] = {}
    for (name, *labels), values in readings:
        by_family.setdefault(name, []).append((tuple(labels), values))

    class Collected:
        def collect(self) -> Iterator[Any]:
            for name, series in by_family.items():
                if name in FAMILIES:
                    yield _family(FAMILIES[name], dict(series))

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collected())
    return generate_latest(registry)


def _family(family: Family, series: Mapping[tuple[str, ...], list[float]]) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    kinds: dict[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, values in series.items():
            histogram.add_metric(labels, _cumulated(values), values[-1])
        return histogram
    found = kinds[family.kind](family.name, family.help, labels=family.labels)
    for labels, values in series.items():
        found.add_metric(labels, values[0])
    return found


def _cumulated(values: list[float]) -> list[tuple[str, float]]:
    buckets, so_far = [], 0.0
    for end, count in zip((*map(str, BUCKETS), "+Inf"), values[:-1], strict=True):
        so_far += count
        buckets.append((end, so_far))
    return buckets
