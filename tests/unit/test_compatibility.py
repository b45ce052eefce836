"""
What a newer code may change without breaking calls that are on their way, and what not.
"""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from celery_platform.cli.compat import compat
from celery_platform.compatibility import breaks


def task(positional="number", required=("number",), version=1, upcasts=(), aliases=(), **types):
    names = positional.split()
    kinds = dict.fromkeys(names, "int") | types
    return {
        "version": version,
        "upcasts": list(upcasts),
        "aliases": list(aliases),
        "queue": None,
        "positional": names,
        "parameters": {name: {"type": kind, "required": name in required} for name, kind in kinds.items()},
        "extra": False,
        "extra_named": False,
    }


def document(**tasks):
    return {"format": 1, "tasks": tasks}


OLD = document(charge=task(note="str | None"))


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        document(charge=task(note="str | None"), more=task()),
        document(charge=task(note="str | None | int")),
        document(charge=task(number="float", note="str | None")),
        document(charge=task("number currency", currency="str", note="str | None")),
        document(pay=task(aliases=["charge"], note="str | None")),
        document(charge=task("number currency", ("number", "currency"), version=2, upcasts=[1])),
    ],
)
def test_what_old_calls_still_fit_breaks_nothing(new):
    assert breaks(OLD, new) == []


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (document(), "charge: the task is gone"),
        (document(charge=task("number currency", ("number", "currency"), note="str | None")), "'currency' is new and"),
        (document(charge=task("number currency", ("number", "currency"), version=2)), "'currency' is new and required"),
        (document(charge=task()), "'note' is gone"),
        (document(charge=task(note="str")), "'note' took str | None and takes str now"),
        (document(charge=task(number="str", note="str | None")), "'number' took int and takes str now"),
        (document(charge=task("currency number", note="str | None")), "positional parameters were (number) and are"),
        (document(charge=task(required=("number", "note"), note="str | None")), "'note' had a default and is required"),
    ],
)
def test_what_breaks_old_calls_is_named(new, said):
    assert any(said in problem for problem in breaks(OLD, new)), breaks(OLD, new)


def test_a_version_never_goes_back():
    problems = breaks(document(charge=task(version=2)), document(charge=task(version=1)))
    assert "the version went from 2 back to 1" in problems[0]


def test_the_command_fails_on_a_break_and_on_a_file_that_is_none(tmp_path):
    old, new, odd = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "odd.json"
    old.write_text(json.dumps(OLD))
    new.write_text(json.dumps(document()))
    odd.write_text("[]")
    run = CliRunner().invoke
    assert run(compat, [str(old), str(old)]).exit_code == 0
    broken = run(compat, [str(old), str(new), "--json"])
    assert (broken.exit_code, len(json.loads(broken.stdout)["breaks"])) == (1, 1)
    refused = run(compat, [str(old), str(odd)])
    assert refused.exit_code == 2
    assert "odd.json: expected the output of `celery -A platform registry --export`" in refused.output
