"""The environment, read once into one frozen `Settings`; a wrong value is one clear line."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Literal
from urllib.parse import quote

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import replace

from app.money import currency_decimals
from app.timezones import TIMEZONES

DEFAULT_ROLE_ALIASES = "owner=admin,member=agent,salesrep=agent,sales_rep=agent"
LEAST_SECRET_BYTES = 32
# `crm serve` puts a file here when it was told to stop; its workers then say that they are not ready.
DRAIN_FILE = "CRM_DRAIN_FILE"
# Documents, images, archives, text and mail; nothing that a browser would run.
DEFAULT_ATTACHMENT_TYPES = ",".join(
    """
    application/pdf application/rtf
    application/msword application/vnd.ms-excel application/vnd.ms-powerpoint
    application/vnd.openxmlformats-officedocument.wordprocessingml.document
    application/vnd.openxmlformats-officedocument.spreadsheetml.sheet
    application/vnd.openxmlformats-officedocument.presentationml.presentation
    application/vnd.oasis.opendocument.text application/vnd.oasis.opendocument.spreadsheet
    application/vnd.oasis.opendocument.presentation application/vnd.oasis.opendocument.graphics
    image/png image/jpeg image/gif image/webp image/heic image/heif image/tiff image/bmp
    application/zip application/gzip application/x-7z-compressed application/x-tar
    text/plain text/csv text/markdown
    message/rfc822 application/vnd.ms-outlook
    """.split()
)

# What S3 takes in one PUT, and copies in one request.
LARGEST_OBJECT = 5 * 1024**3

Port = Annotated[int, Meta(ge=0, le=65535)]
# What holds a secret, and what marks one as an example's: in compose, the manifests, .env.example and the README.
SECRETS = (
    *("jwt_secret", "jwt_secret_previous", "audit_key", "s3_secret_access_key", "db_password"),
    *("database_url", "migration_database_url"),
)
EXAMPLES = ("CHANGE-ME", "development-only", ":password@")
SERVERS = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "DB_HOST", "S3_")
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Rate = Annotated[int, Meta(ge=0, le=1_000_000_000)]


class SettingsError(Exception):
    """A setting is wrong or missing; the message is one line that names the variable."""


class Settings(Struct, frozen=True, kw_only=True, rename="upper"):
    """Every setting of the service, as contract section 7 lists them; each field is the variable in lower case."""

    environment: Literal["development", "production"] = "development"
    server_port: Port = 3000
    crm_data_dir: str = ".crm"
    database_url: str = ""
    migration_database_url: str = ""
    db_host: str = ""
    db_port: Port = 5432
    db_name: str = "crm"
    db_user: str = "crm"
    db_password: str = ""
    db_sslmode: Literal["", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = ""
    db_pool_min: Annotated[int, Meta(ge=0, le=1000)] = 5
    db_pool_max: Annotated[int, Meta(ge=1, le=1000)] = 20
    db_prepared_statements: bool = True
    jwt_secret: str = ""
    jwt_secret_previous: str = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_require_tenant: bool = False
    role_aliases: str = DEFAULT_ROLE_ALIASES
    stage_rollback_roles: str = "admin"
    report_cache_seconds: Annotated[float, Meta(ge=0, le=3600)] = 15.0
    agent_read_scope: Literal["all", "own"] = "all"
    console_dialect: bool = True
    cors_allowed_origins: str = ""
    trusted_proxies: str = ""
    rate_limit_per_minute: Rate = 1200
    auth_failures_per_minute: Rate = 60
    open_requests_per_person: Rate = 64
    idle_seconds: Annotated[int, Meta(ge=1, le=3600)] = 10
    audit_key: str = ""
    upkeep_seconds: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    max_body_bytes: Count = 1024 * 1024
    attachment_max_bytes: Annotated[int, Meta(ge=1, le=LARGEST_OBJECT)] = 25 * 1024 * 1024
    attachment_types: str = DEFAULT_ATTACHMENT_TYPES
    s3_endpoint_url: str = ""
    s3_bucket: str = ""
    s3_region: str = "us-east-1"
    s3_access_key_id: str = ""
    s3_secret_access_key: str = ""
    s3_public_endpoint_url: str = ""
    default_page_size: Annotated[int, Meta(ge=1, le=100)] = 20
    default_currency: str = "USD"
    report_timezone: str = "UTC"
    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    slow_query_ms: Annotated[float, Meta(ge=0, le=3_600_000)] = 500.0
    otel_exporter_otlp_endpoint: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "pretty"] = "auto"

    @property
    def production(self) -> bool:
        """Whether development conveniences (embedded database, /docs, made-up secrets) are off."""
        return self.environment == "production"

    @property
    def database_dsn(self) -> str:
        """The service's own login as a libpq URL; empty where no database is configured."""
        return _normalized(self.database_url) or _assembled(self)

    @property
    def migration_dsn(self) -> str:
        """The login that owns the tables, for `crm db`."""
        return _normalized(self.migration_database_url) or self.database_dsn

    @property
    def jwt_secrets(self) -> tuple[str, ...]:
        """Accepted signing secrets, the current one first."""
        return tuple(secret for secret in (self.jwt_secret, self.jwt_secret_previous) if secret)

    @property
    def audit_keys(self) -> tuple[str, ...]:
        """Accepted secrets of the audit log's checkpoints, the one that signs first."""
        return tuple(secret for secret in (self.audit_key, *self.jwt_secrets) if secret)

    @property
    def aliases(self) -> dict[str, str]:
        """Role names of other issuers, and what they mean here."""
        return dict(pair.split("=", 1) for pair in _listed(self.role_aliases.lower()))

    @property
    def rollback_roles(self) -> tuple[str, ...]:
        """Roles that may move a deal backward or reopen it."""
        return _listed(self.stage_rollback_roles.lower())

    @property
    def issuers(self) -> tuple[str, ...]:
        """Accepted `iss` claims; none means that the claim is not looked at."""
        return _listed(self.jwt_issuer)

    @property
    def audiences(self) -> tuple[str, ...]:
        """Accepted `aud` claims; none means that the claim is not looked at."""
        return _listed(self.jwt_audience)

    @property
    def accepted_types(self) -> frozenset[str]:
        """The media types that an attachment may have."""
        return frozenset(_listed(self.attachment_types.lower()))

    @property
    def proxies(self) -> tuple[str, ...]:
        """Networks of the proxies whose forwarded addresses are believed."""
        return _listed(self.trusted_proxies)

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """Origins, or patterns with `*` for one label's characters, whose pages may read the answers."""
        return _listed(self.cors_allowed_origins)


def load_settings(
    environ: Mapping[str, str] | None = None, *, data_dir: str | None = None, ignore_servers: bool = False
) -> Settings:
    """Read and check the settings. `ignore_servers` leaves out whatever database and object store are
    configured, which is what an explicit `--data-dir` means.

    Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {name: environ[name] for name in Settings.__struct_encode_fields__ if environ.get(name)}
    if environ.get("PORT") and "SERVER_PORT" not in values:
        values["SERVER_PORT"] = _port(environ["PORT"])
    if data_dir is not None:
        values["CRM_DATA_DIR"] = data_dir
    if ignore_servers:
        for name in [name for name in values if name.startswith(SERVERS)]:
            del values[name]
    settings = _convert(values)
    _check(settings)
    if not settings.jwt_secret:
        settings = replace(settings, jwt_secret=_development_secret(Path(settings.crm_data_dir)))
    return settings


def _convert(values: dict[str, Any]) -> Settings:
    # One at a time, so that the message can name the variable.
    for name, value in values.items():
        try:
            convert({name: value}, Settings, strict=False)
        except ValidationError as error:
            reason = str(error).split(" - at ")[0].replace("`", "").removesuffix(", got str")
            raise SettingsError(f"{name}: {value!r} will not do ({reason})") from None
    return convert(values, Settings, strict=False)


def _port(text: str) -> str:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise SettingsError(f"PORT: {text!r} is no port number")
    return text


def _check_production(settings: Settings) -> None:
    for name in SECRETS:
        if any(example in getattr(settings, name) for example in EXAMPLES):
            raise SettingsError(f"{name.upper()}: is the example's, which everybody knows: make one of your own")
    for name in ("JWT_SECRET", "JWT_SECRET_PREVIOUS", "AUDIT_KEY"):
        secret = getattr(settings, name.lower())
        if secret and len(secret.encode()) < LEAST_SECRET_BYTES:
            raise SettingsError(f"{name}: has {len(secret.encode())} bytes, at least {LEAST_SECRET_BYTES} are needed")
    if not settings.jwt_secret:
        raise SettingsError("JWT_SECRET: is required in production; it is the secret that the CMS signs tokens with")
    if not (settings.database_url or settings.db_host):
        raise SettingsError("DATABASE_URL: is required in production (or DB_HOST, DB_NAME, DB_USER, DB_PASSWORD)")


def _check(settings: Settings) -> None:
    if settings.production:
        _check_production(settings)
    if settings.db_pool_min > settings.db_pool_max:
        raise SettingsError(f"DB_POOL_MIN: {settings.db_pool_min} is more than DB_POOL_MAX ({settings.db_pool_max})")
    if currency_decimals(settings.default_currency) is None:
        raise SettingsError(f"DEFAULT_CURRENCY: {settings.default_currency!r} is no ISO 4217 code, such as EUR")
    if settings.report_timezone not in TIMEZONES:
        raise SettingsError(f"REPORT_TIMEZONE: {settings.report_timezone!r} is no time zone, such as Europe/Berlin")
    _check_roles(settings)
    _check_store(settings)
    for network in settings.proxies:
        try:
            ip_network(network)
        except ValueError:
            raise SettingsError(f"TRUSTED_PROXIES: {network!r} is no network, such as 10.0.0.0/8") from None
    for origin in settings.allowed_origins:
        if not re.fullmatch(r"https?://[A-Za-z0-9.*\-]+(:\d+)?|https?://\[[0-9a-fA-F:]+\](:\d+)?", origin):
            raise SettingsError(f"CORS_ALLOWED_ORIGINS: {origin!r} is no origin, such as https://console.example.com")
    if settings.otel_exporter_otlp_endpoint and not re.match(r"https?://", settings.otel_exporter_otlp_endpoint):
        raise SettingsError("OTEL_EXPORTER_OTLP_ENDPOINT: must begin with http:// or https://")
    for name in ("database_url", "migration_database_url"):
        url = getattr(settings, name)
        if url and not re.match(r"postgres(ql)?(\+\w+)?://", url):
            raise SettingsError(f"{name.upper()}: must begin with postgresql://")


def _check_roles(settings: Settings) -> None:
    for pair in _listed(settings.role_aliases):
        if not re.fullmatch(r"\s*[^=\s]+=(admin|manager|agent)", pair.lower()):
            raise SettingsError(f"ROLE_ALIASES: {pair!r} is not of the form alias=admin, =manager or =agent")
    for role in settings.rollback_roles:
        if role not in {"admin", "manager", "agent"}:
            raise SettingsError(f"STAGE_ROLLBACK_ROLES: {role!r} is none of admin, manager and agent")


def _check_store(settings: Settings) -> None:
    for kind in settings.accepted_types:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+_-]*/[a-z0-9][a-z0-9.+_-]*", kind):
            raise SettingsError(f"ATTACHMENT_TYPES: {kind!r} is no media type, such as application/pdf")
    for name in ("s3_endpoint_url", "s3_public_endpoint_url"):
        if not re.fullmatch(r"(https?://[^/?#\s]+/?)?", getattr(settings, name)):
            raise SettingsError(f"{name.upper()}: must be of the form https://host:port")
    if not settings.s3_bucket and (settings.s3_endpoint_url or settings.s3_access_key_id):
        raise SettingsError("S3_BUCKET: is required where the other S3 settings are given")
    if bool(settings.s3_access_key_id) != bool(settings.s3_secret_access_key):
        raise SettingsError("S3_SECRET_ACCESS_KEY: goes together with S3_ACCESS_KEY_ID")


def _assembled(settings: Settings) -> str:
    if not settings.db_host:
        return ""
    password = f":{quote(settings.db_password, safe='')}" if settings.db_password else ""
    login = f"{quote(settings.db_user, safe='')}{password}"
    query = f"?sslmode={settings.db_sslmode}" if settings.db_sslmode else ""
    if settings.db_host.startswith("/"):
        separator = "&" if query else "?"
        socket = f"{query}{separator}host={quote(settings.db_host, safe='')}&port={settings.db_port}"
        return f"postgresql://{login}@/{settings.db_name}{socket}"
    host = f"[{settings.db_host}]" if ":" in settings.db_host else settings.db_host
    return f"postgresql://{login}@{host}:{settings.db_port}/{settings.db_name}{query}"


def _normalized(url: str) -> str:
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _development_secret(data_dir: Path) -> str:
    """The signing secret of this checkout: made once, so that tokens outlive a restart, and never shared, so that
    a service left in development by mistake can't be entered with a secret out of a public source tree.
    """
    path = data_dir / "jwt-secret"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=data_dir, prefix="jwt-secret-") as draft:  # its mode is 0600
            draft.write(secrets.token_urlsafe(48))
            draft.flush()
            # Linked, not moved: of two processes that start at once, the first one's secret stays.
            with suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_text().strip()
