"""
Compute when the sun rises, stands highest and sets, to about a minute, without further libraries.

The almanac formulas of the Explanatory Supplement (mean anomaly, equation of the centre, declination) are good for
civil use until 2100; near the poles there are days without an event, which are skipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from celery_platform.errors import ScheduleError, did_you_mean

__all__ = ["EVENTS", "Solar"]

# Height of the sun's centre in degrees; at rise and set refraction and the radius of the disc count.
_HEIGHTS = {
    "astronomical": -18.0,
    "nautical": -12.0,
    "civil": -6.0,
    "horizon": -0.833,
}
EVENTS = {
    "dawn_astronomical": ("astronomical", -1),
    "dawn_nautical": ("nautical", -1),
    "dawn_civil": ("civil", -1),
    "sunrise": ("horizon", -1),
    "solar_noon": ("horizon", 0),
    "sunset": ("horizon", 1),
    "dusk_civil": ("civil", 1),
    "dusk_nautical": ("nautical", 1),
    "dusk_astronomical": ("astronomical", 1),
}
_J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
# The longest night of a pole, with room to spare.
_LONGEST_WAIT = 370


@dataclass(frozen=True, slots=True)
class Solar:
    """The solar *event* at *latitude* and *longitude* in degrees, north and east positive."""

    event: str
    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        if self.event not in EVENTS:
            raise ScheduleError(
                f"solar() expected one of {', '.join(EVENTS)}, got {self.event!r}.{did_you_mean(self.event, EVENTS)}"
            )
        if not (-90 <= self.latitude <= 90 and -180 <= self.longitude <= 180):  # noqa: PLR2004 - the globe
            raise ScheduleError(
                f"solar() expected a latitude of -90 to 90 and a longitude of -180 to 180, got {self.latitude}, "
                f"{self.longitude}. Degrees are decimal; south and west are negative."
            )

    def after(self, moment: datetime) -> datetime | None:
        """
        Return the first event strictly after *moment*, in UTC, or nothing when it never comes at this place.
        """
        day = moment.astimezone(UTC).date() - timedelta(days=1)
        for offset in range(_LONGEST_WAIT):
            found = self._on(day + timedelta(days=offset))
            if found is not None and found > moment:
                return found
        return None

    def _on(self, day: date) -> datetime | None:
        height, side = EVENTS[self.event]
        cycle = (day - _J2000.date()).days + 0.0008 - self.longitude / 360
        anomaly = math.radians((357.5291 + 0.98560028 * cycle) % 360)
        centre = 1.9148 * math.sin(anomaly) + 0.02 * math.sin(2 * anomaly) + 0.0003 * math.sin(3 * anomaly)
        ecliptic = math.radians((math.degrees(anomaly) + centre + 180 + 102.9372) % 360)
        transit = cycle + 0.0053 * math.sin(anomaly) - 0.0069 * math.sin(2 * ecliptic)
        if side:
            declination = math.asin(math.sin(ecliptic) * math.sin(math.radians(23.4397)))
            here = math.radians(self.latitude)
            high = math.sin(math.radians(_HEIGHTS[height])) - math.sin(here) * math.sin(declination)
            cosine = high / (math.cos(here) * math.cos(declination))
            if not -1 <= cosine <= 1:
                return None
            transit += side * math.degrees(math.acos(cosine)) / 360
        return (_J2000 + timedelta(days=transit)).replace(microsecond=0)

    def described(self) -> str:
        """
        Say it in words.
        """
        return f"{self.event.replace('_', ' ')} at {self.latitude:g}, {self.longitude:g}"

    def to_json(self) -> dict[str, Any]:
        """
        Return it as plain values.
        """
        return {"kind": "solar", "event": self.event, "latitude": self.latitude, "longitude": self.longitude}
