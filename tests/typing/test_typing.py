"""
The typed surface holds for both type checkers: what is right passes, and each marked line is refused.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
API, REFUSED = HERE / "api.py", HERE / "refused.py"
MARK = "# expect-error"


def run(*command, **environment):
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False, env={**os.environ, **environment}
    )


def mypy(tmp_path_factory):
    result = run(
        sys.executable, "-m", "mypy", "--no-pretty", "--cache-dir", str(tmp_path_factory.mktemp("mypy")), API, REFUSED
    )
    found = re.findall(r"^(\S+?):(\d+): error: ", result.stdout, flags=re.MULTILINE)
    assert "Found " in result.stdout, result.stdout + result.stderr
    return {(Path(name).name, int(line)) for name, line in found}


def pyright(_tmp_path_factory):
    result = run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", API, REFUSED)
    try:
        diagnostics = json.loads(result.stdout)["generalDiagnostics"]
    except ValueError:
        # The wheel fetches its engine on first use.
        reason = f"pyright did not run here: {result.stderr[-500:]}"
        pytest.fail(reason) if "CI" in os.environ else pytest.skip(reason)
    return {
        (Path(entry["file"]).name, entry["range"]["start"]["line"] + 1)
        for entry in diagnostics
        if entry["severity"] == "error"
    }


@pytest.fixture(scope="module", params=[mypy, pyright], ids=["mypy", "pyright"])
def errors(request, tmp_path_factory):
    return request.param(tmp_path_factory)


def test_the_public_surface_is_free_of_errors(errors):
    assert {line for name, line in errors if name == API.name} == set()


def test_each_marked_line_is_refused_and_no_other(errors):
    marked = {n for n, line in enumerate(REFUSED.read_text().splitlines(), 1) if MARK in line}
    assert len(marked) > 20
    assert {line for name, line in errors if name == REFUSED.name} == marked
