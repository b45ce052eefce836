"""
Run the reference work on the shipped data: ``python -m demo [--keep]``.

Ends with 0 when every call ended as expected, with 1 when one did not, with 130 when it was interrupted.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from celery_platform.errors import PlatformError
from demo.sinks import SECRET, MailSink, WebSink, listening
from demo.stage import ROOT, Stage, free_port
from demo.view import Board, Snapshot, summary, tally
from demo.work import enqueue, lay_out, shortfalls, swept

if TYPE_CHECKING:
    from collections import Counter
    from types import FrameType

_LONGEST = 90.0
_INTERRUPTED = 130


@click.command(help=__doc__)
@click.option("--keep", is_flag=True, help="Leave worker, beat, Flower and the embedded server running.")
def main(*, keep: bool) -> None:
    """
    Set the stage, do the work, take everything down.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(width=None if sys.stdout.isatty() else 110)
    folder = Path(tempfile.mkdtemp(prefix="celery-platform-demo-"))
    os.chdir(ROOT)
    _environment(folder)
    stage = Stage(folder, free_port())
    status = 1
    try:
        status = 0 if _play(console, stage) else 1
    except KeyboardInterrupt:
        console.print("interrupted")
        status = _INTERRUPTED
    except PlatformError as error:
        console.print(str(error), markup=False)
    finally:
        if keep and status == 0:
            _tell_how_to_stop(console, stage)
        else:
            _clear(stage)
    sys.exit(status)


def _environment(folder: Path) -> None:
    # The demo brings its own broker: nothing of it may reach one that this shell points to.
    for name in [name for name in os.environ if name.startswith(("PLATFORM_", "TASKS_", "FLOWER_"))]:
        del os.environ[name]
    os.environ |= {
        "PLATFORM_WORKDIR": str(folder),
        "PLATFORM_TASKS": "tasks,beat,demo.schedule",
        "PLATFORM_QUEUES": "mail,hooks,heavy",
        "PLATFORM_ROUTES": "tasks.email.*=mail,tasks.webhooks.*=hooks,tasks.reports.*=heavy,tasks.images.*=heavy",
        "TASKS_WEBHOOK_ALLOW_PRIVATE": "1",
        "TASKS_WEBHOOK_SECRET": SECRET,
        "TASKS_MAIL_FROM": "shop@example.com",
    }


def _play(console: Console, stage: Stage) -> bool:
    started = time.monotonic()
    with ExitStack() as stack:
        mail, web = MailSink(), WebSink()
        stack.enter_context(listening(mail))
        stack.enter_context(listening(web))
        os.environ["TASKS_SMTP_URL"] = mail.url
        console.print("Starting an embedded Redis, a worker, beat and Flower.")
        lay_out(stage.folder)
        stage.raise_curtain()
        snapshot = Snapshot(enqueue(stage.folder, web))
        console.print(f"Enqueued {sum(len(errand.calls) for errand in snapshot.errands)} calls.")
        _watch(console, stage, snapshot, started)
        knocks = mail.knocks + web.knocks
    return _judge(console, stage, snapshot, knocks)


def _watch(console: Console, stage: Stage, snapshot: Snapshot, started: float) -> None:
    told = fired = False
    with Board(console, snapshot) as board:
        while (elapsed := time.monotonic() - started) < _LONGEST:
            if stage.fallen():
                return
            snapshot.refresh()
            board.show(elapsed)
            if not told and stage.console_answers():
                console.print(f"The console is at {stage.console}", highlight=False)
                told = True
            if not fired and swept(stage.folder):
                console.print("Beat has fired the clean-up that was due.")
                fired = True
            if told and fired and snapshot.over:
                return
            time.sleep(0.2)


def _judge(console: Console, stage: Stage, snapshot: Snapshot, knocks: Counter[str]) -> bool:
    from celery_platform.celery_app import current_platform

    if fallen := stage.fallen():
        console.print(f"{fallen} ended too soon:\n{stage.log_of(fallen)}", markup=False)
        return False
    letters = {letter.call_id: letter for letter in current_platform().dead_letters.newest(100)}
    tallies = [tally(errand, snapshot.states, knocks, letters.keys()) for errand in snapshot.errands]
    for letter in reversed(letters.values()):
        console.print(f"buried: {letter.task}: {letter.error}", markup=False, highlight=False)
    console.print(summary(snapshot.errands, tallies))
    missing = list(shortfalls(stage.folder))
    for line in missing:
        console.print(line, markup=False)
    done = not missing and all(found == one.expected for one, found in zip(snapshot.errands, tallies, strict=True))
    if not done:
        console.print(f"Not as expected. The worker said last:\n{stage.log_of('worker')}", markup=False)
    return done


def _clear(stage: Stage) -> None:
    from celery_platform import embedded

    # An impatient second Ctrl-C must not leave processes behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    stage.drop_curtain()
    embedded.stop(stage.folder)
    shutil.rmtree(stage.folder, ignore_errors=True)


def _tell_how_to_stop(console: Console, stage: Stage) -> None:
    pids = " ".join(str(process.pid) for process in stage.processes.values())
    console.print(
        f"Still running, with logs in {stage.folder}. The console: {stage.console}\n"
        f"Ask it things:  PLATFORM_WORKDIR={stage.folder} celery -A platform dead list\n"
        f"Stop it all:    kill {pids}; rm -r {stage.folder}   (the embedded Redis leaves with its last user)",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
