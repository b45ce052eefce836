"""
Check what goes into a task and what comes out of it, by its annotations, and keep private values out of sight.
"""

from __future__ import annotations

from celery_platform.payload.codecs import Writable, to_wire
from celery_platform.payload.contract import Contract
from celery_platform.payload.private import PII, Secret
from celery_platform.payload.redaction import scrub, scrub_text
from celery_platform.payload.size import check_size

__all__ = ["PII", "Contract", "Secret", "Writable", "check_size", "scrub", "scrub_text", "to_wire"]
