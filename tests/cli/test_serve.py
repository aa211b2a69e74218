"""`crm serve` and its neighbours, as real processes on a database of their own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest

from app.db.revisions import revisions
from app.dev.postgres import TEMPLATE, EmbeddedPostgres
from tests.processes import CRM, ENVIRONMENT, Service, crm, crm_here, fetch, wait_until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    # It makes its server and runs the migrations by itself, as for a developer.
    service = Service(tmp_path_factory.mktemp("serve") / "data", "--demo", "--workers", "2", **{TEMPLATE: ""})
    yield service
    if service.process.poll() is None:
        service.stop()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose servers each test starts and stops again; they are made and migrated once."""
    return tmp_path_factory.mktemp("home") / "data"


def test_it_says_how_to_try_it_and_that_works(service: Service) -> None:
    assert f"The CRM is at {service.url}, its API reference at {service.url}/docs" in service.said
    (command,) = [line for line in service.said if line.startswith("curl ")]
    # The token stands alone too, to be copied into the API reference.
    assert [line for line in service.said if line and f"Bearer {line}" in command]
    shown = subprocess.run(shlex.split(command.replace("curl", "curl -s", 1)), capture_output=True, check=True)
    assert json.loads(shown.stdout)["total"] > 3


def test_the_people_it_shows_log_in_and_own_records(service: Service) -> None:
    (where,) = [line.split("POST ")[1].split(",")[0] for line in service.said if line.startswith("Log in by POST ")]
    people = dict(
        line.split() for line in service.said if line.endswith(line.split("@example.com  ")[-1]) and "@" in line
    )
    assert set(people) == {"admin@example.com", "manager@example.com", "agent@example.com"}
    for email, password in people.items():
        token = httpx.post(where, json={"email": email, "password": password}).json()["token"]
        assert service.call("GET", "/admin/deals?owner_id=me", token).json()["total"]


def test_the_whole_story_of_a_customer_with_a_token_of_the_cms(service: Service) -> None:
    token = service.token("admin")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert "tenant_id" not in claims
    assert claims["aud"] == ["platform-console"]
    created = service.call("POST", "/admin/customers", token, json={"name": "Wilhelmina Quux"})
    path = f"/admin/customers/{created.json()['id']}"
    assert service.call("GET", path, token).json()["name"] == "Wilhelmina Quux"
    assert service.call("GET", "/admin/customers?search=mina%20q", token).json()["total"] == 1
    assert service.call("PATCH", path, token, json={"status": "active"}).json()["version"] == 2
    newest = service.call("GET", "/admin/audit", token).json()["data"][0]
    assert newest["changes"] == {"status": {"old": "lead", "new": "active"}}
    assert service.call("DELETE", path, token).status_code == 200
    assert service.call("GET", "/admin/customers?deleted=only", token).json()["data"][0]["name"] == "Wilhelmina Quux"
    assert service.call("POST", f"{path}/restore", token).status_code == 200
    assert service.call("GET", path, service.token("admin", "--tenant", "other")).status_code == 404


@pytest.mark.parametrize("role", ["admin", "manager", "agent"])
def test_whoever_logs_in_is_one_of_the_demos_people_and_has_work_to_do(service: Service, role: str) -> None:
    token = service.token(role)
    me = service.call("GET", "/admin/me", token).json()["user"]
    people = service.call("GET", "/admin/users", token).json()["data"]
    assert [(p["id"], p["name"]) for p in people if p["email"] == me["email"]] == [(me["id"], me["name"])]
    assert [p["email"] for p in people] == ["admin@example.com", "agent@example.com", "manager@example.com"]
    today = datetime.now(UTC).date().isoformat()
    mine = service.call("GET", "/admin/me/activities?page_size=100", token).json()["data"]
    assert any(entry["due_date"].startswith(today) for entry in mine)
    for kind, owner in (("customers", "assigned_to"), ("deals", "owner_id")):
        assert service.call("GET", f"/admin/{kind}?{owner}=me", token).json()["total"]


@pytest.mark.slow
def test_nothing_in_the_demo_happens_before_it_can(service: Service) -> None:
    token = service.token("admin")
    customers = service.call("GET", "/admin/customers?page_size=100", token).json()["data"]
    assert {bool(customer["next_follow_up_at"]) for customer in customers} == {True, False}
    for customer in customers:
        path = f"/admin/customers/{customer['id']}/timeline?page_size=100"
        told = service.call("GET", path, token).json()["data"][::-1]
        assert told[0]["type"] == "created", customer["name"]
        begun = {event["data"]["id"]: event["at"] for event in told if event["type"] == "deal_created"}
        for event in told:
            if event["type"] == "activity" and event["data"]["deal_id"]:
                assert event["at"] > begun[event["data"]["deal_id"]]
            if event["type"] == "activity" and event["data"]["completed_at"]:
                assert event["at"] < event["data"]["completed_at"]


def test_metrics_of_two_workers_are_the_clients_own_count(service: Service) -> None:
    for number in range(40):
        fetch(f"{service.url}/admin/me" if number % 2 else f"{service.url}/nowhere/{number}")
    page = fetch(f"{service.url}/metrics").text
    assert 'crm_http_requests_total{endpoint="/admin/me",method="GET",status="401"} 20.0' in page
    assert 'crm_http_requests_total{endpoint="unknown",method="GET",status="404"} 20.0' in page
    assert page.count("process_resident_memory_bytes{pid=") == 2
    assert "crm_db_pool_max_connections 40.0" in page


def test_every_line_of_the_log_is_json_with_the_request_and_no_secret(service: Service) -> None:
    token = service.token("agent", "--user-id", "77", "--tenant", "acme")
    answer = service.call("GET", "/admin/customers?search=canary-of-a-query", token)
    refused = service.call("POST", "/admin/customers", token, json={"name": "canary of a body", "x": 1})
    wait_until(lambda: refused.headers["X-Request-ID"] in service.log.read_text(), "the line of the last request")
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == answer.headers["X-Request-ID"]]
    assert {name: line[name] for name in ("event", "method", "route", "status", "user", "tenant", "client")} == {
        "event": "request",
        "method": "GET",
        "route": "/admin/customers",
        "status": 200,
        "user": "77",
        "tenant": "acme",
        "client": "127.0.0.1",
    }
    assert line["duration_ms"] > 0
    text = service.log.read_text()
    assert token not in text
    assert "canary" not in text


def test_who_hangs_up_waits_no_longer(service: Service) -> None:
    """Else a client that comes and goes would soon have as many open requests as a person may have."""
    lines = [
        "GET /admin/events?after=0&wait=30 HTTP/1.1",
        "Host: crm",
        f"Authorization: Bearer {service.token('admin')}",
    ]
    with socket.create_connection(("127.0.0.1", httpx.URL(service.url).port)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        time.sleep(0.5)
    ended = 'crm_http_requests_total{endpoint="/admin/events"'
    wait_until(lambda: ended in fetch(f"{service.url}/metrics").text, "the end of its request", at_most=5)


def test_health_ready_and_live(service: Service) -> None:
    health = fetch(f"{service.url}/health")
    assert health.status_code == 200
    assert health.json()["status"] == "healthy"
    assert health.json()["checks"] == {"database": "ok"}
    assert fetch(f"{service.url}/ready").json() == {"status": "ready"}
    assert fetch(f"{service.url}/live").status_code == 200


def test_the_web_server_keeps_its_name_to_itself(service: Service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    for request in (b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /nowhere HTTP/1.0\r\n\r\n", b"nonsense\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(request)
            answer = connection.recv(4096).lower()
        assert answer.startswith(b"http/1.")
        assert b"granian" not in answer


@pytest.mark.slow
def test_a_database_that_dies_is_started_again(service: Service) -> None:
    token = service.token("admin")
    before = service.call("GET", "/admin/customers", token).json()["total"]
    pid = service.postgres_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    def answers() -> bool:
        answer = service.call("GET", "/admin/customers", token)
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]
            return False
        assert answer.json()["total"] == before
        return True

    wait_until(answers, "a database again")
    assert service.postgres_pid != pid
    # What the service does by itself goes on as well.
    tag = service.call("POST", "/admin/tags", token, json={"name": "After the storm"}).json()
    wait_until(lambda: newest_entry(service, token)["sequence"], "the newest entry sealed")
    assert newest_entry(service, token)["resource_id"] == tag["id"]


def newest_entry(service: Service, token: str) -> Any:
    return service.call("GET", "/admin/audit?page_size=1", token).json()["data"][0]


@pytest.mark.slow
def test_a_second_service_shares_the_database_and_does_not_stop_it(service: Service) -> None:
    second = Service(service.data_dir)
    assert second.call("GET", "/admin/customers", second.token("admin")).status_code == 200
    second.stop()
    assert fetch(f"{service.url}/ready").status_code == 200


@pytest.mark.slow
def test_workers_share_what_was_loaded_for_them_and_each_has_its_own_metrics(service: Service) -> None:
    second = Service(service.data_dir, "--workers", "2")
    try:
        first, killed = second.workers
        assert b"spawn_main" not in Path(f"/proc/{first}/cmdline").read_bytes()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in second.workers and len(second.workers) == 2, "another worker in its place")
        assert first in second.workers

        def has_metrics() -> bool:
            page = fetch(f"{second.url}/metrics").text
            serving = re.findall(r'process_resident_memory_bytes{pid="(\d+)"}', page)
            return {int(pid) for pid in serving} == {*second.workers} and "crm_ready 1.0" in page

        wait_until(has_metrics, "metrics of both, and of nothing else")
    finally:
        assert second.stop(signal.SIGTERM) == 0


def test_a_worker_ends_by_a_signal_as_soon_as_it_is_forked_and_not_by_its_parents_ctrl_c() -> None:
    program = """
import multiprocessing, os, signal
from app.cli.serve import let_signals_end_what_is_forked

def work():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
let_signals_end_what_is_forked()
worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
worker.join()
print(worker.exitcode, len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(-signal.SIGTERM), "0"]


def test_a_port_that_is_taken_is_said(service: Service) -> None:
    port = service.url.rsplit(":", 1)[1]
    taken = crm("serve", "--port", port, "--data-dir", str(service.data_dir))
    assert taken.returncode == 1
    assert f"Can't listen on 127.0.0.1:{port}" in taken.stderr
    assert "Traceback" not in taken.stderr


@pytest.mark.slow
def test_sigterm_says_not_ready_first_and_finishes_what_runs(home: Path) -> None:
    service = Service(home, DRAIN_SECONDS="2", RATE_LIMIT_PER_MINUTE="0")
    token = service.token("admin")
    statuses: list[int] = []
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {token}"}) as client:
            while not stop.is_set():
                statuses.append(client.post("/admin/customers", json={"name": "Under load"}).status_code)

    with ThreadPoolExecutor(5) as pool:
        workers = [pool.submit(load) for _ in range(4)]
        wait_until(lambda: len(statuses) > 20, "a load")
        waiting = pool.submit(service.call, "GET", f"/admin/events?after={2**60}&wait=30", token)
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: fetch(f"{service.url}/ready").status_code == 503, "not ready")
        assert waiting.result(2).json()["data"] == []
        stop.set()
        for worker in workers:
            worker.result()
    assert service.stop(signal.SIGTERM) == 0
    assert set(statuses) == {201}
    assert service.postgres_pid is None


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_behind(home: Path) -> None:
    service = Service(home, "--workers", "2")
    token = service.token("admin")
    group = os.getpgid(service.process.pid)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(service.call, "GET", f"/admin/events?after={2**60}&wait=30", token)
        time.sleep(0.5)
        os.killpg(group, signal.SIGINT)  # as a terminal does
        assert waiting.result(5).json()["data"] == []
    service.process.wait(30)
    service.stop()
    assert service.postgres_pid is None
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(home) not in left


@pytest.mark.slow
def test_killed_it_takes_its_workers_along_and_the_next_one_goes_on(home: Path) -> None:
    service = Service(home)
    token = service.token("admin")
    created = service.call("POST", "/admin/customers", token, json={"name": "Survivor"}).json()
    service.stop(signal.SIGKILL)

    def gone() -> bool:
        try:
            fetch(f"{service.url}/live", timeout=1)
        except httpx.TransportError:
            return True
        return False

    wait_until(gone, "the worker, which outlives its parent, gone")
    again = Service(home)
    assert again.call("GET", f"/admin/customers/{created['id']}", token).status_code == 200
    again.stop()
    assert again.postgres_pid is None


def test_in_production_it_wants_a_database_and_a_secret_and_makes_no_tokens(tmp_path: Path) -> None:
    for arguments in (["serve"], ["token", "--role", "admin"]):
        refused = crm_here(*arguments, ENVIRONMENT="production", CRM_DATA_DIR=str(tmp_path))
        assert refused.exit_code == 1
        assert refused.stderr.startswith("Error: JWT_SECRET: ")
        assert refused.stderr.count("\n") == 1
    production = {
        "ENVIRONMENT": "production",
        "JWT_SECRET": "s" * 32,
        "DATABASE_URL": "postgresql://crm@localhost:1/crm",
    }
    assert "only the CMS, or crm identity, issues tokens" in crm_here("token", "--role", "admin", **production).stderr
    assert "not for production" in crm_here("seed", "--customers", "1", **production).stderr


@pytest.mark.slow
@pytest.mark.usefixtures("bare_servers")
def test_migrations_go_up_down_and_up_and_agree_with_the_models(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path / "data"))
    assert crm_here("db", "current", *where).stdout == "base\n"
    assert f"is at revision {revisions()[0]}" in crm_here("db", "upgrade", *where).stdout
    assert "agree" in crm_here("db", "check", *where).stdout
    assert "base" in crm_here("db", "downgrade", "base", *where).stdout
    assert f"is at revision {revisions()[0]}" in crm_here("db", "upgrade", *where).stdout


@pytest.mark.slow
@pytest.mark.usefixtures("bare_servers")
def test_many_replicas_may_migrate_at_once(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "data") as server:
        urls = {"DATABASE_URL": server.dsn(), "MIGRATION_DATABASE_URL": server.dsn(user="crm_owner")}
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda _: crm("db", "upgrade", **urls), range(3)))
    assert [each.returncode for each in done] == [0] * 3, [each.stderr for each in done]


@pytest.mark.slow
@pytest.mark.usefixtures("bare_servers")
def test_before_the_migrations_it_is_not_ready_and_refuses_politely(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "db") as server:
        data_dir = tmp_path / "data"
        token = crm_here("token", "--role", "admin", "--data-dir", str(data_dir)).stdout.strip()
        started = subprocess.Popen(
            [CRM, "serve", "--port", "0"],
            env=ENVIRONMENT | {"DATABASE_URL": server.dsn(), "CRM_DATA_DIR": str(data_dir), "DRAIN_SECONDS": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert started.stdout is not None
        url = started.stdout.readline().strip().removeprefix("ready ")
        try:
            assert fetch(f"{url}/ready").status_code == 503
            assert fetch(f"{url}/health").status_code == 200
            answer = fetch(f"{url}/admin/me", headers={"Authorization": f"Bearer {token}"})
            assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        finally:
            started.send_signal(signal.SIGTERM)
            _, errors = started.communicate(timeout=30)
        assert "run crm db upgrade" in errors


@pytest.mark.slow
def test_seeding_twice_with_one_number_makes_the_same_people(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path / "data"))
    for tenant in ("one", "two"):
        seeded = crm_here("seed", "--customers", "200", "--tenant", tenant, "--seed", "7", *where)
        assert seeded.exit_code == 0, seeded.stderr
    with EmbeddedPostgres(tmp_path / "data") as server, psycopg.connect(server.dsn(user="postgres")) as connection:
        people = "SELECT name, email, status, assigned_to, created_at FROM customers WHERE tenant_id = %s ORDER BY 2, 1"
        one, two = (connection.execute(people, [tenant]).fetchall() for tenant in ("one", "two"))
        assert len(one) == 200
        for table in ("customers", "contacts", "deals", "activities", "notes", "customer_tags", "audit_entries"):
            kept = "SELECT sum(rows) FROM record_counts WHERE tenant_id = 'one' AND counted = %s"
            live = "" if table in {"customer_tags", "audit_entries"} else " AND deleted_at IS NULL"
            there = connection.execute(f"SELECT count(*) FROM {table} WHERE tenant_id = 'one'{live}").fetchone()
            assert connection.execute(kept, [table]).fetchone() == there, table
        users: dict[str, str] = dict(
            connection.execute("SELECT id, name FROM users WHERE tenant_id = 'one'").fetchall()
        )
        assert {row[3] for row in one} <= {None, *users}
        assert all(users.values())
        named = "SELECT DISTINCT author_id, author_name FROM notes WHERE tenant_id = 'one'"
        assert set(connection.execute(named)) <= set(users.items())
        assert one == two
        assert len({row[2] for row in one}) == 5


COMMANDS = """
    serve, db, db upgrade, audit, audit seal, audit checkpoint, audit verify, attachments, attachments sweep,
    attachments purge, erase, erase receipts, erase replay, token, seed, openapi, identity serve, identity user add
""".split(",")


@pytest.mark.parametrize("command", ["", *map(str.strip, COMMANDS)])
def test_help_has_an_example(command: str) -> None:
    shown = crm_here(*command.split(), "--help")
    assert shown.exit_code == 0
    assert command in {"db", "audit", "attachments", "erase"} or "Example" in shown.output
