"""
The commands under `celery -A platform`: one module each, imported when it is run.

Every command that lists or shows takes `--json`: one JSON document on stdout and nothing else. Exit codes: 0 success,
1 when the answer is "no" or a check failed, 2 on wrong use.
"""
