"""
The deployment's schedule.
"""

schedule: list[object] = []
