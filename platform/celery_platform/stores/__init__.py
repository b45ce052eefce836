"""Shared state behind guards and dead letters."""
