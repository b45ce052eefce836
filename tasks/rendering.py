"""
Fill the templates that are shipped in `tasks/templates`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

__all__ = ["render"]


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


def render(template: str, **context: Any) -> str:
    """
    Return *template* filled with *context*; values are escaped in ``.html`` templates.

    Raises `jinja2.TemplateError` for a template that is missing, and for a value it needs and did not get.
    """
    return _environment().get_template(template).render(context)
