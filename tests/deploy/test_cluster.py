"""deploy/kubernetes as a real API server takes it, which `make cluster` builds.

It has no nodes and no controllers, so that nothing runs. Of the kinds of Prometheus' operator it knows the
names alone.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.dev.servers import free_port
from tests.deploy.test_kubernetes import OVERLAYS, Manifests, manifests, with_identity
from tests.processes import wait_until
from tests.programs import program

PROGRAMS = os.environ.get("CRM_CLUSTER", "")
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="make cluster does this")
TOKEN = "of-an-administrator"
# Of Prometheus' operator.
GROUP = "monitoring.coreos.com"
OPERATOR = ("ServiceMonitor", "PodMonitor", "Probe", "PrometheusRule")


class Cluster:
    """A running API server."""

    def __init__(self, url: str) -> None:
        self._command = [program("kubectl", package="kubernetes-client"), "--kubeconfig=/dev/null", f"--server={url}"]
        self._command += ["--insecure-skip-tls-verify", f"--token={TOKEN}"]

    def kubectl(self, *arguments: str, given: Any = None) -> subprocess.CompletedProcess[str]:
        written = None if given is None else json.dumps(given)
        return subprocess.run(
            [*self._command, *arguments], input=written, capture_output=True, text=True, check=False, timeout=60
        )

    def ok(self, *arguments: str, given: Any = None) -> str:
        """What it says, where it has nothing to refuse and warns of nothing."""
        ran = self.kubectl(*arguments, given=given)
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout


class Installed:
    """What an overlay makes, in a namespace of its own."""

    def __init__(self, cluster: Cluster, namespace: str, given: Manifests) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.manifests = Manifests(copy.deepcopy(given.documents))
        self.objects = self.manifests.documents
        for each in self.objects:
            each["metadata"]["namespace"] = namespace
            if each["kind"] == "Secret":  # kustomize breaks its lines
                each["data"] = {name: value.replace("\n", "") for name, value in each["data"].items()}

    def ok(self, *arguments: str) -> str:
        return self.cluster.ok(*arguments, f"--namespace={self.namespace}")

    def apply(self, *more: str) -> None:
        """All of it at once. A field that the server does not know is refused."""
        self.cluster.ok(
            "apply", "--server-side", "--validate=strict", "--filename=-", *more, given=listed(self.objects)
        )

    def kept(self) -> list[dict[str, Any]]:
        """All objects, as the server has them now."""
        shown = self.cluster.ok("get", "--filename=-", "--output=json", given=listed(self.objects))
        kept: list[dict[str, Any]] = json.loads(shown)["items"]
        return kept


def listed(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    openssl = program("openssl", package="openssl")
    subprocess.run([openssl, "genrsa", "-out", "key.pem", "2048"], cwd=folder, check=True, capture_output=True)
    (folder / "tokens").write_text(f'{TOKEN},administrator,1,"system:masters"\n')
    port, clients, peers = free_port(), f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    etcd = [
        *(
            "--data-dir=etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
        ),
        *(
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        ),
    ]
    server = [
        *(f"--etcd-servers={clients}", "--bind-address=127.0.0.1", f"--secure-port={port}", "--cert-dir=certificates"),
        *("--authorization-mode=RBAC", "--token-auth-file=tokens", "--service-cluster-ip-range=10.0.0.0/24"),
        *("--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file=key.pem"),
        "--service-account-key-file=key.pem",
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        # The first one is etcd: its module is called so.
        for name, arguments in (("server", etcd), ("kube-apiserver", server)):
            with (folder / f"{name}.log").open("w") as log:
                command = [str(Path(PROGRAMS, name)), *arguments]
                running.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT))
        made = Cluster(f"https://127.0.0.1:{port}")
        wait_until(lambda: made.kubectl("get", "--raw=/readyz").returncode == 0, "the API server is ready")
        made.ok("create", "--filename=-", given=listed([*map(defined, OPERATOR)]))
        for kind in OPERATOR:
            made.ok("wait", "--for=condition=established", f"crd/{kind.lower()}s.{GROUP}", "--timeout=60s")
        yield made
    finally:
        for each in reversed(running):
            each.terminate()
            each.wait(60)


def defined(kind: str) -> dict[str, Any]:
    """A kind of Prometheus' operator, with whatever fields."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": f"{kind.lower()}s", "singular": kind.lower(), "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.lower()}s.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


@pytest.fixture(scope="module", params=[*OVERLAYS, "identity"])
def installed(cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An overlay, in a namespace where pods have the fewest rights."""
    namespace = f"crm-{request.param}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    about = {"name": namespace, "labels": labels}
    cluster.ok("create", "--filename=-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": about})
    # What a controller would make.
    cluster.ok("create", "serviceaccount", "default", f"--namespace={namespace}")
    identity = request.param == "identity"
    given = with_identity(tmp_path_factory.mktemp("identity")) if identity else manifests(request.param)
    made = Installed(cluster, namespace, given)
    made.apply("--dry-run=server")
    made.apply()
    return made


def without_what_was_added(kept: Any, given: Any) -> Any:
    """Of what the server keeps, what it was given; the rest are its defaults."""
    if isinstance(kept, dict) and isinstance(given, dict):
        return {name: without_what_was_added(kept[name], given[name]) for name in given if name in kept}
    if isinstance(kept, list) and isinstance(given, list) and len(kept) == len(given):
        return [without_what_was_added(*pair) for pair in zip(kept, given, strict=True)]
    return kept


def test_each_object_is_taken_without_a_warning_and_kept_as_it_was_given(installed: Installed) -> None:
    for given, kept in zip(installed.objects, installed.kept(), strict=True):
        assert without_what_was_added(kept, given) == given


def test_to_apply_it_once_more_changes_nothing(installed: Installed) -> None:
    before = installed.kept()
    installed.apply()
    after = installed.kept()
    # A claim of a volume is written again as it was.
    for each in (*before, *after):
        del each["metadata"]["resourceVersion"]
    assert after == before


def test_its_pods_are_let_in_where_they_may_do_the_least(installed: Installed) -> None:
    for name, template in installed.manifests.pods().items():
        about = template["metadata"] | {"name": name, "namespace": installed.namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": template["spec"]}
        installed.cluster.ok("create", "--filename=-", "--validate=strict", given=pod)
        unbound = copy.deepcopy(pod) | {"metadata": about | {"name": f"{name}-unbound"}}
        unbound["spec"]["containers"][0]["securityContext"] = {}
        refused = installed.cluster.kubectl("create", "--filename=-", "--dry-run=server", given=unbound)
        assert "violates PodSecurity" in refused.stderr


def test_a_release_needs_the_last_migrations_job_to_be_deleted(installed: Installed) -> None:
    job = copy.deepcopy(installed.manifests.one("Job", "crm-migrate"))
    job["spec"]["template"]["spec"]["containers"][0]["image"] += "-next"
    job["metadata"]["namespace"] = installed.namespace
    apply = ("apply", "--server-side", "--filename=-")
    assert "field is immutable" in installed.cluster.kubectl(*apply, given=job).stderr
    installed.ok("delete", "job", "crm-migrate")
    installed.cluster.ok(*apply, given=job)
