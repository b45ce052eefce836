"""Benchmarks: ratios against plain Celery or a peer in the same run. See benchmarks/README.md."""
