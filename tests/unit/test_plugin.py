from __future__ import annotations

import platform as standard_platform
import sys
import types
from importlib.metadata import entry_points

import click
import pytest
from click.testing import CliRunner

from celery_platform import _plugin, celery_app


@pytest.fixture
def home(monkeypatch):
    """
    A module with a real command, as `LazyCommand` finds it.
    """
    module = types.ModuleType("plugin_test_home")

    @click.command()
    @click.argument("name")
    @click.option("--loud", is_flag=True)
    @click.pass_context
    def greet(ctx, name, loud):
        """Greet somebody."""
        click.echo(f"{ctx.obj} {name}{'!' if loud else ''}")
        ctx.exit(3 if name == "nobody" else 0)

    module.greet = greet
    monkeypatch.setitem(sys.modules, "plugin_test_home", module)
    return _plugin.LazyCommand("greet", "plugin_test_home:greet", "Greet.")


def run(command, *words):
    # Celery hangs its commands under one group, which carries the app.
    group = click.Group("celery", {command.name: command})
    return CliRunner().invoke(group, [command.name, *words], obj="hello")


def test_words_reach_the_real_command_with_its_options_and_context(home):
    result = run(home, "mary", "--loud")
    assert (result.exit_code, result.output) == (0, "hello mary!\n")


def test_the_exit_code_of_the_real_command_is_kept(home):
    assert run(home, "nobody").exit_code == 3


def test_help_and_mistakes_are_those_of_the_real_command(home):
    assert "Greet somebody." in run(home, "--help").output
    assert "--loud" in run(home, "--help").output
    wrong = run(home, "mary", "--quiet")
    assert wrong.exit_code == 2
    assert "No such option" in wrong.output
    assert run(home).exit_code == 2


def test_making_a_command_imports_nothing_of_it():
    command = _plugin.LazyCommand("lost", "nonexistent_home:lost", "Lost.")
    assert command.get_short_help_str() == "Lost."
    assert isinstance(run(command, "x").exception, ModuleNotFoundError)


def test_every_entry_point_of_ours_leads_to_a_command_of_its_name():
    ours = [entry for entry in entry_points(group="celery.commands") if entry.value.startswith("celery_platform.")]
    assert {entry.name for entry in ours} >= {"settings", "route", "dead"}
    for entry in ours:
        command = entry.load()
        assert isinstance(command, _plugin.LazyCommand)
        assert command.name == entry.name


def test_the_standard_librarys_platform_answers_for_the_app_alone(monkeypatch):
    app = object()
    monkeypatch.setattr(celery_app, "current_app", lambda: app)
    assert standard_platform.app is app
    assert standard_platform.system() == "Linux"
    with pytest.raises(AttributeError, match="module 'platform' has no attribute 'sytem'"):
        _ = standard_platform.sytem


def test_the_true_cause_of_an_app_that_cannot_be_built_is_shown(monkeypatch):
    def broken():
        raise AttributeError("type object 'Decimal' has no attribute 'of'")

    monkeypatch.setattr(celery_app, "current_app", broken)
    with pytest.raises(RuntimeError, match="could not be built: type object 'Decimal'") as caught:
        _ = standard_platform.app
    assert isinstance(caught.value.__cause__, AttributeError)
