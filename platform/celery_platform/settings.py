"""
Read `PLATFORM_*` from the environment into one frozen, validated object, and refuse contradictions.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path  # noqa: TC003 - pydantic reads the annotation
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from celery_platform.errors import ConfigurationError, did_you_mean

__all__ = ["REDIS_SCHEMES", "Settings", "redacted_url"]

REDIS_SCHEMES = ("redis", "rediss", "sentinel", "redis+socket", "unix")
_BROKER_SCHEMES = ("redis", "rediss", "sentinel", "redis+socket", "amqp", "amqps", "sqs")
_FAMILIES = {"amqp": "amqp", "amqps": "amqp", "sqs": "sqs"}
_PREFIX = "PLATFORM_"

Names = Annotated[tuple[str, ...], NoDecode]
Pairs = Annotated[dict[str, str], NoDecode]


class Settings(BaseSettings):
    """
    Every setting of the platform; `celery -A platform settings` lists them with source and value.

    Built from the environment, or from keywords (which win). Durations are seconds, sizes bytes. Raises
    `ConfigurationError` (from `load`) for values that are wrong or contradict each other.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    broker_url: str | None = Field(None, description="Where calls wait; without it an embedded Redis is started.")
    state_url: str | None = Field(None, description="Redis for guards and dead letters; the broker when that is Redis.")
    result_url: str | None = Field(None, description="Where results are kept; the state store by default.")
    tasks: Names = Field(("tasks", "beat"), description="Packages to import, in the working directory.")
    namespace: str = Field("platform", pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="Prefix of our own keys.")
    queues: Names = Field((), description="Declared queues besides `default` and `celery`.")
    routes: Pairs = Field(default_factory=dict, description="pattern=queue[:priority], comma separated.")
    encryption_keys: SecretStr | None = Field(None, description="id:base64key, comma separated; the first is active.")
    database_url: SecretStr | None = Field(None, description="Database of the schedules (PostgreSQL, or SQLite).")
    admin_password: SecretStr | None = Field(None, description="Password of the user of `schedule admin --user`.")
    admin_hosts: Names = Field(("localhost", "127.0.0.1"), description="Host names the admin of schedules answers to.")
    admin_secret_key: SecretStr | None = Field(None, description="Signs sessions of the admin; random at each start.")
    sentry_dsn: SecretStr | None = Field(None, description="Where final failures are reported.")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="Port of `/metrics`.")
    health_port: int | None = Field(None, ge=1, le=65535, description="Port of `/live`, `/ready` and `/startup`.")
    listen: str = Field("0.0.0.0", description="Address on which probes and metrics answer.")  # noqa: S104 - pods
    max_payload_bytes: int = Field(262_144, ge=1_024, description="Largest body of a call.")
    publish_timeout: float = Field(10.0, gt=0, le=300, description="Longest time `delay()` may take, in seconds.")
    time_limit: float | None = Field(3_600.0, gt=0, description="Hard time limit of a task without `timeout`.")
    memory_limit: int | None = Field(None, ge=64, description="Memory of one pool process, in MiB.")
    lease: float = Field(30.0, ge=1, le=3600, description="How long a silent worker keeps its calls.")
    unknown_ttl: float = Field(86_400.0, gt=0, description="How long a call of an unknown task waits for a worker.")
    dead_letter_ttl: float = Field(2_592_000.0, gt=0, description="How long a dead letter is kept.")
    dead_letter_count: int = Field(50_000, ge=1, description="Most dead letters of one task; the oldest leave.")
    dead_letter_bytes: int = Field(268_435_456, ge=65_536, description="Most bytes of dead letters of one task.")
    dead_letter_total_bytes: int = Field(1_073_741_824, ge=65_536, description="Most bytes of all dead letters.")
    build: str = Field("", max_length=100, description="Version of your code, told in dead letters and `registry`.")
    result_ttl: float = Field(86_400.0, gt=0, description="How long a result is kept.")
    soft_shutdown: float = Field(25.0, ge=0, description="Time running tasks get after SIGTERM, in seconds.")
    console_roles: Pairs = Field(
        default_factory=dict, description="name=role[+payloads], comma separated; who may do what in the console."
    )
    console_metrics_token: SecretStr | None = Field(None, description="What a scraper of the console's metrics shows.")
    unsafe: Literal["refuse", "warn"] = Field("refuse", description="What a start-up check does with an unsafe broker.")
    workdir: Path | None = Field(None, description="Folder of the embedded server; the working directory by default.")

    _keywords: frozenset[str] = PrivateAttr(frozenset())

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """
        Return the settings of this process; *overrides* win over the environment.

        Raises `ConfigurationError` that names each wrong setting, what was expected, and the remedy.
        """
        unknown = sorted(set(overrides) - set(cls.model_fields))
        if unknown:
            raise ConfigurationError(
                f"Platform() got {unknown[0]!r}, which is no setting.{did_you_mean(unknown[0], cls.model_fields)}"
            )
        try:
            settings = cls(**overrides)
        except ValidationError as error:
            raise ConfigurationError(_told(error)) from None
        settings._keywords = frozenset(overrides)
        return settings

    @field_validator("tasks", "queues", "admin_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value

    @field_validator("routes", "console_roles", mode="before")
    @classmethod
    def _split_pairs(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if any(not sign or not target.strip() for _, sign, target in pairs):
            expected = "pattern=queue[:priority]" if info.field_name == "routes" else "name=role[+payloads]"
            raise ValueError(f"expected {expected}, comma separated")
        return {pattern.strip(): target.strip() for pattern, _, target in pairs}

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str | None) -> str | None:
        scheme = urlsplit(value).scheme if value else None
        if scheme is not None and scheme not in _BROKER_SCHEMES:
            raise ValueError(
                f"expected a URL with one of {', '.join(_BROKER_SCHEMES)}, got {scheme or 'no scheme'!r}."
                f"{did_you_mean(scheme, _BROKER_SCHEMES)}"
            )
        return value

    @field_validator("state_url")
    @classmethod
    def _redis_state(cls, value: str | None) -> str | None:
        if value and urlsplit(value).scheme not in REDIS_SCHEMES:
            raise ValueError("expected a Redis URL: guards, leases and dead letters are kept there")
        return value

    @field_validator("encryption_keys")
    @classmethod
    def _whole_keys(cls, value: SecretStr | None) -> SecretStr | None:
        for entry in value.get_secret_value().split(",") if value else ():
            key_id, sign, text = entry.strip().partition(":")
            try:
                key = base64.b64decode(text, validate=True)
            except binascii.Error:
                key = b""
            if not sign or not key_id or len(key) != 32:  # noqa: PLR2004 - AES-256
                raise ValueError("expected id:base64key[,id:base64key], each key 32 bytes before base64")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.metrics_port is not None and self.metrics_port == self.health_port:
            raise ValueError(
                f"PLATFORM_METRICS_PORT and PLATFORM_HEALTH_PORT are both {self.health_port}. Give each its own port."
            )
        if self.result_url == "rpc://" and self.broker_kind != "amqp":
            raise ValueError(
                "PLATFORM_RESULT_URL is rpc://, which needs an amqp:// broker. Leave it out, or name a Redis URL."
            )
        if self.broker_url and self.broker_url.startswith("sqs") and not self.state_url:
            raise ValueError("PLATFORM_BROKER_URL is SQS, which keeps no state. Set PLATFORM_STATE_URL to a Redis URL.")
        return self

    @property
    def is_redis(self) -> bool:
        """
        Tell whether the broker is a Redis, the embedded one included.
        """
        return self.broker_url is None or urlsplit(self.broker_url).scheme in REDIS_SCHEMES

    @property
    def broker_kind(self) -> str:
        """
        Name the family of the broker: ``redis``, ``amqp`` or ``sqs``.
        """
        return "redis" if self.is_redis else _FAMILIES[urlsplit(self.broker_url or "").scheme]

    @property
    def needs_embedded(self) -> bool:
        """
        Tell whether any of broker, state or results lives on the embedded Redis of the folder.
        """
        return self.broker_url is None or (not self.is_redis and self.state_url is None and not self._redis_result)

    @property
    def _redis_result(self) -> bool:
        return bool(self.result_url) and urlsplit(self.result_url or "").scheme in REDIS_SCHEMES

    def source(self, name: str) -> str:
        """
        Tell where the value of *name* comes from: ``environment``, ``keyword`` or ``default``.
        """
        if name in self._keywords:
            return "keyword"
        return "environment" if name in self.model_fields_set else "default"

    def shown(self, name: str) -> str:
        """
        Return the value of *name* for people: no password, no key, no token.
        """
        value = getattr(self, name)
        if isinstance(value, SecretStr):
            return "***" if value.get_secret_value() else ""
        if name.endswith("_url") and value:
            return redacted_url(value)
        if isinstance(value, tuple):
            return ",".join(value)
        if isinstance(value, dict):
            return ",".join(f"{pattern}={target}" for pattern, target in value.items())
        return "" if value is None else str(value)


def redacted_url(url: str) -> str:
    """
    Return *url* (or several, joined by ``;``) without user names' passwords and without query values.
    """
    return ";".join(_redacted(part) for part in url.split(";"))


def _redacted(url: str) -> str:
    parts = urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    user = credentials.partition(":")[0]
    netloc = f"{user}:***@{host}" if at and ":" in credentials else parts.netloc
    query = "&".join(
        pair if pair.startswith("virtual_host=") else f"{pair.partition('=')[0]}=***"
        for pair in parts.query.split("&")
        if pair
    )
    return f"{parts.scheme}://{netloc}{parts.path}{'?' + query if query else ''}"


def _told(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = "".join(f"{_PREFIX}{part}".upper() for part in problem["loc"][:1])
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {message}" if where else message)
    return "\n".join(lines)
