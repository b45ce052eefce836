"""
Show a running process from outside: probes, metrics, traces, logs, error reports.

Sinks listen to `events` and change nothing; each imports its library only when it is asked for.
"""
