from __future__ import annotations

import base64
import os

import pytest
from pydantic import ValidationError

from celery_platform.errors import ConfigurationError
from celery_platform.settings import Settings, redacted_url

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("PLATFORM_")]:
        monkeypatch.delenv(name)


def test_without_any_setting_everything_runs_on_the_embedded_redis():
    settings = Settings.load()
    assert (settings.broker_kind, settings.is_redis, settings.needs_embedded) == ("redis", True, True)
    assert settings.tasks == ("tasks", "beat")
    assert all(settings.source(name) == "default" for name in Settings.model_fields)


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings.load().namespace = "other"


@pytest.mark.parametrize(
    ("url", "kind", "embedded"),
    [
        ("redis://h/0", "redis", False),
        ("rediss://h/0", "redis", False),
        ("sentinel://h:26379/m", "redis", False),
        ("amqp://h//", "amqp", True),
        ("amqps://h//", "amqp", True),
    ],
)
def test_the_broker_is_known_by_its_scheme(url, kind, embedded):
    settings = Settings.load(broker_url=url)
    assert (settings.broker_kind, settings.needs_embedded) == (kind, embedded)


@pytest.mark.parametrize("other", [{"state_url": "redis://h/1"}, {"result_url": "redis://h/1"}])
def test_rabbitmq_with_a_redis_beside_it_needs_no_embedded_server(other):
    assert not Settings.load(broker_url="amqp://h//", **other).needs_embedded


def test_lists_and_routes_are_written_with_commas(monkeypatch):
    monkeypatch.setenv("PLATFORM_QUEUES", "billing, mail,,")
    monkeypatch.setenv("PLATFORM_TASKS", "work")
    monkeypatch.setenv("PLATFORM_ROUTES", "tasks.mail.*=mail, tasks.*=billing:high")
    settings = Settings.load()
    assert settings.queues == ("billing", "mail")
    assert settings.tasks == ("work",)
    assert settings.routes == {"tasks.mail.*": "mail", "tasks.*": "billing:high"}
    assert settings.shown("routes") == "tasks.mail.*=mail,tasks.*=billing:high"
    assert settings.shown("queues") == "billing,mail"


@pytest.mark.parametrize(
    ("words", "setting", "message"),
    [
        ({"broker_url": "rdis://h"}, "PLATFORM_BROKER_URL", "Did you mean 'redis'"),
        ({"broker_url": "localhost"}, "PLATFORM_BROKER_URL", "no scheme"),
        ({"broker_url": "memory://"}, "PLATFORM_BROKER_URL", "expected a URL with one of redis"),
        ({"state_url": "amqp://h"}, "PLATFORM_STATE_URL", "expected a Redis URL"),
        ({"namespace": "a b"}, "PLATFORM_NAMESPACE", "pattern"),
        ({"routes": "tasks.*"}, "PLATFORM_ROUTES", "expected pattern=queue"),
        ({"routes": "tasks.*="}, "PLATFORM_ROUTES", "expected pattern=queue"),
        ({"encryption_keys": "k1"}, "PLATFORM_ENCRYPTION_KEYS", "id:base64key"),
        ({"encryption_keys": "k1:c2hvcnQ="}, "PLATFORM_ENCRYPTION_KEYS", "32 bytes"),
        ({"encryption_keys": f":{KEY}"}, "PLATFORM_ENCRYPTION_KEYS", "id:base64key"),
        ({"encryption_keys": "k1:%%%"}, "PLATFORM_ENCRYPTION_KEYS", "32 bytes"),
        ({"metrics_port": 0}, "PLATFORM_METRICS_PORT", "greater than or equal to 1"),
        ({"health_port": 70_000}, "PLATFORM_HEALTH_PORT", "less than or equal to 65535"),
        ({"max_payload_bytes": 10}, "PLATFORM_MAX_PAYLOAD_BYTES", "1024"),
        ({"publish_timeout": 0}, "PLATFORM_PUBLISH_TIMEOUT", "greater than 0"),
        ({"lease": 0.5}, "PLATFORM_LEASE", "greater than or equal to 1"),
        ({"soft_shutdown": -1}, "PLATFORM_SOFT_SHUTDOWN", "greater than or equal to 0"),
        ({"unsafe": "maybe"}, "PLATFORM_UNSAFE", "'refuse' or 'warn'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name_with_what_was_expected(words, setting, message):
    with pytest.raises(ConfigurationError, match=setting) as caught:
        Settings.load(**words)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"metrics_port": 9000, "health_port": 9000}, "both 9000. Give each its own port"),
        ({"result_url": "rpc://"}, "needs an amqp:// broker. Leave it out, or name a Redis URL"),
        ({"result_url": "rpc://", "broker_url": "redis://h/0"}, "needs an amqp:// broker"),
        ({"broker_url": "sqs://"}, "keeps no state. Set PLATFORM_STATE_URL to a Redis URL"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused_with_the_remedy(words, message):
    with pytest.raises(ConfigurationError, match=message):
        Settings.load(**words)


@pytest.mark.parametrize(
    "words",
    [
        {"metrics_port": 9000, "health_port": 9001},
        {"result_url": "rpc://", "broker_url": "amqp://h//"},
        {"broker_url": "sqs://", "state_url": "redis://h/0"},
        {"encryption_keys": f"k2:{KEY},k1:{KEY}"},
    ],
    ids=str,
)
def test_settings_that_agree_are_taken(words):
    Settings.load(**words)


def test_several_mistakes_are_told_at_once():
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(lease=0, metrics_port=0)
    assert "PLATFORM_LEASE" in str(caught.value)
    assert "PLATFORM_METRICS_PORT" in str(caught.value)


def test_an_unknown_keyword_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigurationError, match=r"'broker', .*Did you mean 'broker_url'"):
        Settings.load(broker="redis://h")


def test_no_refusal_shows_a_secret():
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(broker_url="rdis://user:tulip@h/0", encryption_keys="k1:tulip", state_url="amqp://u:tulip@h")
    error = caught.value
    assert "tulip" not in f"{error!r} {error.__cause__!r}"
    assert error.__suppress_context__


def test_keywords_win_over_the_environment_and_sources_tell_so(monkeypatch):
    monkeypatch.setenv("PLATFORM_LEASE", "45")
    monkeypatch.setenv("PLATFORM_NAMESPACE", "env")
    settings = Settings.load(namespace="keyword", publish_timeout=3)
    assert (settings.lease, settings.namespace) == (45, "keyword")
    assert settings.source("lease") == "environment"
    assert settings.source("publish_timeout") == "keyword"
    assert settings.source("soft_shutdown") == "default"


def test_a_keyword_that_hides_an_environment_variable_is_a_keyword(monkeypatch):
    monkeypatch.setenv("PLATFORM_NAMESPACE", "env")
    assert Settings.load(namespace="keyword").source("namespace") == "keyword"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:tulip@h:1/0", "redis://:***@h:1/0"),
        ("amqp://user:tulip@h//", "amqp://user:***@h//"),
        ("amqp://user@h//", "amqp://user@h//"),
        ("rediss://u:p%40tulip@h/0?ssl_certfile=tulip", "rediss://u:***@h/0?ssl_certfile=***"),
        ("sentinel://:tulip@a:1/m;sentinel://:tulip@b:2", "sentinel://:***@a:1/m;sentinel://:***@b:2"),
        ("redis+socket:///run/r.sock?virtual_host=1", "redis+socket:///run/r.sock?virtual_host=1"),
        ("redis://u:p@tulip@h/0", "redis://u:***@h/0"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert redacted_url(url) == shown
    assert "tulip" not in redacted_url(url)


def test_secret_settings_are_shown_as_stars():
    settings = Settings.load(
        broker_url="redis://:tulip@h/0",
        result_url="redis://:tulip@h/1",
        encryption_keys=f"k1:{KEY}",
        database_url="postgres://u:tulip@h/db",
        sentry_dsn="https://tulip@sentry/1",
    )
    shown = {name: settings.shown(name) for name in Settings.model_fields}
    assert shown["encryption_keys"] == shown["database_url"] == shown["sentry_dsn"] == "***"
    assert shown["broker_url"] == "redis://:***@h/0"
    assert shown["state_url"] == ""
    assert "tulip" not in str(shown)
    assert KEY not in str(shown)


def test_every_setting_is_described():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
