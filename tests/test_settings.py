"""The environment, right and wrong."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, load_settings

SECRET = "s" * 32
PRODUCTION = {"ENVIRONMENT": "production", "JWT_SECRET": SECRET, "DATABASE_URL": "postgresql://crm@db/crm"}


def load(tmp_path: Path, **environ: str) -> Settings:
    return load_settings(environ, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVER_PORT", "http"),
        ("SERVER_PORT", "65536"),
        ("ENVIRONMENT", "staging"),
        ("DB_POOL_MAX", "0"),
        ("DB_POOL_MIN", "21"),
        ("JWT_REQUIRE_TENANT", "perhaps"),
        ("AGENT_READ_SCOPE", "some"),
        ("ROLE_ALIASES", "owner=king"),
        ("CORS_ALLOWED_ORIGINS", "console.example.com"),
        ("CORS_ALLOWED_ORIGINS", "https://console.example.com/path"),
        ("DEFAULT_CURRENCY", "DOLLAR"),
        ("REPORT_TIMEZONE", "Moon"),
        ("DATABASE_URL", "mysql://db"),
        ("MIGRATION_DATABASE_URL", "db"),
        ("MAX_BODY_BYTES", "1MB"),
        ("DRAIN_SECONDS", "-1"),
        ("DB_SSLMODE", "maybe"),
        ("ATTACHMENT_MAX_BYTES", "0"),
        ("ATTACHMENT_MAX_BYTES", "5368709121"),
        ("ATTACHMENT_TYPES", "pdf"),
        ("S3_ENDPOINT_URL", "minio:9000"),
        ("S3_PUBLIC_ENDPOINT_URL", "https://files.example.com/crm"),
        ("UPKEEP_SECONDS", "-1"),
        ("TRUSTED_PROXIES", "my-proxy"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("AMQP_URL", "rabbitmq:5672"),
        ("AMQP_URL", "amqp://"),
        ("AMQP_URL", "amqp://crm:s3/cret@rabbitmq/"),
        ("AMQP_EXCHANGE", "e" * 128),
        ("RATE_LIMIT_PER_MINUTE", "-1"),
        ("AUTH_FAILURES_PER_MINUTE", "many"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, **{name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"JWT_SECRET": ""}, "JWT_SECRET"),
        ({"JWT_SECRET": "s" * 31}, "JWT_SECRET"),
        ({"JWT_SECRET_PREVIOUS": "short"}, "JWT_SECRET_PREVIOUS"),
        ({"AUDIT_KEY": "short"}, "AUDIT_KEY"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
    ],
)
def test_production_needs_a_long_secret_and_a_database(tmp_path: Path, change: dict[str, str], name: str) -> None:
    load(tmp_path, **PRODUCTION)
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load(tmp_path, **(PRODUCTION | change))


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"S3_ENDPOINT_URL": "http://minio:9000"}, "S3_BUCKET"),
        ({"S3_BUCKET": "crm", "S3_ACCESS_KEY_ID": "key"}, "S3_SECRET_ACCESS_KEY"),
    ],
)
def test_half_of_an_object_store_is_none(tmp_path: Path, environ: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load(tmp_path, **environ)


def test_the_development_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    secrets: list[str] = []
    threads = [threading.Thread(target=lambda: secrets.append(load(tmp_path).jwt_secret)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(secrets)) == 1
    assert len(secrets[0]) > 32
    assert (tmp_path / "jwt-secret").stat().st_mode & 0o077 == 0


def test_a_database_is_named_by_url_or_by_parts(tmp_path: Path) -> None:
    assert load(tmp_path).database_dsn == ""
    assert load(tmp_path, DATABASE_URL="postgres://u:p@h/d").database_dsn == "postgresql://u:p@h/d"
    parts = {"DB_HOST": "h", "DB_USER": "u", "DB_PASSWORD": "p@:/", "DB_NAME": "d", "DB_SSLMODE": "require"}
    assert load(tmp_path, **parts).database_dsn == "postgresql://u:p%40%3A%2F@h:5432/d?sslmode=require"
    assert load(tmp_path, **(parts | {"DB_HOST": "::1"})).database_dsn.startswith(
        "postgresql://u:p%40%3A%2F@[::1]:5432/d"
    )
    socket = load(tmp_path, DB_HOST="/var/run/postgresql", DB_USER="u").database_dsn
    assert socket == "postgresql://u@/crm?host=%2Fvar%2Frun%2Fpostgresql&port=5432"
    both = load(tmp_path, DATABASE_URL="postgresql://a@h/d", MIGRATION_DATABASE_URL="postgresql://b@h/d")
    assert both.migration_dsn == "postgresql://b@h/d"


def test_an_explicit_folder_means_its_embedded_database_whatever_is_configured(tmp_path: Path) -> None:
    environ = {"DATABASE_URL": "postgresql://h/d", "DB_HOST": "h"}
    settings = load_settings(environ, data_dir=str(tmp_path), ignore_servers=True)
    assert (settings.database_dsn, settings.crm_data_dir) == ("", str(tmp_path))


def test_port_is_taken_for_server_port(tmp_path: Path) -> None:
    assert load(tmp_path, PORT="8080").server_port == 8080
    assert load(tmp_path, PORT="8080", SERVER_PORT="9090").server_port == 9090


@pytest.mark.parametrize("file", ["docker-compose.yml", "deploy/kubernetes/overlays/production/service.env"])
def test_the_examples_secrets_are_refused_in_production(file: str) -> None:
    text = (Path(__file__).parents[1] / file).read_text()
    found = re.findall(r"^\s*(JWT_SECRET|DATABASE_URL)(?:: |=)(\S+)", text, re.MULTILINE)
    assert {name for name, _ in found} == {"JWT_SECRET", "DATABASE_URL"}
    good = {"ENVIRONMENT": "production", "JWT_SECRET": "x" * 32, "DATABASE_URL": "postgresql://crm@db/crm"}
    for name, value in found:
        with pytest.raises(SettingsError, match=f"{name}: is the example's"):
            load_settings(good | {name: value})
    for name in ("JWT_SECRET_PREVIOUS", "AUDIT_KEY"):
        with pytest.raises(SettingsError, match=f"{name}: is the example's"):
            load_settings(good | {name: dict(found)["JWT_SECRET"]})
