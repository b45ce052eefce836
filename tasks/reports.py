"""
Build a report from a CSV of any length: totals in exact decimals, bad rows counted and listed, never fatal.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path  # noqa: TC003 - the payload contract reads the annotation
from typing import TYPE_CHECKING, TextIO

from celery_platform import Backoff, Dead, current_call, platform_task
from tasks.atomic import replacing
from tasks.rendering import render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["Report", "Totals", "build_report"]

_EVERY = 1000
_LISTED_REJECTS = 100
_LARGEST_AMOUNT = Decimal(10) ** 12


@dataclass(slots=True)
class Totals:
    """The sum of one group."""

    rows: int = 0
    amount: Decimal = Decimal(0)


@dataclass(slots=True)
class Report:
    """
    What was found in a file; *fingerprint* is the hash of its bytes and of the question asked.

    *rejected* counts the bad rows; *rejects* lists the first hundred as ``line: reason``.
    """

    source: str
    fingerprint: str
    rows: int = 0
    rejected: int = 0
    amount: Decimal = Decimal(0)
    groups: dict[str, Totals] = field(default_factory=dict)
    rejects: list[str] = field(default_factory=list)


@platform_task(priority="bulk", retry=Backoff(on=OSError, attempts=5, first=5, ceiling=300), timeout=900)
def build_report(source: Path, folder: Path, group: str = "region", amount: str = "amount") -> dict[str, str | int]:
    """
    Sum column *amount* of *source* (CSV with a header, UTF-8, ``.gz`` allowed) for each value of column *group*.

    Writes ``NAME-FINGERPRINT`` ``.csv``, ``.html`` and ``.json`` into *folder* and returns the path of the last, with
    the counts. Its memory grows with the number of groups, not of rows. The same file and question again costs one hash
    and answers with the report that is there. A missing file or column buries the call.
    """
    fingerprint = _fingerprint(source, group, amount)
    target = folder / f"{source.name.removesuffix('.gz').removesuffix('.csv')}-{fingerprint[:16]}.json"
    if not target.exists():
        report = Report(source.name, fingerprint)
        _read(source, group, amount, report)
        _publish(report, target)
    counts = json.loads(target.read_bytes())
    return {"path": str(target), "rows": counts["rows"], "rejected": counts["rejected"], "amount": counts["amount"]}


def _fingerprint(source: Path, *question: str) -> str:
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except (FileNotFoundError, IsADirectoryError):
        raise Dead(f"{source} is not a file.") from None
    digest.update("\0".join(question).encode())
    return digest.hexdigest()


def _read(source: Path, group: str, amount: str, report: Report) -> None:
    total = source.stat().st_size
    with source.open("rb") as raw, _text(source, raw) as text:
        lines = csv.DictReader(text)
        missing = {group, amount} - set(lines.fieldnames or ())
        if missing:
            raise Dead(f"{source.name} has no column {', '.join(sorted(missing))}; it has {lines.fieldnames}.")
        try:
            for number, row in enumerate(lines, start=1):
                _add(report, lines.line_num, row.get(group), row.get(amount))
                if number % _EVERY == 0:
                    # The position in the file is the only measure of a stream whose rows nobody has counted.
                    current_call().progress(min(raw.tell(), total - 1), total, f"{number} rows")
        except (csv.Error, EOFError, gzip.BadGzipFile) as broken:
            raise Dead(f"{source.name} breaks off after line {lines.line_num}: {broken}") from None
    current_call().progress(total, total, f"{report.rows} rows")


@contextmanager
def _text(source: Path, raw: BinaryIO) -> Iterator[TextIO]:
    plain = gzip.GzipFile(fileobj=raw) if source.suffix == ".gz" else raw
    # Bytes that are no UTF-8 make a strange group, not a failed report.
    with io.TextIOWrapper(plain, encoding="utf-8-sig", errors="replace", newline="") as text:
        yield text


def _add(report: Report, line: int, group: str | None, amount: str | None) -> None:
    value = _amount(amount)
    if not group or value is None:
        report.rejected += 1
        if len(report.rejects) < _LISTED_REJECTS:
            report.rejects.append(f"{line}: " + (f"{amount!r:.40} is not an amount" if group else "no group"))
        return
    totals = report.groups.setdefault(group, Totals())
    totals.rows += 1
    totals.amount += value
    report.rows += 1
    report.amount += value


def _amount(text: str | None) -> Decimal | None:
    try:
        value = Decimal((text or "").strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value) <= _LARGEST_AMOUNT else None


def _publish(report: Report, target: Path) -> None:
    groups = dict(sorted(report.groups.items(), key=lambda item: (-item[1].amount, item[0])))
    with replacing(target.with_suffix(".csv")) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["group", "rows", "amount"])
        out.writerows([_plain_cell(name), totals.rows, totals.amount] for name, totals in groups.items())
    with replacing(target.with_suffix(".html")) as draft:
        draft.write_text(render("report.html", report=report, groups=groups), encoding="utf-8")
    # Last, because its presence says that the report is whole.
    with replacing(target) as draft:
        draft.write_text(json.dumps({
            "source": report.source, "fingerprint": report.fingerprint,
            "rows": report.rows, "rejected": report.rejected, "amount": str(report.amount),
            "groups": {name: {"rows": one.rows, "amount": str(one.amount)} for name, one in groups.items()},
            "rejects": report.rejects,
        }, indent=2), encoding="utf-8")  # fmt: skip


def _plain_cell(text: str) -> str:
    # A spreadsheet would run a cell that begins like a formula.
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
