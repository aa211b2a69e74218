"""What watches the service: alerts, their runbooks, and dashboards, against a real Prometheus and a running service."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from click.testing import CliRunner
from litestar import Litestar
from litestar.testing import TestClient

from app.cli import crm
from app.dev.token import make_token
from app.jobs.metrics import DURATION as JOB_DURATION
from app.jobs.metrics import JOBS
from app.settings import Settings
from app.storage.objects import CALLS as STORE_CALLS
from app.storage.objects import FAILURES as STORE_FAILURES
from app.usage import USAGE, Size
from tests.processes import Service, wait_until
from tests.programs import program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
FILES = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["rule_files"]
RULES = [
    rule
    for name in FILES
    for group in yaml.safe_load((PROMETHEUS / name).read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = {rule["record"] for rule in RULES if "record" in rule}
# What the text of an alert asks for.
ASKED = re.findall("printf `(.*?)`", " ".join(rule["annotations"]["summary"] for rule in ALERTS.values()))
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (DEPLOY / "grafana" / "dashboards").iterdir()}
PANELS = [panel for dashboard in DASHBOARDS.values() for panel in dashboard["panels"]]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
PAGE = (ROOT / "docs/runbooks.md").read_text()
RUNBOOKS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))

# What Prometheus and Kubernetes add, and the worker that `_Processes` names where there are several.
ADDED = {"job", "instance", "namespace", "pid"}
# What somebody else measures, with its labels.
OTHERS = {
    "up": set(),
    "ALERTS": {"alertname", "alertstate"},
    "probe_ssl_earliest_cert_expiry": set(),
    "node_filesystem_avail_bytes": {"mountpoint", "fstype"},
    "node_filesystem_size_bytes": {"mountpoint", "fstype"},
}


@pytest.fixture(scope="module")
def exported(client: TestClient[Litestar]) -> dict[str, set[str]]:
    """The metrics of a service that has answered something, each with its labels."""
    client.get("/admin/me")
    # What a service has series of only once it did something: the library refuses labels that are others.
    JOBS.labels(kind="bulk", outcome="done")
    JOB_DURATION.labels(kind="bulk")
    STORE_CALLS.labels(operation="get")
    STORE_FAILURES.labels(reason="EndpointConnectionError")
    USAGE.count("acme")
    USAGE.measured({"acme": Size(1, 1)})
    found: dict[str, set[str]] = {name: set(labels) for name, labels in OTHERS.items()}
    families = [line.split()[2:] for line in client.get("/metrics").text.splitlines() if line.startswith("# TYPE ")]
    for name, _ in families:
        found.setdefault(name, set())
    for line in client.get("/metrics").text.splitlines():
        if match := re.match(r"(\w+)(?:{(.*)})? ", line):
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return found


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *ASKED, *QUERIES])
def test_an_expression_uses_metrics_and_labels_that_there_are(expression: str, exported: dict[str, set[str]]) -> None:
    used = re.findall(r"([a-zA-Z_:]\w*(?::\w+)*){([^}]*)}", expression)
    assert used
    labels = set(ADDED)
    for name, matchers in used:
        if name in RECORDS:
            continue
        assert name in exported
        labels |= exported[name]
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= exported[name] | ADDED
    for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert {label.strip() for label in by.split(",")} <= labels
    # Nothing is left that would be a metric without braces, which the pattern above would not see.
    assert not re.search(r"\b(crm|process|probe)_\w+(?![\w{])", expression)


def test_every_alert_is_seen_to_fire_and_to_keep_quiet() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    assert {check["alertname"] for check in checks if check.get("exp_alerts")} == ALERTS.keys()
    assert {check["alertname"] for check in checks if not check.get("exp_alerts")} == ALERTS.keys()


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    anchors = {rule["annotations"]["runbook_url"].partition("/docs/runbooks.md#")[2] for rule in ALERTS.values()}
    assert anchors == {name.lower() for name in RUNBOOKS}
    for alert, rule in ALERTS.items():
        (name,) = [name for name in RUNBOOKS if rule["annotations"]["runbook_url"].endswith(f"#{name.lower()}")]
        # One that is for several alerts says so.
        assert alert == name or alert in RUNBOOKS[name], f"docs/runbooks.md, {name}"


def test_what_alertmanager_keeps_back_and_for_which_are_alerts_that_there_are() -> None:
    (example,) = re.findall(r"```yaml\n(inhibit_rules:.*?)```", PAGE, re.DOTALL)
    for rule in yaml.safe_load(example)["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            (names,) = re.findall('alertname=~?"(.*?)"', rule[side][0])
            for name in names.split("|"):
                assert any(re.fullmatch(name, alert) for alert in ALERTS), name
        assert re.findall('job=~"(.*?)"', rule["source_matchers"][1]) == [r"(.+/)?crm(-service)?"]


def test_one_line_of_the_page_gives_all_runbooks_the_address_that_they_have() -> None:
    operations = (ROOT / "docs/operations.md").read_text()
    ((own, address),) = re.findall(r"own='(s\|[^|]*\|([^|]*)\|)'", operations)
    for name in (*FILES, "../kubernetes/components/monitoring/rules.yaml"):
        made = subprocess.run(["sed", own, PROMETHEUS / name], capture_output=True, text=True, check=True).stdout
        urls = re.findall(r"runbook_url: (\S+)", made)
        assert urls
        assert all(url.startswith(f"{address}/blob/main/docs/runbooks.md#") for url in urls)


@pytest.mark.parametrize("name", RUNBOOKS)
def test_what_a_runbook_says_can_be_done(name: str, settings: Settings) -> None:
    text = " ".join(RUNBOOKS[name].split())
    assert "**Look**" in text
    assert "**Do**" in text
    for command in re.findall(r"`crm ((?:[a-z]+ ?)+)", text):
        assert CliRunner().invoke(crm, [*command.split(), "--help"]).exit_code == 0, command
    statements = re.findall(r'psql "\$OWNER_URL" -c "(.*?)"', text, re.DOTALL)
    statements += re.findall(r"`(SELECT (?:(?!pg_terminate)[^`])*)`", text)
    with psycopg.connect(settings.migration_dsn) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.rollback()
    for shown in re.findall(r"\*([A-Z][^*]+)\*", text.replace("**", "")):
        titles = {panel["title"] for panel in PANELS} | {each["title"] for each in DASHBOARDS.values()}
        assert shown in titles | {"Targets", "Shrinks"}, f"there is no panel {shown!r}"
    for setting in re.findall(r"`([A-Z][A-Z_]{5,})", text):
        known = {*Settings.__struct_encode_fields__, "SERVICE_UNAVAILABLE", "INTERNAL_ERROR", "INVALID_TOKEN"}
        assert setting in known | {"MISSING_TOKEN", "RATE_LIMITED", "ANALYZE", "SELECT", "ROLLBACK"}, setting


def promtool(*arguments: str, folder: Path = PROMETHEUS) -> None:
    command = [program("promtool", package="prometheus"), *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
def test_prometheus_takes_its_configuration_and_the_alerts_do_what_they_say() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "alerts_test.yml")


# ── a real Prometheus ────────────────────────────────────────────────────────────────────────────────────────────────


# What is there once the service was scraped twice, and looked at everything that waits.
FIRST = (
    "rate(crm_http_requests_total[1m]) > 0",
    "crm_tenant_records",
    "crm_jobs_waiting",
    "crm_audit_unsealed_entries",
)


@pytest.fixture(scope="module")
def prometheus(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that has scraped a running service twice, with our rules."""
    folder = tmp_path_factory.mktemp("prometheus")
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    own = {"DATABASE_URL": settings.database_dsn, "JWT_SECRET": settings.jwt_secret, "JOBS_IN_SERVICE": "true"}
    service = Service(folder / "crm", "--workers", "2", **own, UPKEEP_SECONDS="1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    configuration["rule_files"] = [str(PROMETHEUS / name) for name in configuration["rule_files"]]
    configuration["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["scrape_configs"] = configuration["scrape_configs"][:1]
    configuration["scrape_configs"][0]["static_configs"][0]["targets"] = [service.url.removeprefix("http://")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    running = subprocess.Popen(
        [
            program("prometheus", package="prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}",
            "--log.level=error",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://{address}/api/v1"
    token = make_token(settings, role="admin")

    def scraped() -> bool:
        assert service.call("GET", "/admin/customers", token).is_success
        try:
            found = [httpx.get(f"{url}/query", params={"query": query}).json() for query in FIRST]
        except httpx.HTTPError:
            return False
        return all(each.get("data", {}).get("result") for each in found)

    try:
        wait_until(scraped, "Prometheus has scraped the service twice")
        yield url
    finally:
        running.terminate()
        running.wait(20)
        service.stop()


# Panels of what the service of this test has not done.
EMPTY = {
    *("Alerts", "Refused by reason", "Jobs that ended", "Time of jobs", "Object store", "Failures of the object store"),
    *("Events for the message broker", "Time of receivers", "Failing requests", "Refused requests", "Regular work"),
}


@pytest.mark.slow
def test_every_panel_shows_what_prometheus_found_at_a_running_service(prometheus: str) -> None:
    empty = set()
    for panel in PANELS:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "1m").replace("$job", ".+")
            answer = httpx.get(f"{prometheus}/query", params={"query": query}).json()
            assert answer["status"] == "success", f"{panel['title']}: {answer}"
            if not answer["data"]["result"]:
                empty.add(panel["title"])
    assert empty - EMPTY == set()


@pytest.mark.slow
def test_a_running_service_gives_every_rule_what_it_is_about_and_no_alert(prometheus: str) -> None:
    groups = httpx.get(f"{prometheus}/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == ALERTS.keys() | RECORDS
    assert [rule for rule in rules if rule["health"] == "err"] == []
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []


# ── Grafana ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_dashboards_and_prometheus_find_each_other() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yml").read_text())["datasources"]
    variables = [variable for each in DASHBOARDS.values() for variable in each["templating"]["list"]]
    assert {each["datasource"]["uid"] for each in (*PANELS, *variables)} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in COMPOSE["grafana"]["volumes"]
    assert COMPOSE["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/overview.json"
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert {each["job_name"]: each["static_configs"][0]["targets"] for each in scraped} == {
        "crm-service": ["crm-service:3000"],
        "crm-worker": ["crm-worker:3000"],
        "crm-identity": ["identity:8080"],
    }
    assert {"crm-service", "crm-worker", "identity"} <= COMPOSE.keys()


def test_no_two_dashboards_or_panels_are_taken_for_one_another() -> None:
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
    for dashboard in DASHBOARDS.values():
        places: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at: dict[str, Any] = panel["gridPos"]
            covered = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert at["x"] + at["w"] <= 24
            assert not covered & places, panel["title"]
            places |= covered
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
