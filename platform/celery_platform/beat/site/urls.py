"""
Serve the admin at the root of the site.
"""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

__all__ = ["urlpatterns"]

urlpatterns = [path("", admin.site.urls)]
