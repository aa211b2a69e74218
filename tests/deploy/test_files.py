"""docker-compose.yml and deploy/, against the service that they run. Schemas are the business of `make check`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from click.testing import CliRunner

from app.cli import crm
from app.cli.serve import WORKER_STOP_SECONDS
from app.db.migrations import Migrations
from app.dev.postgres import EmbeddedPostgres
from app.identity.migrations import IDENTITY
from app.settings import Settings, load_settings
from tests.processes import CRM
from tests.programs import program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in COMPOSE.items() if service["image"] == "crm-service"}
every_container = pytest.mark.parametrize("name", OURS)


# ── docker-compose.yml ───────────────────────────────────────────────────────────────────────────────────────────────


@every_container
def test_a_container_is_given_settings_that_there_are_and_that_will_do(name: str, tmp_path: Path) -> None:
    # What the caller's environment may set is tried as it is without.
    environment = {
        key: re.sub(r"\$\{\w+:-(.*?)}", r"\1", str(value)) for key, value in OURS[name]["environment"].items()
    }
    assert unknown_settings(environment) == set()
    assert load_settings(environment, data_dir=str(tmp_path)).environment == "development"


def unknown_settings(names: Any) -> set[str]:
    return set(names) - set(Settings.__struct_encode_fields__)


@every_container
def test_a_container_runs_a_command_that_there_is(name: str) -> None:
    program, *arguments = OURS[name]["command"]
    assert program == "crm"
    assert CliRunner().invoke(crm, [*arguments, "--help"]).exit_code == 0


def test_who_issues_tokens_and_who_verifies_them_share_the_secret() -> None:
    assert len({service["environment"]["JWT_SECRET"] for service in OURS.values()}) == 1


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in COMPOSE.values() for port in service.get("ports", ())]
    assert "127.0.0.1:8081:3000" in ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_every_file_that_is_mounted_is_there() -> None:
    mounted = [
        volume.split(":")[0]
        for service in COMPOSE.values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]
    assert len(mounted) >= 6
    assert [path for path in mounted if not (ROOT / path).exists()] == []


def test_stopping_has_time_for_draining_and_the_requests_in_flight() -> None:
    needed = Settings().drain_seconds + WORKER_STOP_SECONDS
    assert float(OURS["crm-service"]["stop_grace_period"].removesuffix("s")) >= needed
    for unit in ("crm-service", "crm-worker", "crm-identity"):
        text = (DEPLOY / "systemd" / f"{unit}.service").read_text()
        assert float(text.split("TimeoutStopSec=")[1].split()[0]) >= needed


@pytest.mark.slow
@pytest.mark.usefixtures("bare_servers")
def test_the_database_is_prepared_so_that_migrations_and_service_run(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, options=("fsync=off",)) as server:
        superuser = server.dsn(user="postgres", database="postgres")
        with psycopg.connect(superuser, autocommit=True) as connection:
            for statement in ("DROP DATABASE crm", "DROP ROLE crm_owner", "DROP ROLE crm_app"):
                connection.execute(statement)
            for part in (DEPLOY / "compose" / "postgres.sql").read_text().split(";\n"):
                connection.execute(part)
        owner, login = (
            COMPOSE["migrate"]["environment"][name].split("//")[1].split(":")[0]
            for name in ("MIGRATION_DATABASE_URL", "DATABASE_URL")
        )
        Migrations(server.dsn(user=owner), server.dsn(user=login)).upgrade()
        with psycopg.connect(server.dsn(user=login)) as connection:
            connection.execute("SET ROLE crm_service")
            assert connection.execute("SELECT count(*) FROM customers").fetchone() == (0,)
        other = COMPOSE["identity"]["environment"]["DATABASE_URL"].split("//")[1].split(":")[0]
        Migrations(server.dsn(user=owner), server.dsn(user=other), line=IDENTITY).upgrade()
        with psycopg.connect(server.dsn(user=other)) as connection:
            connection.execute("SET ROLE crm_identity")
            assert connection.execute("SELECT count(*) FROM identity.users").fetchone() == (0,)
    server.destroy()


# ── systemd ───────────────────────────────────────────────────────────────────────────────────────────────────────────


UNITS = {path.name: path.read_text() for path in (DEPLOY / "systemd").iterdir() if path.name != "crm"}
INSTALLING = (ROOT / "docs/installing.md").read_text()


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    systemd_analyze = program("systemd-analyze", package="systemd")
    for other, text in UNITS.items():
        # PostgreSQL's own programs need not be where this runs.
        here = re.sub(r"/usr/bin/(pg_dump|psql)", "/bin/true", text).replace("/opt/crm/bin/crm", CRM)
        (tmp_path / other).write_text(here)
    ran = subprocess.run([systemd_analyze, "verify", tmp_path / name], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("name", [name for name, text in UNITS.items() if "/opt/crm/bin/crm" in text])
def test_a_unit_runs_a_command_that_there_is_and_may_do_little(name: str) -> None:
    for command in re.findall(r"^ExecStart=-?/opt/crm/bin/crm (.*)", UNITS[name], re.MULTILINE):
        assert CliRunner().invoke(crm, [*command.split(), "--help"]).exit_code == 0
    # What `systemd-analyze security` finds: from 0 to 10, less is better.
    command = [program("systemd-analyze", package="systemd"), "security", "--offline=true", "--no-pager"]
    said = subprocess.run([*command, DEPLOY / "systemd" / name], capture_output=True, text=True, check=True).stdout
    exposure = re.search(r"Overall exposure level for .*: ([\d.]+)", said)
    assert exposure
    assert float(exposure[1]) < 2


def test_the_page_makes_every_file_of_settings_that_units_read_and_their_names_are_right() -> None:
    wrapper = (DEPLOY / "systemd/crm").read_text()
    read = set(re.findall(r"/etc/crm/\w+\.env", wrapper + "".join(UNITS.values())))
    made = re.findall(r"/dev/stdin (/etc/crm/\w+\.env) <<ENV\n(.*?)^ENV", INSTALLING, re.MULTILINE | re.DOTALL)
    assert read == {path for path, _ in made}
    for _, text in made:
        assert unknown_settings(re.findall(r"^([A-Z_0-9]+)=", text, re.MULTILINE)) == set()


def test_the_page_enables_units_that_are_installed() -> None:
    enabled = " ".join(re.findall(r"systemctl enable --now (.*)", INSTALLING)).split()
    assert {name if "." in name else f"{name}.service" for name in enabled} == {
        name for name, text in UNITS.items() if "[Install]" in text
    }
