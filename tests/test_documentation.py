"""
Hold README and docs to the code: their Python compiles, their links lead somewhere, their tables are complete.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import unquote, urlsplit

import pytest

from celery_platform import defaults, outcomes
from celery_platform.dead_letters import REASONS
from celery_platform.errors import PlatformError
from celery_platform.routing import Router
from celery_platform.settings import Settings
from celery_platform.transport.casualties import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _blocks() -> Iterator[Any]:
    for page in PAGES:
        for number, block in enumerate(_BLOCK.findall(page.read_text()), 1):
            yield pytest.param(block, id=f"{_named(page)}-{number}")


def _anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(_FENCE.sub("", page.read_text()))
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("block", list(_blocks()))
def test_every_python_block_compiles(block):
    compile(block, "documentation", "exec")


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_relative_link_leads_to_a_file_and_a_heading_that_exist(page):
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.exists(), f"{_named(page)} links to {link}, which does not exist"
        if parts.fragment:
            assert parts.fragment in _anchors(target), f"{_named(page)} links to {link}, which has no such heading"


_CHECK = """
from decimal import Decimal
import tasks
from celery_platform import Secret, app
assert app.tasks["tasks.charge"] is tasks.charge
paid = tasks.charge.apply(("inv-1", Decimal("9.90"), Secret("tok")))
assert paid.get() == Decimal("9.90"), paid.get()
assert tasks.charge.apply(("inv-1", Decimal(0), Secret("tok"))).state == "IGNORED"
try:
    tasks.charge.delay("inv-1")
except TypeError as refused:
    assert "missing 'amount', 'token'" in str(refused), refused
else:
    raise AssertionError("a call without its arguments was published")
"""


def test_the_readmes_example_is_a_tasks_package_that_imports_and_runs(tmp_path):
    (example,) = _BLOCK.findall((ROOT / "README.md").read_text())
    package = tmp_path / "tasks"
    package.mkdir()
    (package / "__init__.py").write_text(example)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLATFORM_")}
    environment |= {
        "PLATFORM_BROKER_URL": "redis://127.0.0.1:1/0",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "platform")]),
    }
    ran = subprocess.run(
        [sys.executable, "-c", _CHECK],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "attempt 1: charge 9.90 for inv-1" in ran.stdout


def test_the_configuration_page_names_every_setting_and_its_meaning():
    page = (ROOT / "docs/configuration.md").read_text()
    for name, field in Settings.model_fields.items():
        row = next((line for line in page.splitlines() if line.startswith(f"| `PLATFORM_{name.upper()}` |")), None)
        assert row is not None, f"docs/configuration.md has no row for PLATFORM_{name.upper()}"
        assert (field.description or "") in row, f"PLATFORM_{name.upper()} means something else: {field.description}"


def test_the_configuration_page_names_no_setting_that_does_not_exist():
    page = (ROOT / "docs/configuration.md").read_text()
    assert set(re.findall(r"^\| `PLATFORM_([A-Z_]+)` \|", page, re.MULTILINE)) == {
        n.upper() for n in Settings.model_fields
    }


@pytest.mark.parametrize("broker_url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"])
def test_the_defaults_page_gives_a_reason_for_every_celery_setting(broker_url):
    settings = Settings(broker_url=broker_url, state_url="redis://127.0.0.1:1/0")
    queues = Router((), {}).queues
    chosen = defaults.configuration(settings, queues, broker_url=broker_url, result_url="redis://127.0.0.1:1/0")
    page = (ROOT / "docs/defaults.md").read_text()
    missing = [name for name in [*chosen, *chosen["broker_transport_options"]] if f"`{name}`" not in page]
    assert missing == []


def test_the_lifecycle_page_names_every_outcome_and_every_reason_of_a_dead_letter():
    page = (ROOT / "docs/lifecycle.md").read_text()
    code = (ROOT / "platform/celery_platform/execution.py").read_text()
    reasons = set(re.findall(r'"(exhausted|rejected|invalid|timeout|deadline)"', code))
    names = ["Succeeded", "Skipped", "Deferred", "Retrying", "Buried", *sorted({*reasons, *get_args(Reason)})]
    assert reasons
    assert [name for name in names if f"`{name}`" not in page] == []
    assert all(hasattr(outcomes, name) for name in names[:5])


def test_the_page_of_dead_letters_names_every_reason_that_can_be_asked_for():
    page = (ROOT / "docs/dead_letters.md").read_text()
    assert [reason for reason in REASONS if f"| `{reason}` |" not in page] == []


def test_the_retries_page_states_the_formula_of_the_backoff_module():
    formula = "delay(n) = min(ceiling, first * factor ** (n - 1))"
    assert formula in (ROOT / "docs/retries.md").read_text()
    assert formula in (ROOT / "platform/celery_platform/backoff.py").read_text()


def test_the_newcomers_card_names_files_that_exist():
    card = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where is…?")[2].partition("\n## ")[0]
    named = [name for name in re.findall(r"`([\w./-]+)`", card) if "/" in name or name.endswith((".py", ".md"))]
    bases = (ROOT, ROOT / "platform/celery_platform")
    assert named
    assert [name for name in named if not any((base / name).exists() for base in bases)] == []


def test_every_error_the_docs_name_exists():
    known = {PlatformError.__name__} | {kind.__name__ for kind in _descendants(PlatformError)}
    from celery_platform.task import PublishFailed

    known.add(PublishFailed.__name__)
    text = "\n".join(page.read_text() for page in PAGES)
    for name in re.findall(r"`((?:Payload|Publish|Policy|Store|Unknown|Unsafe|Configuration|Embedded)[A-Z]\w+)`", text):
        assert name in known, f"the documentation names {name}, which is no error of the platform"


def _descendants(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)
