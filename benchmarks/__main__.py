"""
`make bench`: run the benchmarks and write their tables into benchmarks/README.md.

    python -m benchmarks             all of them
    python -m benchmarks overhead    what the platform adds to plain Celery
    python -m benchmarks schedules   ten thousand schedule entries
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

from benchmarks import overhead, schedules

README = Path(__file__).with_name("README.md")
COLUMNS = {"overhead": ("", "plain Celery", "platform", "ratio"), "schedules": ("", "measured", "goal")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", choices=[*COLUMNS, []], default=[])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=60, help="how long firings are watched")
    parser.add_argument("--keep-readme", action="store_true", help="print the tables only")
    words = parser.parse_args()
    for name in words.which or COLUMNS:
        rows = (
            overhead.measure(rounds=words.rounds, calls=words.calls)
            if name == "overhead"
            else schedules.measure(seconds=words.seconds)
        )
        table = table_of(COLUMNS[name], rows)
        print(table)
        if not words.keep_readme:
            write(name, table)


def table_of(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, ("---",) * len(columns), *rows)]
    return "\n".join(lines)


def write(name: str, table: str) -> None:
    first, last = f"<!-- {name}: written by the run -->", f"<!-- /{name} -->"
    machine = f"{time.strftime('%Y-%m-%d')}, {platform.system()}, CPython {platform.python_version()}"
    text = README.read_text()
    before, rest = text.split(first, 1)
    _, after = rest.split(last, 1)
    README.write_text(f"{before}{first}\n{machine}, medians\n\n{table}\n{last}{after}")


main()
