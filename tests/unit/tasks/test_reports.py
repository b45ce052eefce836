from __future__ import annotations

import gzip
import json
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pytest

from celery_platform import Dead
from tasks.reports import build_report

HEADER = "id,region,amount\n"


def _orders(path, rows):
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        file.write(HEADER)
        file.writelines(f"{number},{('north', 'south')[number % 2]},0.10\n" for number in range(rows))
    return path


def test_the_totals_of_forty_thousand_rows_are_exact(tmp_path):
    found = build_report(_orders(tmp_path / "orders.csv", 40_000), tmp_path / "out")

    report = json.loads(Path(found["path"]).read_text())
    assert (found["rows"], found["rejected"], found["amount"]) == (40_000, 0, "4000.00")
    assert report["groups"] == {
        "north": {"rows": 20_000, "amount": "2000.00"},
        "south": {"rows": 20_000, "amount": "2000.00"},
    }


def test_a_report_is_written_for_machines_spreadsheets_and_people(tmp_path):
    build_report(_orders(tmp_path / "orders.csv", 4), tmp_path / "out")

    written = sorted((tmp_path / "out").iterdir())
    assert [path.suffix for path in written] == [".csv", ".html", ".json"]
    assert written[0].read_text().splitlines() == ["group,rows,amount", "north,2,0.20", "south,2,0.20"]
    assert "4 rows, 0 rejected" in written[1].read_text()


def test_bad_rows_are_counted_and_listed_with_their_line(tmp_path):
    source = tmp_path / "orders.csv"
    source.write_text(HEADER + "1,north,1.50\n2,north,many\n3,,2\n4,south,NaN\n5\n6,south,1e400\n7,south,2.50\n")

    found = build_report(source, tmp_path / "out")

    report = json.loads(Path(found["path"]).read_text())
    assert (found["rows"], found["rejected"], Decimal(str(found["amount"]))) == (2, 5, Decimal("4.00"))
    assert [reject.partition(":")[0] for reject in report["rejects"]] == ["3", "4", "5", "6", "7"]
    assert "'many' is not an amount" in report["rejects"][0]


def test_a_file_of_bad_rows_lists_no_more_than_a_hundred(tmp_path):
    source = tmp_path / "orders.csv"
    source.write_text(HEADER + "1,north,x\n" * 500)

    found = build_report(source, tmp_path / "out")

    report = json.loads(Path(found["path"]).read_text())
    assert (found["rejected"], len(report["rejects"])) == (500, 100)


def test_the_same_file_and_question_is_answered_with_the_report_that_is_there(tmp_path):
    source = _orders(tmp_path / "orders.csv", 10)
    first = build_report(source, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}

    assert build_report(source, tmp_path / "out") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_another_file_or_another_question_makes_another_report(tmp_path):
    source = _orders(tmp_path / "orders.csv", 10)
    paths = {build_report(source, tmp_path / "out")["path"], build_report(source, tmp_path / "out", group="id")["path"]}
    _orders(source, 11)
    paths.add(build_report(source, tmp_path / "out")["path"])

    assert len(paths) == 3


def test_a_compressed_file_gives_the_same_totals(tmp_path):
    plain = build_report(_orders(tmp_path / "a.csv", 1000), tmp_path / "out")
    packed = build_report(_orders(tmp_path / "b.csv.gz", 1000), tmp_path / "out")

    assert (packed["rows"], packed["amount"]) == (plain["rows"], plain["amount"])


def test_memory_does_not_grow_with_the_rows(tmp_path):
    source = _orders(tmp_path / "orders.csv", 100_000)

    tracemalloc.start()
    try:
        build_report(source, tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert source.stat().st_size > 1_500_000
    assert peak < 1_000_000


def test_progress_ends_at_the_size_of_the_file(tmp_path, reported):
    source = _orders(tmp_path / "orders.csv", 3000)

    build_report(source, tmp_path / "out")

    assert reported[-1] == {"done": source.stat().st_size, "total": source.stat().st_size, "message": "3000 rows"}


def test_a_missing_file_is_dead(tmp_path):
    with pytest.raises(Dead, match="not a file"):
        build_report(tmp_path / "none.csv", tmp_path / "out")


def test_a_missing_column_is_dead_and_names_those_that_are_there(tmp_path):
    with pytest.raises(Dead, match=r"no column nation; it has \['id', 'region', 'amount'\]"):
        build_report(_orders(tmp_path / "orders.csv", 1), tmp_path / "out", group="nation")


def test_a_file_that_breaks_off_is_dead_and_leaves_no_report(tmp_path):
    source = _orders(tmp_path / "orders.csv.gz", 10_000)
    source.write_bytes(source.read_bytes()[:-200])

    with pytest.raises(Dead, match="breaks off after line"):
        build_report(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_group_that_looks_like_a_formula_is_no_formula_in_the_spreadsheet(tmp_path):
    source = tmp_path / "orders.csv"
    source.write_text(HEADER + '1,"=HYPERLINK(""x"")",1\n')

    build_report(source, tmp_path / "out")

    assert "\"'=HYPERLINK" in next((tmp_path / "out").glob("*.csv")).read_text()


def test_a_group_cannot_write_markup_into_the_page(tmp_path):
    source = tmp_path / "orders.csv"
    source.write_text(HEADER + "1,<script>alert(1)</script>,1\n")

    build_report(source, tmp_path / "out")

    assert "<script>" not in next((tmp_path / "out").glob("*.html")).read_text()
