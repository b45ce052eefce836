"""
The house keeps its shape: what imports what, what stands where, and how large it may grow.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import celery_platform

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "platform" / "celery_platform"
MODULES = sorted(PACKAGE.rglob("*.py"))
LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 60


def python(text, *, path=True):
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "platform") if path else ""}
    answer = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def loaded_by(statement):
    """
    The modules that *statement* loads beyond those of a bare interpreter.
    """
    return set(json.loads(python(f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))")))


def name_of(module):
    return str(module.relative_to(PACKAGE))


def test_the_source_root_is_no_package():
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_standard_library_keeps_its_platform_in_the_root_of_the_repository():
    assert python("import platform; print(platform.system())", path=False) == "Linux\n"


def test_the_plugin_leaves_every_name_of_the_standard_librarys_platform_alone():
    text = (
        "import platform; before = dict(vars(platform)); import celery_platform._plugin; after = vars(platform)\n"
        "print([name for name in before if name[0] != '_' and after[name] is not before[name]], {*after} - {*before})"
    )
    assert python(text) == "[] {'__getattr__'}\n"


def test_the_public_names_are_these_and_no_others():
    assert sorted(celery_platform.__all__) == [
        "Backoff",
        "CircuitBreaker",
        "ConcurrencyLimit",
        "Dead",
        "Discard",
        "Idempotency",
        "PII",
        "Platform",
        "RateLimit",
        "Retention",
        "RetryAfter",
        "RetryBudget",
        "Secret",
        "Snooze",
        "app",
        "current_call",
        "on_dead",
        "platform_task",
        "upcast",
    ]


def test_every_public_name_can_be_had():
    for name in set(celery_platform.__all__) - {"app"}:
        assert getattr(celery_platform, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'platform_tusk'"):
        _ = celery_platform.platform_tusk


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"celery", "kombu", "pydantic", "pydantic_settings", "redis", "rich", "click", "orjson"}
    assert heavy & loaded_by("import celery_platform") == set()


def test_the_plugin_loads_nothing_that_help_does_not_need():
    heavy = {"celery", "kombu", "pydantic", "pydantic_settings", "redis", "rich", "orjson"}
    loaded = loaded_by("import celery_platform._plugin")
    assert heavy & loaded == set()
    assert {name for name in loaded if name.startswith("celery_platform.")} == {"celery_platform._plugin"}


def test_the_execution_core_loads_neither_celery_nor_redis():
    loaded = loaded_by("import celery_platform.execution, celery_platform.dead_letters, celery_platform.stores.memory")
    assert {"celery", "kombu", "redis", "pydantic"} & loaded == set()


def test_the_floors_hold():
    answer = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "platform")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert " 0 broken" in answer.stdout


def importers_of(*names):
    found = set()
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported = [node.module or ""]
            if any(one.split(".")[0] in names for one in imported):
                found.add(name_of(module))
    return found


def test_only_the_stores_and_the_floor_of_celery_import_redis():
    floor = ("stores/redis", "transport/", "worker/", "beat/")
    assert {name for name in importers_of("redis") if not name.startswith(floor)} == set()


def test_only_the_floors_of_celery_and_above_import_celery_or_kombu():
    lower = ("stores/", "payload/", "guards/", "dead_letters/")
    ground = {
        "errors.py", "outcomes.py", "clock.py", "backoff.py", "settings.py", "policy.py", "routing.py", "events.py",
        "execution.py", "headers.py", "current.py", "__init__.py", "_plugin.py",
    }  # fmt: skip
    found = importers_of("celery", "kombu")
    assert {name for name in found if name.startswith(lower) or name in ground} == set()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_stays_readable(module):
    text = module.read_text()
    assert len(text.splitlines()) <= LINES_OF_A_MODULE
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    long = {node.name: size for node in functions if (size := node.end_lineno - node.lineno + 1) > LINES_OF_A_FUNCTION}
    assert long == {}


def test_every_script_for_redis_has_a_header_of_comments():
    scripts = sorted(PACKAGE.rglob("*.lua"))
    assert scripts
    for script in scripts:
        header = script.read_text().split("\n\n")[0]
        assert header.startswith("--"), script
        assert "KEYS" in script.read_text(), script
        assert "eturn" in header, f"{script.name} does not say what it returns"
