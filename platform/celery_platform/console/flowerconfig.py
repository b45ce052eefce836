"""
What Flower executes as its configuration file before it builds its application.
"""

from celery_platform.console.door import open_door

open_door()
