"""docker-compose.yml and deploy/, against the service that they run. Schemas are the business of `make check`."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import yaml
from click.testing import CliRunner
from litestar import Litestar
from litestar.testing import TestClient

from app.cli import crm
from app.cli.serve import WORKER_STOP_SECONDS
from app.db.migrations import Migrations
from app.dev.issuer import User
from app.dev.people import PEOPLE
from app.dev.postgres import EmbeddedPostgres
from app.settings import Settings, SettingsError, load_settings
from tests.processes import CRM
from tests.programs import program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in COMPOSE.items() if service["image"] == "crm-service"}
MANIFESTS = [
    document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
PODS = [document["spec"]["template"] for document in MANIFESTS if document["kind"] in {"Deployment", "Job"}]
DEPLOYMENT, WORKERS = (document["spec"] for document in MANIFESTS if document["kind"] == "Deployment")
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana" / "crm.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

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


def test_issuer_and_service_share_the_secret() -> None:
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
    for unit in (DEPLOY / "systemd").iterdir():
        assert float(unit.read_text().split("TimeoutStopSec=")[1].split()[0]) >= needed
    configured = next(document["data"] for document in MANIFESTS if document["kind"] == "ConfigMap")
    for pod in (DEPLOYMENT["template"]["spec"], WORKERS["template"]["spec"]):
        assert pod["terminationGracePeriodSeconds"] >= float(configured["DRAIN_SECONDS"]) + WORKER_STOP_SECONDS


def test_the_issuers_users_can_be_read() -> None:
    users = msgspec.json.decode((DEPLOY / "compose" / "users.json").read_bytes(), type=list[User])
    assert {user.role.value for user in users} == {"admin", "manager", "agent"}
    # The same people as in all examples, so that what they own there is theirs here.
    told = {(user.role, user.name, user.email, user.actor.user_id) for user in users}
    assert told == {(person.role, person.name, person.email, person.user_id) for person in PEOPLE.values()}


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
    server.destroy()


# ── Prometheus and Grafana ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def exported(client: TestClient[Litestar]) -> dict[str, set[str]]:
    """The metrics of a service that has answered something, each with its labels."""
    client.get("/admin/me")
    found: dict[str, set[str]] = {}
    for line in client.get("/metrics").text.splitlines():
        if match := re.match(r"(\w+)(?:{(.*)})? ", line):
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return found


# What Prometheus adds by itself, and the worker that `_Processes` names where there are several.
ADDED = {"job", "instance", "pid"}


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *EXPRESSIONS])
def test_an_expression_uses_metrics_and_labels_that_there_are(expression: str, exported: dict[str, set[str]]) -> None:
    used = re.findall(r"([a-z_]+){([^}]*)}", expression)
    assert used
    labels = set(ADDED)
    for name, matchers in used:
        assert name == "up" or name in exported
        labels |= exported.get(name, set())
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= exported.get(name, set()) | ADDED
    for by in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in by.split(",")} <= labels
    # Nothing is left that would be a metric without braces, which the pattern above would not see.
    assert not re.search(r"\b(crm|process)_\w+(?![\w{])", expression)


def test_every_alert_is_seen_to_fire_and_to_keep_quiet() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {check["alertname"] for check in checks if check.get("exp_alerts")} == names
    assert {check["alertname"] for check in checks if not check.get("exp_alerts")} == names


def promtool(*arguments: str, folder: Path = DEPLOY / "prometheus") -> None:
    command = [program("promtool", package="prometheus"), *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_prometheus_takes_its_configuration_and_the_alerts_do_what_they_say() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "alerts_test.yml")


def test_prometheus_takes_the_dashboards_expressions(tmp_path: Path) -> None:
    queries = [expression.replace("$__rate_interval", "5m") for expression in EXPRESSIONS]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", "rules.yml", folder=tmp_path)


def test_the_dashboard_and_prometheus_find_each_other() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yml").read_text())["providers"]
    assert f"./deploy/grafana/crm.json:{provider['options']['path']}/crm.json:ro" in COMPOSE["grafana"]["volumes"]
    (scraped,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert scraped["static_configs"][0]["targets"] == ["crm-service:3000", "crm-worker:3000"]
    assert DASHBOARD["templating"]["list"][0]["current"]["value"] == scraped["job_name"]


# ── Kubernetes and systemd ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_pods_are_given_settings_that_there_are() -> None:
    kinds = {"ConfigMap", "Secret"}
    given = [each.get("data") or each["stringData"] for each in MANIFESTS if each["kind"] in kinds]
    environment = {name: value for values in given for name, value in values.items()}
    assert unknown_settings(environment) == set()
    # As they stand they are refused; a secret of one's own makes them good.
    with pytest.raises(SettingsError, match="is the example's"):
        load_settings(environment)
    own = {name: value.replace("CHANGE-ME", "one-of-our-own") for name, value in environment.items()}
    own["ENCRYPTION_KEYS"] = base64.b64encode(bytes(32)).decode()
    assert load_settings(own).production
    named = {(document["kind"], document["metadata"]["name"]) for document in MANIFESTS}
    for pod in PODS:
        for source in pod["spec"]["containers"][0]["envFrom"]:
            for key, reference in source.items():
                assert ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[key], reference["name"]) in named


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["metadata"]["labels"]["app"])
def test_a_pod_runs_this_release_as_the_images_user_and_writes_only_to_tmp(pod: dict[str, Any]) -> None:
    (container,) = pod["spec"]["containers"]
    assert container["image"].endswith(f":{version('crm-service')}")
    assert f"USER {pod['spec']['securityContext']['runAsUser']}\n" in (ROOT / "Dockerfile").read_text()
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]  # noqa: S108 -- the container's
    command = container.get("command") or container["args"]
    assert CliRunner().invoke(crm, [*command[1:], "--help"]).exit_code == 0


def test_the_probes_ask_addresses_that_answer(client: TestClient[Litestar]) -> None:
    for deployment, listening in ((DEPLOYMENT, Settings().server_port), (WORKERS, 3001)):
        (container,) = deployment["template"]["spec"]["containers"]
        paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/live", "liveness": "/live", "readiness": "/ready"}
        assert {client.get(path).status_code for path in paths.values()} == {200}
        assert [port["containerPort"] for port in container["ports"]] == [listening]


def test_whatever_selects_pods_selects_the_services() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    selecting = {document["kind"]: document["spec"] for document in MANIFESTS if "spec" in document}
    workers = WORKERS["template"]["metadata"]["labels"]
    assert selecting["Service"]["selector"] == labels
    assert selecting["PodDisruptionBudget"]["selector"]["matchLabels"] == labels
    (limited,) = selecting["NetworkPolicy"]["podSelector"]["matchExpressions"]
    assert limited["values"] == [labels["app"], workers["app"]]
    assert WORKERS["selector"]["matchLabels"] == workers != labels
    assert selecting["HorizontalPodAutoscaler"]["scaleTargetRef"]["name"] == "crm-service"


@pytest.mark.parametrize(("name", "command"), [("crm-service.service", "serve "), ("crm-worker.service", "worker\n")])
def test_systemd_takes_the_unit(name: str, command: str, tmp_path: Path) -> None:
    systemd_analyze = program("systemd-analyze", package="systemd")
    text = (DEPLOY / "systemd" / name).read_text()
    assert f"/opt/crm/bin/crm {command}" in text
    unit = tmp_path / name
    unit.write_text(text.replace("/opt/crm/bin/crm", CRM))
    ran = subprocess.run([systemd_analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
