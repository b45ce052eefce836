"""
The deployment's schedule. Times are UTC; an entry rests until the folder it works on is configured (docs/tasks.md).
"""

from __future__ import annotations

import os

from celery_platform.beat import cron, every
from tasks.maintenance import backup_database, clean_logs, clean_temp_files
from tasks.reports import build_report

__all__ = ["schedule"]

_BACKUPS = os.environ.get("TASKS_BACKUP_FOLDER", "")
_LOGS = os.environ.get("TASKS_LOG_FOLDER", "")
_TEMP = os.environ.get("TASKS_TEMP_FOLDER", "")
_ORDERS = os.environ.get("TASKS_ORDERS_FILE", "")
_REPORTS = os.environ.get("TASKS_REPORT_FOLDER", "")

schedule = [
    cron(
        "30 2 * * *",
        backup_database,
        name="nightly backup",
        kwargs={"folder": _BACKUPS},
        enabled=bool(_BACKUPS),
        succeed_by="05:00",
        description="Back up the database of TASKS_BACKUP_URL.",
    ),
    cron(
        "0 6 * * mon",
        build_report,
        name="weekly report",
        kwargs={"source": _ORDERS, "folder": _REPORTS},
        enabled=bool(_ORDERS and _REPORTS),
        description="Total the orders by region.",
    ),
    cron("0 4 * * *", clean_logs, name="old logs", kwargs={"root": _LOGS}, enabled=bool(_LOGS)),
    every(clean_temp_files, hours=1, name="stale uploads", kwargs={"root": _TEMP}, enabled=bool(_TEMP)),
]
