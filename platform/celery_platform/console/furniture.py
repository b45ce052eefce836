"""
Find templates in our folder and in Flower's, and add our pages to Flower's navigation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado.template import BaseLoader, Template

from celery_platform.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BothLoader"]

_OURS = Path(__file__).with_name("templates")
# Where Flower's list of pages ends, and the list of its buttons begins.
_END_OF_PAGES = re.compile(r"\s*</ul>\s*<ul class=\"app-nav app-nav-secondary")
_SCRIPT = re.compile(r"<script type=\"text/javascript\">(.*?)</script>", re.DOTALL)


class BothLoader(BaseLoader):
    """
    Templates of ours, and those of Flower in *theirs*; Flower's navigation gets our pages.

    Raises `ConfigurationError` when Flower's templates are not the ones our pages were made for.
    """

    def __init__(self, theirs: str) -> None:
        super().__init__(autoescape="xhtml_escape", whitespace=None)
        self._theirs = Path(theirs)
        self._navbar()
        self.inline_script(0)

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """
        Return *name*: all templates stand side by side.
        """
        del parent_path
        return name

    def _create_template(self, name: str) -> Template:
        return Template(self._text(name), name=name, loader=self)

    def _text(self, name: str) -> str:
        ours = _OURS / name
        if name == "navbar.html":
            return self._navbar()
        return (ours if ours.is_file() else self._theirs / name).read_text(encoding="utf-8")

    def _navbar(self) -> str:
        text = (self._theirs / "navbar.html").read_text(encoding="utf-8")
        (end,) = self._only(_END_OF_PAGES.finditer(text), "the end of the list of pages in navbar.html")
        ours = (_OURS / "tabs.html").read_text(encoding="utf-8")
        return f"{text[: end.start()]}\n{ours}{text[end.start() :]}"

    def inline_script(self, autorefresh: int) -> str:
        """
        Return Flower's one inline script as a browser gets it.
        """
        text = (self._theirs / "workers.html").read_text(encoding="utf-8")
        (script,) = self._only(_SCRIPT.finditer(text), "the one script of workers.html")
        made: bytes = Template(script.group(1), name="script.html").generate(autorefresh=autorefresh)
        return made.decode()

    def _only(self, found: Iterable[Any], what: str) -> list[Any]:
        all_found = list(found)
        if len(all_found) != 1:
            raise ConfigurationError(
                f"Flower's templates in {self._theirs} are not those of Flower 2.2: {what} was not found. "
                "Install the extra: celery-platform[flower]."
            )
        return all_found
