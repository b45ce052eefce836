"""
Roles: who may do what.
"""

from __future__ import annotations

import pytest

from celery_platform.console.access import LOCAL, Right, Roles
from celery_platform.errors import ConfigurationError
from celery_platform.settings import Settings


@pytest.mark.parametrize(
    ("role", "rights"),
    [
        ("none", [Right.OPEN]),
        ("viewer", [Right.OPEN, Right.VIEW]),
        ("operator", [Right.OPEN, Right.VIEW, Right.OPERATE]),
        ("admin", [Right.OPEN, Right.VIEW, Right.OPERATE, Right.ADMINISTER]),
    ],
)
def test_a_role_holds_its_rights_and_no_others(role, rights):
    visitor = Roles({"kim": role}).visitor("kim")
    assert [right for right in Right if visitor.may(right)] == rights


@pytest.mark.parametrize("payloads", [True, False])
@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_payloads_are_a_right_apart_from_the_role(role, payloads):
    visitor = Roles({"kim": f"{role}+payloads" if payloads else role}).visitor("kim")
    assert (visitor.role, visitor.payloads) == (role, payloads)


def test_the_first_rule_that_matches_counts_and_nobody_is_more_than_a_viewer_unnamed():
    roles = Roles({"root@example.com": "admin+payloads", "*@example.com": "operator", "mallory@*": "none"})
    assert roles.visitor("root@example.com").role == "admin"
    assert roles.visitor("kim@example.com").role == "operator"
    assert not roles.visitor("mallory@example.org").may(Right.VIEW)
    assert (roles.visitor("kim@example.org").role, roles.visitor("kim@example.org").payloads) == ("viewer", False)


def test_names_differ_by_case():
    assert Roles({"Root": "admin"}).visitor("root").role == "viewer"


def test_only_this_machines_users_are_admins_unless_told_otherwise():
    assert Roles({}).visitor(LOCAL).role == "admin"
    assert Roles({LOCAL: "viewer"}).visitor(LOCAL).role == "viewer"


@pytest.mark.parametrize("word", ["admn", "admin+payload", "admin+", "Admin", "viewer+payloads+x"])
def test_a_role_nobody_knows_is_refused_with_the_ones_that_are(word):
    with pytest.raises(ConfigurationError, match=r"expected one of none, viewer, operator, admin"):
        Roles({"kim": word})


def test_roles_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("PLATFORM_CONSOLE_ROLES", "kim=admin+payloads, *@example.com = viewer")
    assert Settings.load().console_roles == {"kim": "admin+payloads", "*@example.com": "viewer"}
    monkeypatch.setenv("PLATFORM_CONSOLE_ROLES", "kim")
    with pytest.raises(ConfigurationError, match=r"PLATFORM_CONSOLE_ROLES: expected name=role\[\+payloads\]"):
        Settings.load()
