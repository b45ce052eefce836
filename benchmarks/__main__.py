"""
`make bench`: run the benchmarks and write their tables into benchmarks/README.md.

    python -m benchmarks            all of them
    python -m benchmarks overhead   one of them
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

from benchmarks import overhead

README = Path(__file__).with_name("README.md")
MARKS = ("<!-- overhead: written by the run -->", "<!-- /overhead -->")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="?", choices=["overhead"], default="overhead")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--keep-readme", action="store_true", help="print the table only")
    words = parser.parse_args()
    rows = overhead.measure(rounds=words.rounds, calls=words.calls)
    table = table_of(("", "plain Celery", "platform", "ratio"), rows)
    print(table)
    if not words.keep_readme:
        write(table)


def table_of(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, ("---",) * len(columns), *rows)]
    return "\n".join(lines)


def write(table: str) -> None:
    machine = f"{time.strftime('%Y-%m-%d')}, {platform.system()}, CPython {platform.python_version()}, medians"
    text = README.read_text()
    before, rest = text.split(MARKS[0], 1)
    _, after = rest.split(MARKS[1], 1)
    README.write_text(f"{before}{MARKS[0]}\n{machine}\n\n{table}\n{MARKS[1]}{after}")


main()
