"""
The demo keeps what it shows: every outcome as expected, and nothing left behind.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def folder():
    """
    A temporary folder with a short path: a socket's must stay below 108 bytes.
    """
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


def _start(folder, *options):
    # Its temporary folder is ours, so what it leaves there or runs from there can be found.
    environment = {
        **os.environ,
        "TMPDIR": str(folder),
        "TERM": "dumb",
        "PLATFORM_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _left(folder):
    """
    The processes that know of the demo's folder, by command line or by environment.
    """
    found = []
    for process in psutil.process_iter():
        try:
            known = str(folder) in " ".join(process.cmdline()) or process.environ().get("TMPDIR") == str(folder)
        except psutil.Error:
            continue
        if known and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            found.append(" ".join(process.cmdline()))
    return found


def test_the_demo_ends_well_shows_every_outcome_and_leaves_nothing(folder):
    demo = _start(folder)
    said, _ = demo.communicate(timeout=200)

    assert demo.returncode == 0, said
    table = [re.split(r"\s*[│┃]\s*", line.strip(" │┃")) for line in said.splitlines() if "│" in line]
    rows = {row[0]: row[1:] for row in table}
    assert rows["thumbnails, one file torn"] == ["3", "2", "0", "1", "0", "yes"], said
    assert rows["e-mail: 451 once, 550 once"] == ["10", "9", "1", "1", "0", "yes"], said
    assert rows["webhooks: 503 twice, 410, 422"] == ["11", "9", "1", "1", "1", "yes"], said
    assert rows["in all"][:5] == ["29", "25", "2", "3", "1"], said
    assert "Beat has fired the clean-up that was due." in said
    assert re.search(r"The console is at http://127\.0\.0\.1:\d+/", said)
    wait_until(lambda: not _left(folder), timeout=15, what="every process of the demo to end")
    assert list(folder.iterdir()) == []


def test_an_interrupted_demo_leaves_nothing(folder):
    demo = _start(folder)
    try:
        seen = ""
        while "Enqueued" not in seen:
            line = demo.stdout.readline()
            assert line, seen
            seen += line
        demo.send_signal(signal.SIGINT)
        said, _ = demo.communicate(timeout=100)
    finally:
        demo.kill()

    assert demo.returncode == 130, seen + said
    wait_until(lambda: not _left(folder), timeout=15, what="every process of the demo to end")
    assert list(folder.iterdir()) == []
