"""
Configure Django for the schedules and bring the tables up to date, safely when several start at once.
"""

from __future__ import annotations

import fcntl
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from celery_platform.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_platform.settings import Settings

__all__ = ["APPS", "configure", "database", "migrate", "prepare"]

APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "celery_platform.beat.site",
]
_POSTGRES = ("postgresql", "postgres")
_FILE = "beat.sqlite3"
# Any number does, as long as nobody else takes it.
_ADVISORY_LOCK = 7_230_519_400_117
# A leader that is frozen in the middle of a transaction must not hold its successor up: the server ends its session.
_NO_FROZEN_LOCKS = "-c idle_in_transaction_session_timeout=4000 -c lock_timeout=3000"


def database(settings: Settings) -> dict[str, Any]:
    """
    Return Django's words for `PLATFORM_DATABASE_URL`, or for the SQLite file of the working directory.

    Raises `ConfigurationError` for a URL of another kind.
    """
    url = settings.database_url.get_secret_value() if settings.database_url else ""
    if not url:
        folder = (settings.workdir or Path.cwd()) / ".celery-platform"
        return _sqlite(folder / _FILE)
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        # As usual: three slashes begin a relative path, four an absolute one.
        return _sqlite(Path(unquote(parts.path[1:])))
    if parts.scheme not in _POSTGRES:
        raise ConfigurationError(
            f"PLATFORM_DATABASE_URL expected postgresql://user:password@host/name or sqlite:///file, got "
            f"{parts.scheme or 'no scheme'!r}."
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 5, "options": _NO_FROZEN_LOCKS, **dict(parse_qsl(parts.query))},
    }


def _sqlite(path: Path) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        # Writers wait for each other instead of failing: the lock is taken when a transaction begins.
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }


def configure(settings: Settings) -> None:
    """
    Set Django up, unless the process is a Django site that has our tables among its apps already.

    Raises `ConfigurationError` when the extra `beat` is not installed, or when such a site lacks our app.
    """
    try:
        import django
        from django.conf import settings as django_settings
    except ImportError as error:
        raise ConfigurationError("Schedules need Django. Install the extra: celery-platform[beat].") from error
    if not django_settings.configured:
        django_settings.configure(
            INSTALLED_APPS=APPS,
            DATABASES={"default": database(settings)},
            DEFAULT_AUTO_FIELD="django.db.models.AutoField",
            USE_TZ=True,
            TIME_ZONE="UTC",
            CELERY_TIMEZONE="UTC",
            LOGGING_CONFIG=None,
            SECRET_KEY=_secret(settings),
            ALLOWED_HOSTS=list(settings.admin_hosts),
            **_SITE,
        )
    django.setup()
    from django.apps import apps

    if not apps.is_installed("celery_platform.beat.site"):
        raise ConfigurationError(
            "This Django site has no tables for the schedules. Add 'django_celery_beat' and 'celery_platform.beat.site'"
            " to INSTALLED_APPS and migrate."
        )


def _secret(settings: Settings) -> str:
    given = settings.admin_secret_key
    # Sessions of the admin are signed with it; beat itself signs nothing.
    return given.get_secret_value() if given else secrets.token_hex(32)


_SITE: dict[str, Any] = {
    "ROOT_URLCONF": "celery_platform.beat.site.urls",
    "STATIC_URL": "static/",
    "MIDDLEWARE": [
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    "TEMPLATES": [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
}


def migrate() -> None:
    """
    Bring the tables up to date; of several processes one does it and the others wait.
    """
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    with _alone(connection):
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", interactive=False, verbosity=0)


@contextmanager
def _alone(connection: Any) -> Iterator[None]:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # Others wait for the migration as long as it takes.
            cursor.execute("SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0")
            cursor.execute("SELECT pg_advisory_lock(%s)", [_ADVISORY_LOCK])
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_ADVISORY_LOCK])
                cursor.execute("RESET idle_in_transaction_session_timeout; RESET lock_timeout")
        return
    name = str(connection.settings_dict["NAME"])
    if ":memory:" in name or "mode=memory" in name:
        yield
        return
    with Path(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare(settings: Settings) -> None:
    """
    Configure Django and migrate: afterwards the tables can be used.
    """
    configure(settings)
    migrate()
