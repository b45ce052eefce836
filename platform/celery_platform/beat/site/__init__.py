"""
The small Django site behind the schedules: tables, migrations and the admin pages.
"""
