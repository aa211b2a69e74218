"""The settings: environment variables, read and checked once. A wrong value is one clear line."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import parseaddr
from ipaddress import ip_network
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import replace

from app.money import currency_decimals
from app.timezones import TIMEZONES

DEFAULT_ROLE_ALIASES = "owner=admin,member=agent,salesrep=agent,sales_rep=agent"
MIN_SECRET_BYTES = 32
KEY_BYTES = 32
# The path of a file that `crm serve` creates when it is told to stop; its workers are not ready from then on.
DRAIN_FILE = "CRM_DRAIN_FILE"
# Documents, images, archives, text and mail; nothing that a browser would execute.
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

# The largest object that S3 takes in one PUT and copies in one request.
MAX_OBJECT_BYTES = 5 * 1024**3

# Settings that hold a secret, and what marks a value as one of the examples in this repository.
SECRETS = (
    *("jwt_secret", "jwt_secret_previous", "audit_key", "s3_secret_access_key", "db_password"),
    *(
        "database_url",
        "database_read_url",
        "migration_database_url",
        "amqp_url",
        "redis_url",
        "encryption_keys",
        "smtp_url",
    ),
    *("assistant_api_key", "google_client_secret", "microsoft_client_secret"),
)
EXAMPLES = ("CHANGE-ME", "development-only", ":password@")
SERVERS = (
    "DATABASE_URL",
    "DATABASE_READ_URL",
    "MIGRATION_DATABASE_URL",
    "DB_HOST",
    "S3_",
    "AMQP_URL",
    "REDIS_URL",
    "SMTP_URL",
)

URLS = (
    *("public_url", "console_url", "anthropic_base_url", "openai_base_url"),
    *("google_base_url", "microsoft_login_url", "microsoft_graph_url"),
)
SMTP_SCHEMES = ("smtp", "smtps", "smtp+starttls")

Port = Annotated[int, Meta(ge=0, le=65535)]
Bytes = Annotated[int, Meta(ge=1, le=1_000_000_000, extra={"unit": "bytes"})]
Seconds = Annotated[float, Meta(ge=0, le=3600, extra={"unit": "seconds"})]
LogFormat = Literal["auto", "json", "ecs", "pretty"]
Limit = Annotated[int, Meta(ge=0, le=1_000_000_000)]


class SettingsError(Exception):
    """A setting is wrong or missing; the message is one line that names the variable."""


class Settings(Struct, frozen=True, kw_only=True, rename="upper"):
    """Every setting of the service. Each field is an environment variable in lower case.

    docs/settings.md and .env.example are generated from the descriptions here: run `make docs` after a change.
    """

    environment: Annotated[
        Literal["development", "production"],
        Meta(description="`production` requires `JWT_SECRET` and a database, and does not serve `/docs`."),
    ] = "development"
    server_port: Annotated[Port, Meta(description="The port to listen on. `PORT` is read too, if this is not set.")] = (
        3000
    )
    crm_data_dir: Annotated[
        str,
        Meta(
            description="The folder of the embedded database, the embedded object store and the development secret."
            " Production does not use it."
        ),
    ] = ".crm"
    console_dialect: Annotated[
        bool, Meta(description="Whether to serve the Platform Console's calls under `/console`.")
    ] = True
    cors_allowed_origins: Annotated[
        str,
        Meta(
            description="The web pages that may call the service, comma-separated: exact origins, or patterns in which"
            " `*` stands for characters of one label.",
            examples=["https://console.example.com,https://myapp-*.vercel.app"],
        ),
    ] = ""
    drain_seconds: Annotated[
        Seconds,
        Meta(description="How long `/ready` answers 503 after SIGTERM before the service stops accepting connections."),
    ] = 5.0

    database_url: Annotated[
        str,
        Meta(
            description="The database, with the service's own login. If this and `DB_HOST` are not set, a development"
            " start brings its own PostgreSQL.",
            examples=["postgresql://crm:password@db:5432/crm"],
        ),
    ] = ""
    database_read_url: Annotated[
        str,
        Meta(
            description="A standby of the database, which follows it by streaming replication, with the service's"
            " login: reports, exports and the change feed are read there. Reads wait until it has everything that is"
            " committed, and go to the primary where it is away or too far behind.",
            examples=["postgresql://crm:password@standby:5432/crm"],
        ),
    ] = ""
    migration_database_url: Annotated[
        str,
        Meta(
            description="The same database with the login that owns the tables: for `crm db`, `crm audit` and"
            " `crm attachments`. If not set, `DATABASE_URL`.",
            examples=["postgresql://crm_owner:password@db:5432/crm"],
        ),
    ] = ""
    db_host: Annotated[
        str,
        Meta(description="In place of `DATABASE_URL`: the host, or the folder of a Unix socket.", examples=["db"]),
    ] = ""
    db_port: Annotated[Port, Meta(description="The port, with `DB_HOST`.")] = 5432
    db_name: Annotated[str, Meta(description="The database, with `DB_HOST`.")] = "crm"
    db_user: Annotated[str, Meta(description="The service's login, with `DB_HOST`.")] = "crm"
    db_password: Annotated[str, Meta(description="The login's password, with `DB_HOST`.")] = ""
    db_sslmode: Annotated[
        Literal["", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
        Meta(
            description="libpq's `sslmode`, with `DB_HOST`. If not set, libpq's own default.", examples=["verify-full"]
        ),
    ] = ""
    db_pool_min: Annotated[
        int, Meta(ge=0, le=1000, description="Database connections that each worker opens when it starts.")
    ] = 5
    db_pool_max: Annotated[
        int, Meta(ge=1, le=1000, description="Database connections that each worker opens at most.")
    ] = 20
    db_prepared_statements: Annotated[
        bool,
        Meta(
            description="Whether to use prepared statements. Set `false` behind a pooler in transaction mode that does"
            " not support them, such as PgBouncer before 1.22."
        ),
    ] = True

    jwt_secret: Annotated[
        str,
        Meta(
            description="The secret that tokens are signed with: the CMS's secret, of at least 32 bytes. Required in"
            " production; in development one is made and kept in `CRM_DATA_DIR`."
        ),
    ] = ""
    jwt_secret_previous: Annotated[
        str, Meta(description="A second secret that is accepted too, while the secret is being replaced.")
    ] = ""
    jwt_issuer: Annotated[
        str,
        Meta(
            description="Accepted `iss` claims, comma-separated. If not set, the claim is not checked.",
            examples=["cms-service"],
        ),
    ] = ""
    jwt_audience: Annotated[
        str,
        Meta(
            description="Accepted `aud` claims, comma-separated. If not set, the claim is not checked.",
            examples=["platform-console"],
        ),
    ] = ""
    jwt_require_tenant: Annotated[
        bool,
        Meta(
            description="Whether to refuse a token that names no organization. If `false`, such a token works in the"
            " organization `default`."
        ),
    ] = False
    role_aliases: Annotated[
        str, Meta(description="Role names of other systems and the role that each one means here, comma-separated.")
    ] = DEFAULT_ROLE_ALIASES
    agent_read_scope: Annotated[
        Literal["all", "own"], Meta(description="Whether agents see all records, or only their own.")
    ] = "all"
    stage_rollback_roles: Annotated[
        str,
        Meta(description="The roles that may move a deal backward or reopen a closed deal, comma-separated."),
    ] = "admin"

    undo_minutes: Annotated[
        Limit, Meta(description="How long whoever made a change may take it back, whatever the role may do.")
    ] = 15
    undo_days: Annotated[Limit, Meta(description="For how many days a whole operation can be taken back.")] = 30

    rate_limit_per_minute: Annotated[
        Limit,
        Meta(
            description="Requests of one person in a minute, counted by each worker, or with `REDIS_URL` by all"
            " together. 0 means no limit."
        ),
    ] = 1200
    open_requests_per_person: Annotated[
        Limit, Meta(description="Requests of one person at the same time, counted by each worker. 0 means no limit.")
    ] = 64
    auth_failures_per_minute: Annotated[
        Limit,
        Meta(
            description="Requests without a valid token from one address in a minute, counted by each worker, or"
            " with `REDIS_URL` by all together. 0 means no limit."
        ),
    ] = 60
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Networks of your own proxies, comma-separated. `X-Forwarded-For` and `X-Forwarded-Proto` are"
            " believed from these only.",
            examples=["10.0.0.0/8,192.168.1.1"],
        ),
    ] = ""
    idle_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=3600,
            extra={"unit": "seconds"},
            description="How long a connection may stay idle between requests, and how long the headers of a request"
            " may take: the web server has one clock for both. Must be longer than your load balancer keeps idle"
            " connections.",
        ),
    ] = 10
    public_url: Annotated[
        str,
        Meta(
            description="The service's address for people's programs, which links for downloads begin with. If not set,"
            " production has no such links, and a development start takes the address of the request.",
            examples=["https://crm.example.com"],
        ),
    ] = ""
    max_body_bytes: Annotated[Bytes, Meta(description="The largest JSON body.")] = 1024 * 1024
    max_records: Annotated[
        int,
        Meta(
            ge=0,
            le=10**12,
            description="Customers, contacts, deals, activities, notes and projects together that each organization may"
            " have, without those in the trash. More are refused with 409 `QUOTA_EXCEEDED`. 0 means no limit.",
        ),
    ] = 0
    max_storage_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=10**18,
            extra={"unit": "bytes"},
            description="How large the attachments of each organization may be together, with those in the trash."
            " 0 means no limit.",
        ),
    ] = 0
    max_members: Annotated[
        Limit,
        Meta(
            description="Active members that each organization may have, with those who are expected. Who would be one"
            " more is refused with 409 `QUOTA_EXCEEDED`. 0 means no limit."
        ),
    ] = 0

    default_page_size: Annotated[
        int, Meta(ge=1, le=100, description="Rows of a page when a request does not give `page_size`.")
    ] = 20
    default_currency: Annotated[str, Meta(description="The currency of a new organization (ISO 4217).")] = "USD"
    report_timezone: Annotated[
        str, Meta(description="The time zone of a new organization, such as `Europe/Berlin`.")
    ] = "UTC"
    report_cache_seconds: Annotated[Seconds, Meta(description="How old the overview report may be.")] = 15.0

    s3_bucket: Annotated[
        str,
        Meta(
            description="The bucket for attachments. If not set, a development start brings its own object store, and"
            " production has no attachments.",
            examples=["crm"],
        ),
    ] = ""
    s3_endpoint_url: Annotated[
        str,
        Meta(description="The object store's address. If not set, Amazon S3.", examples=["http://minio:9000"]),
    ] = ""
    s3_region: Annotated[str, Meta(description="The bucket's region.")] = "us-east-1"
    s3_access_key_id: Annotated[
        str,
        Meta(description="The access key. If not set, the machine's own credentials, such as an instance role."),
    ] = ""
    s3_secret_access_key: Annotated[str, Meta(description="The secret of the access key.")] = ""
    s3_public_endpoint_url: Annotated[
        str,
        Meta(
            description="The object store's address for browsers. If not set, `S3_ENDPOINT_URL`.",
            examples=["https://files.example.com"],
        ),
    ] = ""
    attachment_max_bytes: Annotated[
        int, Meta(ge=1, le=MAX_OBJECT_BYTES, extra={"unit": "bytes"}, description="The largest file; at most 5 GiB.")
    ] = 25 * 1024 * 1024
    attachment_types: Annotated[
        str,
        Meta(
            description="Accepted media types, comma-separated. If not set, documents, images, archives, text and mail:"
            " the list is in `app/settings.py`.",
            examples=["application/pdf,image/png,image/jpeg"],
        ),
    ] = DEFAULT_ATTACHMENT_TYPES

    import_max_bytes: Annotated[
        int, Meta(ge=1, le=MAX_OBJECT_BYTES, extra={"unit": "bytes"}, description="The largest file of an import.")
    ] = 200 * 1024 * 1024

    upkeep_seconds: Annotated[
        Seconds,
        Meta(
            description="How often the service seals new audit entries, and adds up what changed for the reports. 0"
            " means that this process does neither, and deletes nothing of what is kept long enough."
        ),
    ] = 1.0
    audit_key: Annotated[
        str,
        Meta(
            description="The secret that checkpoints of the audit log are signed with, of at least 32 bytes in"
            " production. If not set, a key derived from `JWT_SECRET`."
        ),
    ] = ""

    encryption_keys: Annotated[
        str,
        Meta(
            description="What encrypts secrets in the database, such as those of webhooks: keys of 32 bytes in base64,"
            " comma-separated, the current one first. Outside production, if not set, a key derived from `JWT_SECRET`;"
            " in production, if not set, there are no webhooks, no keys of the assistant, no secrets of MCP servers,"
            " no connected calendars.",
            examples=["CHANGE-ME: openssl rand -base64 32"],
        ),
    ] = ""
    webhook_allowed_networks: Annotated[
        str,
        Meta(
            description="Networks that webhooks, models of the organizations' own, other MCP servers and calendars"
            " may have, although they are not public, comma-separated.",
            examples=["10.20.0.0/16,fd00::/8"],
        ),
    ] = ""

    jobs_in_service: Annotated[
        bool | None,
        Meta(
            description="Whether `crm serve` runs jobs itself, such as large bulk changes. If not set, it does outside"
            " production; in production `crm worker` runs them."
        ),
    ] = None
    job_concurrency: Annotated[
        int, Meta(ge=1, le=100, description="Jobs that each worker process runs at the same time.")
    ] = 4
    assistant_max_tokens: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Tokens that the model may write in one answer, calls of tools too.")
    ] = 8192
    assistant_window_tokens: Annotated[
        int,
        Meta(
            ge=4000,
            le=1_000_000,
            description="Tokens that are sent to the model at most: what is older is summed up. A model with a smaller"
            " window gets less.",
        ),
    ] = 100_000
    assistant_retention_days: Annotated[
        int,
        Meta(ge=1, le=3650, extra={"unit": "days"}, description="How long messages to and of the assistant are kept."),
    ] = 90
    calendar_sync_minutes: Annotated[
        float,
        Meta(
            ge=0.01,
            le=1440,
            description="How often a connected calendar is read, in minutes; fractions too. What changes here is"
            " written there at once.",
        ),
    ] = 5
    job_retention_days: Annotated[
        int,
        Meta(
            ge=1,
            le=3650,
            extra={"unit": "days"},
            description="How long finished jobs are kept, and files to import after the last that was done with them.",
        ),
    ] = 30

    redis_url: Annotated[
        str,
        Meta(
            description="Redis or Valkey, through which all workers share rate limits, the report cache and what live"
            " streams tell; `rediss://` for TLS. Requires the extra `redis`.",
            examples=["redis://:password@redis:6379/0"],
        ),
    ] = ""
    amqp_url: Annotated[
        str,
        Meta(
            description="A message broker, such as RabbitMQ, that every event is published to; `amqps://` for TLS."
            " Requires the extra `broker`.",
            examples=["amqp://crm:password@rabbitmq:5672/vhost"],
        ),
    ] = ""
    amqp_exchange: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=127,
            description="The broker's exchange for events. The service makes it, durable and of the type `topic`.",
        ),
    ] = "crm.events"

    smtp_url: Annotated[
        str,
        Meta(
            description="The mail server: `smtp://` without encryption, `smtp+starttls://` or `smtps://` with it. If"
            " not set, production sends no mail, and a development start keeps mails as `.eml` files in"
            " `CRM_DATA_DIR/mail`.",
            examples=["smtp+starttls://crm:password@mail.example.com:587"],
        ),
    ] = ""
    mail_from: Annotated[
        str,
        Meta(
            description="Who mails come from, with a name or without. Required with `SMTP_URL`.",
            examples=["CRM <crm@example.com>"],
        ),
    ] = ""
    console_url: Annotated[
        str,
        Meta(
            description="The console's address, which links in mails begin with. If not set, mails have no such links.",
            examples=["https://console.example.com"],
        ),
    ] = ""

    google_client_id: Annotated[
        str,
        Meta(
            description="The client that is registered for this service at Google, for people's calendars there:"
            " with the Calendar API, and `PUBLIC_URL` with `/public/connections/callback` as the redirect address."
            " Requires `PUBLIC_URL` in production.",
            examples=["1234-abcd.apps.googleusercontent.com"],
        ),
    ] = ""
    google_client_secret: Annotated[str, Meta(description="The secret of `GOOGLE_CLIENT_ID`.")] = ""
    google_base_url: Annotated[
        str,
        Meta(
            description="Where Google's login and APIs are, if not at Google: a gateway of your own.",
            examples=["https://google.example.com"],
        ),
    ] = ""
    microsoft_client_id: Annotated[
        str,
        Meta(
            description="The application that is registered for this service at Microsoft, for people's calendars in"
            " Microsoft 365: with the delegated permission `Calendars.ReadWrite`, and `PUBLIC_URL` with"
            " `/public/connections/callback` as the redirect address. Requires `PUBLIC_URL` in production.",
            examples=["6731de76-14a6-49ae-97bc-6eba6914391e"],
        ),
    ] = ""
    microsoft_client_secret: Annotated[str, Meta(description="The secret of `MICROSOFT_CLIENT_ID`.")] = ""
    microsoft_tenant: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="Whose accounts may be connected: `common` for all, `organizations`, `consumers`, or one"
            " organization's id or domain at Microsoft.",
        ),
    ] = "common"
    microsoft_login_url: Annotated[
        str, Meta(description="Microsoft's login. Clouds of governments and of China have others.")
    ] = "https://login.microsoftonline.com"
    microsoft_graph_url: Annotated[
        str, Meta(description="Microsoft Graph. Clouds of governments and of China have others.")
    ] = "https://graph.microsoft.com"

    assistant_api_key: Annotated[
        str,
        Meta(
            description="The key of your own account at a provider of language models, for the assistant of each"
            " organization that has not set one. Requires `ASSISTANT_MODEL`, and the extra `assistant`."
        ),
    ] = ""
    assistant_provider: Annotated[
        Literal["anthropic", "openai", "google", "openai_compatible"],
        Meta(
            description="The provider of that account. `openai_compatible` is a server at `OPENAI_BASE_URL` that speaks"
            " OpenAI's chat API, and needs no key."
        ),
    ] = "anthropic"
    assistant_model: Annotated[
        str, Meta(max_length=200, description="The model of that account.", examples=["claude-sonnet-4-5"])
    ] = ""
    assistant_monthly_tokens: Annotated[
        int,
        Meta(
            ge=0,
            le=10**15,
            description="Tokens that each organization may use of that account in a month. 0 means no limit.",
        ),
    ] = 0
    anthropic_base_url: Annotated[
        str,
        Meta(
            description="Where Anthropic's API is, if not at Anthropic: a gateway of your own.",
            examples=["https://models.example.com"],
        ),
    ] = ""
    openai_base_url: Annotated[
        str,
        Meta(
            description="Where OpenAI's chat API is, if not at OpenAI: a gateway or a model server of your own.",
            examples=["http://llama:8080/v1"],
        ),
    ] = ""
    mcp_enabled: Annotated[
        bool, Meta(description="Whether to serve AI clients under `/admin/mcp`. Requires the extra `mcp`.")
    ] = True
    mcp_writes: Annotated[
        Literal["off", "propose", "on"],
        Meta(
            description="What AI clients may change: nothing; what their person approves; or whatever the person may,"
            " but for deleting, merging, and changing more than ten records, which the person approves in any case."
        ),
    ] = "propose"
    mcp_authorization_servers: Annotated[
        str,
        Meta(
            description="Where AI clients log in by OAuth, comma-separated: servers that issue tokens for this service."
            " If set, tokens for `/admin/mcp` must name that address in `aud`. Requires `PUBLIC_URL`.",
            examples=["https://login.example.com"],
        ),
    ] = ""

    registration: Annotated[
        Literal["", "open", "invited", "closed"],
        Meta(
            description="Who may register at `crm identity serve`: everybody, who was invited, or nobody. If not set,"
            " everybody outside production, and in production who was invited."
        ),
    ] = ""
    access_token_minutes: Annotated[
        int, Meta(ge=1, le=60, extra={"unit": "minutes"}, description="How long a token that it issues is valid.")
    ] = 15
    refresh_token_days: Annotated[
        int, Meta(ge=1, le=90, extra={"unit": "days"}, description="How long somebody stays logged in who is away.")
    ] = 7
    password_hash_memory_kib: Annotated[
        int,
        Meta(
            ge=8,
            le=4 * 1024 * 1024,
            extra={"unit": "kibibytes"},
            description="Memory that the hash of a password takes (Argon2id). After a change, each password is hashed"
            " anew when its owner logs in.",
        ),
    ] = 65_536
    password_hash_time: Annotated[
        int, Meta(ge=1, le=100, description="How often the hash of a password goes through that memory.")
    ] = 3
    auth_event_days: Annotated[
        int,
        Meta(ge=30, le=3650, extra={"unit": "days"}, description="How long `crm identity` keeps what it noted."),
    ] = 365

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least important lines to log.")
    ] = "info"
    log_format: Annotated[
        LogFormat,
        Meta(
            description="The form of log lines. `auto` is `pretty` on a terminal and `json` elsewhere; `ecs` is JSON"
            " with the names of the Elastic Common Schema."
        ),
    ] = "auto"
    metrics_tenants: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="Organizations that `/metrics` names, with their requests and records: those with the most."
            " 0 names none.",
        ),
    ] = 20
    slow_query_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=3_600_000,
            extra={"unit": "milliseconds"},
            description="Database statements that take longer are logged, without their parameters.",
        ),
    ] = 500.0
    otel_exporter_otlp_endpoint: Annotated[
        str,
        Meta(
            description="An OpenTelemetry collector (OTLP over HTTP) to send traces to. Requires the extra `tracing`.",
            examples=["http://collector:4318"],
        ),
    ] = ""

    @property
    def production(self) -> bool:
        """Whether what only development has (embedded servers, /docs, a generated secret) is off."""
        return self.environment == "production"

    @property
    def serves_jobs(self) -> bool:
        """Whether `crm serve` runs jobs itself."""
        return not self.production if self.jobs_in_service is None else self.jobs_in_service

    @property
    def has_public_links(self) -> bool:
        """Whether there are addresses under /public, which need no token."""
        return bool(self.public_url) or not self.production

    @property
    def database_dsn(self) -> str:
        """The database with the service's own login, as a libpq URL; empty if none is configured."""
        return _normalized(self.database_url) or _assembled(self)

    @property
    def read_dsn(self) -> str:
        """The standby, as a libpq URL; empty if there is none."""
        return _normalized(self.database_read_url)

    @property
    def migration_dsn(self) -> str:
        """The database with the login that owns the tables, as a libpq URL."""
        return _normalized(self.migration_database_url) or self.database_dsn

    @property
    def jwt_secrets(self) -> tuple[str, ...]:
        """The secrets that tokens may be signed with, the current one first."""
        return tuple(secret for secret in (self.jwt_secret, self.jwt_secret_previous) if secret)

    @property
    def audit_keys(self) -> tuple[str, ...]:
        """The secrets that checkpoints of the audit log may be signed with. New ones are signed with the first."""
        return tuple(secret for secret in (self.audit_key, *self.jwt_secrets) if secret)

    @property
    def encryption_key_bytes(self) -> tuple[bytes, ...]:
        """The keys that may have encrypted what the database keeps. The first one encrypts; there may be none."""
        keys = tuple(base64.b64decode(key) for key in _listed(self.encryption_keys))
        if keys or self.production:
            return keys
        return (hashlib.sha256(b"crm-service encryption key\0" + self.jwt_secret.encode()).digest(),)

    @property
    def webhook_networks(self) -> tuple[str, ...]:
        """Networks that webhooks may call although they are not public."""
        return _listed(self.webhook_allowed_networks)

    @property
    def registers(self) -> str:
        """Who may register: open, invited or closed."""
        return self.registration or ("invited" if self.production else "open")

    @property
    def has_own_model(self) -> bool:
        """Whether organizations may use the operator's account at a provider of language models."""
        return bool(self.assistant_model)

    @property
    def sends_mail(self) -> bool:
        """Whether mails go anywhere: to a mail server, or outside production into files."""
        return bool(self.smtp_url) or not self.production

    @property
    def sender(self) -> tuple[str, str]:
        """Who mails come from: a name, which may be empty, and an address."""
        name, address = parseaddr(self.mail_from)
        return name, address or "crm@localhost"

    @property
    def aliases(self) -> dict[str, str]:
        """Role names of other systems, and the roles that they mean here."""
        return dict(pair.split("=", 1) for pair in _listed(self.role_aliases.lower()))

    @property
    def rollback_roles(self) -> tuple[str, ...]:
        """Roles that may move a deal backward or reopen it."""
        return _listed(self.stage_rollback_roles.lower())

    @property
    def issuers(self) -> tuple[str, ...]:
        """Accepted `iss` claims; if there are none, the claim is not checked."""
        return _listed(self.jwt_issuer)

    @property
    def audiences(self) -> tuple[str, ...]:
        """Accepted `aud` claims; if there are none, the claim is not checked."""
        return _listed(self.jwt_audience)

    @property
    def authorization_servers(self) -> tuple[str, ...]:
        """Where AI clients get tokens by OAuth; there may be none."""
        return _listed(self.mcp_authorization_servers)

    @property
    def quotas(self) -> dict[str, int]:
        """What each organization may have at most, as the database calls it; what has no limit is left out."""
        limits = {"records": self.max_records, "bytes": self.max_storage_bytes, "members": self.max_members}
        return {name: most for name, most in limits.items() if most}

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
        """Origins whose pages may read the answers, or patterns in which `*` stands for characters of one label."""
        return _listed(self.cors_allowed_origins)


def load_settings(
    environ: Mapping[str, str] | None = None, *, data_dir: str | None = None, ignore_servers: bool = False
) -> Settings:
    """Read and check the settings. `ignore_servers` ignores the configured servers, as an explicit `--data-dir` does.

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
    # One value at a time, so that the message can name the variable.
    for name, value in values.items():
        try:
            convert({name: value}, Settings, strict=False)
        except ValidationError as error:
            reason = str(error).split(" - at ")[0].replace("`", "").removesuffix(", got str")
            raise SettingsError(f"{name}: {value!r} is not valid ({reason})") from None
    return convert(values, Settings, strict=False)


def _port(text: str) -> str:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise SettingsError(f"PORT: {text!r} is not a port number")
    return text


def _check_production(settings: Settings) -> None:
    for name in SECRETS:
        if any(example in getattr(settings, name) for example in EXAMPLES):
            raise SettingsError(f"{name.upper()}: is the example's, which everybody knows: set one of your own")
    for name in ("JWT_SECRET", "JWT_SECRET_PREVIOUS", "AUDIT_KEY"):
        secret = getattr(settings, name.lower())
        if secret and len(secret.encode()) < MIN_SECRET_BYTES:
            raise SettingsError(f"{name}: has {len(secret.encode())} bytes, but needs at least {MIN_SECRET_BYTES}")
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
        raise SettingsError(f"DEFAULT_CURRENCY: {settings.default_currency!r} is not an ISO 4217 code, such as EUR")
    if settings.report_timezone not in TIMEZONES:
        raise SettingsError(f"REPORT_TIMEZONE: {settings.report_timezone!r} is not a time zone, such as Europe/Berlin")
    for name in URLS:
        if not re.fullmatch(r"(https?://[^?#\s]+)?", getattr(settings, name)):
            raise SettingsError(f"{name.upper()}: must be of the form https://host")
    _check_roles(settings)
    _check_store(settings)
    for name, networks in (
        ("TRUSTED_PROXIES", settings.proxies),
        ("WEBHOOK_ALLOWED_NETWORKS", settings.webhook_networks),
    ):
        for network in networks:
            try:
                ip_network(network)
            except ValueError:
                raise SettingsError(f"{name}: {network!r} is not a network, such as 10.0.0.0/8") from None
    _check_keys(settings)
    for origin in settings.allowed_origins:
        if not re.fullmatch(r"https?://[A-Za-z0-9.*\-]+(:\d+)?|https?://\[[0-9a-fA-F:]+\](:\d+)?", origin):
            raise SettingsError(
                f"CORS_ALLOWED_ORIGINS: {origin!r} is not an origin, such as https://console.example.com"
            )
    if settings.otel_exporter_otlp_endpoint and not re.match(r"https?://", settings.otel_exporter_otlp_endpoint):
        raise SettingsError("OTEL_EXPORTER_OTLP_ENDPOINT: must begin with http:// or https://")
    _check_servers(settings)
    _check_mail(settings)
    _check_assistant(settings)
    _check_mcp(settings)
    _check_calendars(settings)


def _check_calendars(settings: Settings) -> None:
    for name in ("GOOGLE_CLIENT", "MICROSOFT_CLIENT"):
        client_id, secret = (getattr(settings, f"{name.lower()}_{part}") for part in ("id", "secret"))
        if bool(client_id) != bool(secret):
            raise SettingsError(f"{name}_{'SECRET' if client_id else 'ID'}: is required with the other one of the two")
        if client_id and settings.production and not settings.public_url:
            raise SettingsError(f"PUBLIC_URL: is required with {name}_ID, since the login page sends people back to it")


def _check_assistant(settings: Settings) -> None:
    if settings.assistant_api_key and not settings.assistant_model:
        raise SettingsError("ASSISTANT_MODEL: is required with ASSISTANT_API_KEY, such as claude-sonnet-4-5")
    if settings.assistant_provider != "openai_compatible":
        if settings.assistant_model and not settings.assistant_api_key:
            raise SettingsError("ASSISTANT_API_KEY: is required with ASSISTANT_MODEL")
    elif settings.assistant_model and not settings.openai_base_url:
        raise SettingsError("OPENAI_BASE_URL: is required where ASSISTANT_PROVIDER is openai_compatible")


def _check_mcp(settings: Settings) -> None:
    for server in settings.authorization_servers:
        if not re.fullmatch(r"https?://[^?#\s]+", server):
            raise SettingsError(f"MCP_AUTHORIZATION_SERVERS: {server!r} is not of the form https://host")
    if settings.authorization_servers and not settings.public_url:
        raise SettingsError("PUBLIC_URL: is required with MCP_AUTHORIZATION_SERVERS, since tokens name this address")


def _check_mail(settings: Settings) -> None:
    if settings.smtp_url and not _is_url_of(settings.smtp_url, SMTP_SCHEMES):
        raise SettingsError(
            "SMTP_URL: must be of the form smtp+starttls://login:password@host:587, or smtps:// or smtp://; in login"
            " and password, percent-encode what is no letter or digit"
        )
    if settings.smtp_url and not settings.mail_from:
        raise SettingsError("MAIL_FROM: is required with SMTP_URL, such as CRM <crm@example.com>")
    address = parseaddr(settings.mail_from)[1]
    if settings.mail_from and not re.fullmatch(r"[!-?A-~]+@[A-Za-z0-9.-]+", address):
        raise SettingsError(f"MAIL_FROM: {settings.mail_from!r} is not an address, such as CRM <crm@example.com>")


def _check_servers(settings: Settings) -> None:
    for name in ("database_url", "database_read_url", "migration_database_url"):
        url = getattr(settings, name)
        if url and not re.match(r"postgres(ql)?(\+\w+)?://", url):
            raise SettingsError(f"{name.upper()}: must begin with postgresql://")
    if settings.redis_url and not re.match(r"(rediss?://[^/?#]|unix://)", settings.redis_url):
        raise SettingsError("REDIS_URL: must be of the form redis://:password@host:6379/0, or rediss://")
    if settings.amqp_url and not _is_url_of(settings.amqp_url, ("amqp", "amqps")):
        raise SettingsError(
            "AMQP_URL: must be of the form amqp://login:password@host:5672/vhost, or amqps://; in login, password and"
            " vhost, percent-encode what is no letter or digit"
        )


def _check_keys(settings: Settings) -> None:
    for key in _listed(settings.encryption_keys):
        try:
            length = len(base64.b64decode(key, validate=True))
        except ValueError:
            length = 0
        if length != KEY_BYTES:
            # Never the value.
            raise SettingsError(f"ENCRYPTION_KEYS: each key has {KEY_BYTES} bytes in base64: openssl rand -base64 32")


def _is_url_of(url: str, schemes: Sequence[str]) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port, which could be a part of the password
        return False


def _check_roles(settings: Settings) -> None:
    for pair in _listed(settings.role_aliases):
        if not re.fullmatch(r"\s*[^=\s]+=(admin|manager|agent)", pair.lower()):
            raise SettingsError(f"ROLE_ALIASES: {pair!r} is not of the form alias=admin, =manager or =agent")
    for role in settings.rollback_roles:
        if role not in {"admin", "manager", "agent"}:
            raise SettingsError(f"STAGE_ROLLBACK_ROLES: {role!r} is not admin, manager or agent")


def _check_store(settings: Settings) -> None:
    for kind in settings.accepted_types:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+_-]*/[a-z0-9][a-z0-9.+_-]*", kind):
            raise SettingsError(f"ATTACHMENT_TYPES: {kind!r} is not a media type, such as application/pdf")
    for name in ("s3_endpoint_url", "s3_public_endpoint_url"):
        if not re.fullmatch(r"(https?://[^/?#\s]+/?)?", getattr(settings, name)):
            raise SettingsError(f"{name.upper()}: must be of the form https://host:port")
    if not settings.s3_bucket and (settings.s3_endpoint_url or settings.s3_access_key_id):
        raise SettingsError("S3_BUCKET: is required if other S3 settings are given")
    if bool(settings.s3_access_key_id) != bool(settings.s3_secret_access_key):
        raise SettingsError("S3_SECRET_ACCESS_KEY: must be given together with S3_ACCESS_KEY_ID")


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
    """The signing secret of this folder: made once, so that tokens stay valid after a restart. It is not in the source
    tree, so that nobody else knows the secret of a service that was left in development by mistake.
    """
    path = data_dir / "jwt-secret"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=data_dir, prefix="jwt-secret-") as draft:  # its mode is 0600
            draft.write(secrets.token_urlsafe(48))
            draft.flush()
            # A link fails if the file exists: of two processes that start at once, the first one's secret stays.
            with suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_text().strip()
