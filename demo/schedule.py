"""
What beat adds for the demo: a clean-up that is due while somebody watches.
"""

from __future__ import annotations

import os
from pathlib import Path

from celery_platform.beat import every
from tasks.maintenance import clean_temp_files

__all__ = ["schedule"]

schedule = [
    every(
        clean_temp_files,
        seconds=3,
        name="scratch of the demo",
        kwargs={"root": Path(os.environ["PLATFORM_WORKDIR"], "scratch")},
    )
]
