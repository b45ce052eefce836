"""
Check what goes into a task and what comes out of it, by its annotations, and keep private values out of sight.
"""

from __future__ import annotations

from celery_platform.payload.codecs import to_wire
from celery_platform.payload.contract import Contract
from celery_platform.payload.private import PII, Secret
from celery_platform.payload.redaction import scrub
from celery_platform.payload.size import check_size

__all__ = ["PII", "Contract", "Secret", "check_size", "scrub", "to_wire"]
