"""deploy/kubernetes, as kustomize makes it, against the service that it runs. `make check` knows the schemas."""

from __future__ import annotations

import base64
import shutil
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from litestar import Litestar
from litestar.testing import TestClient

from app.admin.assistant.socket import SILENT_SECONDS
from app.cli import crm
from app.cli.serve import WORKER_STOP_SECONDS
from app.cli.worker import PORT
from app.events.streams import COMMENT_SECONDS
from app.settings import Settings, SettingsError, load_settings
from tests.programs import program

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(path.name for path in (ROOT / "deploy/kubernetes/overlays").iterdir())
# PostgreSQL's own default, less the three that it keeps for superusers.
CONNECTIONS = 97

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


class Manifests:
    """What an overlay makes."""

    def __init__(self, documents: list[dict[str, Any]]) -> None:
        self.documents = documents

    def all(self, *kinds: str) -> list[dict[str, Any]]:
        return [each for each in self.documents if each["kind"] in kinds]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = [
            each
            for each in self.all(kind)
            # Names of settings end with a hash of them, so that pods start anew when they change.
            if each["metadata"]["name"] == name or each["metadata"]["name"].rsplit("-", 1)[0] == name
        ]
        return found

    def pods(self) -> dict[str, dict[str, Any]]:
        """The templates of all pods, by the names of what makes them."""
        made = {each["metadata"]["name"]: each["spec"]["template"] for each in self.all("Deployment", "Job")}
        for each in self.all("CronJob"):
            made[each["metadata"]["name"]] = each["spec"]["jobTemplate"]["spec"]["template"]
        return made

    def ours(self) -> dict[str, dict[str, Any]]:
        """Those that run the service's image."""
        return {
            name: pod for name, pod in self.pods().items() if "crm-service:" in pod["spec"]["containers"][0]["image"]
        }

    def environment(self, pod: dict[str, Any]) -> dict[str, str]:
        """The settings that a pod is given."""
        (container,) = pod["spec"]["containers"]
        given: dict[str, str] = {}
        for source in container["envFrom"]:
            ((kind, reference),) = source.items()
            # By its whole name: without the hash, there would be none for the pod.
            those = self.all({"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind])
            (named,) = [each for each in those if each["metadata"]["name"] == reference["name"]]
            for name, value in named["data"].items():
                given[name] = value if kind == "configMapRef" else base64.b64decode(value).decode()
        return given | {each["name"]: each["value"] for each in container.get("env", ())}


@cache
def manifests(overlay: str) -> Manifests:
    return kustomized(ROOT / "deploy/kubernetes/overlays" / overlay)


def kustomized(folder: Path) -> Manifests:
    command = [program("kubectl", package="kubernetes-client"), "kustomize", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    return Manifests(list(yaml.safe_load_all(made.stdout)))


def with_identity(folder: Path) -> Manifests:
    """The overlay `production` with what lets people log in, as that component says; made in this folder."""
    shutil.copytree(ROOT / "deploy/kubernetes", folder / "kubernetes")
    overlay = folder / "kubernetes/overlays/production"
    about = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    about["components"].append("../../components/identity")
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(about))
    return kustomized(overlay)


@every_overlay
def test_every_pod_is_given_settings_that_there_are_and_that_will_do(overlay: str) -> None:
    made = manifests(overlay)
    for pod in made.ours().values():
        environment = made.environment(pod)
        assert set(environment) - set(Settings.__struct_encode_fields__) == set()
        # As they stand they are refused; a secret of one's own makes them good.
        with pytest.raises(SettingsError, match="is the example's"):
            load_settings(environment)
        own = {name: value.replace("CHANGE-ME", "one-of-our-own-secrets-here") for name, value in environment.items()}
        own["ENCRYPTION_KEYS"] = base64.b64encode(bytes(32)).decode()
        settings = load_settings(own)
        assert settings.production
        assert "sslmode=verify-full" in settings.database_dsn


@every_overlay
def test_only_what_needs_the_owners_login_gets_it(overlay: str) -> None:
    made = manifests(overlay)
    with_it = {name for name, pod in made.ours().items() if "MIGRATION_DATABASE_URL" in made.environment(pod)}
    assert with_it == {"crm-migrate", "crm-sweep", "crm-purge", "crm-checkpoint", "crm-verify"}
    assert made.environment(made.pods()["crm-backup"]).keys() == {"BACKUP_URL"}


@every_overlay
def test_every_pod_runs_this_release_as_the_images_user_and_writes_only_where_it_may(overlay: str) -> None:
    made = manifests(overlay)
    for name, pod in made.pods().items():
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert f"USER {pod['spec']['securityContext']['runAsUser']}\n" in (ROOT / "Dockerfile").read_text()
        assert not pod["spec"]["automountServiceAccountToken"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["resources"]["limits"]["memory"]
        written = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
        assert written == ({"/backups"} if name == "crm-backup" else {"/tmp"})  # noqa: S108 -- the container's
    for pod in made.ours().values():
        (container,) = pod["spec"]["containers"]
        assert container["image"].endswith(f":{version('crm-service')}")
        command = container.get("command") or container["args"]
        assert CliRunner().invoke(crm, [*command[1:], "--help"]).exit_code == 0


@every_overlay
def test_the_probes_ask_addresses_that_answer_in_time(overlay: str, client: TestClient[Litestar]) -> None:
    made = manifests(overlay)
    for name, listening in (("crm-service", Settings().server_port), ("crm-worker", PORT)):
        pod = made.one("Deployment", name)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/live", "liveness": "/live", "readiness": "/ready"}
        assert {client.get(path).status_code for path in paths.values()} == {200}
        assert [port["containerPort"] for port in container["ports"]] == [listening]
        drain = float(made.one("ConfigMap", "crm-service")["data"]["DRAIN_SECONDS"])
        assert pod["terminationGracePeriodSeconds"] >= drain + WORKER_STOP_SECONDS


@every_overlay
def test_whatever_selects_pods_selects_what_it_means(overlay: str) -> None:
    made = manifests(overlay)
    labels = {name: pod["metadata"]["labels"] for name, pod in made.pods().items()}
    service, worker = labels["crm-service"], labels["crm-worker"]
    assert service != worker
    for name in ("crm-service", "crm-worker"):
        assert made.one("Deployment", name)["spec"]["selector"]["matchLabels"] == labels[name]
        assert made.one("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"] == labels[name]
        assert made.one("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"] == labels[name]
    assert made.one("Service", "crm-service")["spec"]["selector"] == service
    assert made.one("HorizontalPodAutoscaler", "crm-service")["spec"]["scaleTargetRef"]["name"] == "crm-service"
    (limited,) = made.one("NetworkPolicy", "crm-egress")["spec"]["podSelector"]["matchExpressions"]
    assert set(limited["values"]) == {each["app"] for each in labels.values()}
    for name, label in labels.items():
        # Whatever is not a service or a worker is spoken to by nobody.
        assert (label.get("part-of") == "crm-tasks") == (name not in {"crm-service", "crm-worker"})


@every_overlay
def test_clients_reach_the_service_over_tls_and_not_its_metrics(overlay: str, client: TestClient[Litestar]) -> None:
    made = manifests(overlay)
    ingress = made.one("Ingress", "crm-service")["spec"]
    (rule,) = ingress["rules"]
    public = Settings(public_url=f"https://{rule['host']}").public_url
    assert made.one("ConfigMap", "crm-service")["data"]["PUBLIC_URL"] == public
    assert [each["hosts"] for each in ingress["tls"]] == [[rule["host"]]]
    paths = [each["path"] for each in rule["http"]["paths"]]
    # All of the service's own addresses but the probes and the API reference are reached by one of these.
    hidden = {"/live", "/ready", "/health", "/metrics", "/"}
    for address in {route.path_format for route in client.app.routes if not route.path_format.startswith("/docs")}:
        reached = any(address == path or address.startswith(f"{path}/") for path in paths)
        assert reached == (address not in hidden), address


@every_overlay
def test_the_ingress_does_not_cut_what_is_silent(overlay: str) -> None:
    annotations = manifests(overlay).one("Ingress", "crm-service")["metadata"]["annotations"]
    seconds = int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"])
    assert seconds > 2 * max(COMMENT_SECONDS, SILENT_SECONDS)


@every_overlay
def test_metrics_are_for_prometheus_only(overlay: str) -> None:
    made = manifests(overlay)
    sources = {
        name: {
            source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            for rule in made.one("NetworkPolicy", name)["spec"]["ingress"]
            for source in rule["from"]
        }
        for name in ("crm-service", "crm-worker")
    }
    assert sources == {"crm-service": {"ingress-nginx", "monitoring"}, "crm-worker": {"monitoring"}}
    for kind, name, endpoints in (
        ("ServiceMonitor", "crm-service", "endpoints"),
        ("PodMonitor", "crm-worker", "podMetricsEndpoints"),
    ):
        for monitor in made.all(kind):
            (endpoint,) = monitor["spec"][endpoints]
            (container,) = made.one("Deployment", name)["spec"]["template"]["spec"]["containers"]
            assert endpoint["port"] in {port["name"] for port in container["ports"]}


def test_without_a_pooler_all_pods_together_fit_into_postgresqls_connections() -> None:
    made = manifests("staging")
    pods = made.one("HorizontalPodAutoscaler", "crm-service")["spec"]["maxReplicas"]
    replicas = {"crm-service": pods, "crm-worker": made.one("Deployment", "crm-worker")["spec"]["replicas"]}
    opened = 0
    for name, count in replicas.items():
        deployment = made.one("Deployment", name)["spec"]
        surge = deployment["strategy"]["rollingUpdate"]["maxSurge"]
        pool = int(made.environment(deployment["template"])["DB_POOL_MAX"])
        opened += (count + surge) * (pool + 1)  # and one that /ready asks over
    # The migration, and two pieces of regular work at the same time.
    assert opened + 2 + 2 * 2 <= CONNECTIONS


def test_beyond_that_a_pooler_stands_between_and_migrations_go_past_it() -> None:
    made = manifests("production")
    assert ":6432/" in made.environment(made.pods()["crm-service"])["DATABASE_URL"]
    for name in ("crm-migrate", "crm-verify"):
        assert ":6432/" not in made.environment(made.pods()[name])["MIGRATION_DATABASE_URL"]


def test_prometheus_operator_gets_the_same_rules() -> None:
    (rules,) = manifests("production").all("PrometheusRule")
    files = ("alerts.yml", "objectives.yml")
    groups = [yaml.safe_load((ROOT / "deploy/prometheus" / name).read_text())["groups"] for name in files]
    expected = [group for each in groups for group in each]
    assert [_folded(group["rules"]) for group in rules["spec"]["groups"]] == [
        _folded(each["rules"]) for each in expected
    ]


def test_what_lets_people_log_in_is_an_option(tmp_path: Path) -> None:
    made = with_identity(tmp_path)
    for name in ("crm-identity", "crm-identity-migrate"):
        environment = made.environment(made.pods()[name])
        assert set(environment) <= set(Settings.__struct_encode_fields__)
        assert ("MIGRATION_DATABASE_URL" in environment) == (name == "crm-identity-migrate")
        assert "//crm_login:" in environment["DATABASE_URL"]
        (container,) = made.pods()[name]["spec"]["containers"]
        assert container["image"].endswith(f":{version('crm-service')}")
        command = container.get("command") or container["args"]
        assert CliRunner().invoke(crm, [*command[1:], "--help"]).exit_code == 0
    # It has nothing that only the service needs.
    assert "ENCRYPTION_KEYS" not in environment
    labels = made.pods()["crm-identity"]["metadata"]["labels"]
    service = made.one("Service", "crm-identity")
    assert service["spec"]["selector"] == labels
    monitor = made.one("ServiceMonitor", "crm-identity")["spec"]
    assert monitor["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert made.one(kind, "crm-identity")["spec"][key]["matchLabels"] == labels
    (limited,) = made.one("NetworkPolicy", "crm-egress")["spec"]["podSelector"]["matchExpressions"]
    assert set(limited["values"]) == {pod["metadata"]["labels"]["app"] for pod in made.pods().values()}
    (rule,) = made.one("Ingress", "crm-service")["spec"]["rules"]
    its = [each["path"] for each in rule["http"]["paths"] if each["backend"]["service"]["name"] == "crm-identity"]
    assert its == ["/auth", "/admin/login"]


def _folded(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Kustomize breaks the lines of expressions elsewhere."""
    return [rule | {"expr": " ".join(rule["expr"].split())} for rule in rules]
