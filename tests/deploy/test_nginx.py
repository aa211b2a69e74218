"""deploy/nginx: a real nginx with the configuration as it stands, before a running service."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from app.admin.assistant.socket import SILENT_SECONDS
from app.dev.servers import free_port
from app.dev.token import make_token
from app.events.streams import COMMENT_SECONDS
from app.settings import Settings
from app.web.limits import MAX_HEADER_BYTES, MAX_HEADERS_BYTES, STALLED_SECONDS
from tests.processes import Service, beside, wait_until
from tests.programs import program

CONFIGURATION = (Path(__file__).parents[2] / "deploy/nginx/crm.conf").read_text()
NAME = "crm.example.com"
# Another address of this machine than the one that nginx calls the service from.
CLIENT = "127.0.0.2"


class Proxy(NamedTuple):
    """A running nginx, and the service behind it."""

    service: Service
    settings: Settings
    port: int
    plain_port: int
    tls: ssl.SSLContext

    def call(self, method: str, path: str, token: str = "", **more: Any) -> httpx.Response:
        headers = more.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        transport = httpx.HTTPTransport(verify=self.tls, http2=False, local_address=CLIENT)
        with httpx.Client(transport=transport, timeout=20) as client:
            return client.request(method, f"https://localhost:{self.port}{path}", headers=headers, **more)

    def connect(self) -> ssl.SSLSocket:
        """A connection, for what no client would send."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=(CLIENT, 0))
        return self.tls.wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="module")
def proxy(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    nginx = program("nginx", package="nginx-light")
    folder = tmp_path_factory.mktemp("nginx")
    certificate = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "privkey.pem"]
    command = [program("openssl", package="openssl"), "req", "-x509", *key, "-out", "fullchain.pem", *certificate]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    own = {"JWT_SECRET": settings.jwt_secret, "TRUSTED_PROXIES": "127.0.0.1/32", "UPKEEP_SECONDS": "0.1"}
    service = Service(folder / "crm", **beside(settings) | own)
    port, plain_port = free_port(), free_port()
    # Only what differs on this machine: ports, the certificate, the name, and where it writes.
    text = re.sub(r"^ *listen \[.*\n", "", CONFIGURATION, flags=re.MULTILINE)
    for written, here in {
        "listen 80;": f"listen 127.0.0.1:{plain_port};",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "server 127.0.0.1:3000;": f"server {service.url.removeprefix('http://')};",
        f"/etc/letsencrypt/live/{NAME}": str(folder),
        "/var/log/nginx": str(folder),
        NAME: "localhost",
    }.items():
        assert written in text
        text = text.replace(written, here)
    (folder / "crm.conf").write_text(text)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;"
        f"{'user root;' if os.geteuid() == 0 else ''} events {{ worker_connections 256; }} http {{"
        f"access_log {folder}/access.log; client_body_temp_path {folder}/bodies; proxy_temp_path {folder}/answers;"
        f" include {folder}/crm.conf; }}"
    )
    running = subprocess.Popen([nginx, "-c", f"{folder}/nginx.conf", "-p", folder, "-e", f"{folder}/error.log"])

    def answers() -> bool:
        assert running.poll() is None, (folder / "error.log").read_text()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        return False

    try:
        wait_until(answers, "nginx listens")
        tls = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
        yield Proxy(service, settings, port, plain_port, tls)
    finally:
        running.terminate()
        running.wait(20)
        service.stop()


@pytest.fixture
def token(settings: Settings, tenant: str) -> str:
    return make_token(settings, role="admin", tenant=tenant)


def sent(proxy: Proxy, request: bytes) -> httpx.Response:
    """The answer to what no client would send."""
    with proxy.connect() as connection:
        connection.sendall(request)
        answer = b""
        while more := connection.recv(4096):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


def error(answer: httpx.Response) -> tuple[int, str]:
    """Its status and code, in the form that all errors have."""
    assert set(answer.json()) >= {"code", "message"}
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-ID"]
    return answer.status_code, answer.json()["code"]


def test_the_service_learns_the_clients_own_address_whatever_the_client_says(proxy: Proxy, token: str) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
    made = proxy.call("POST", "/admin/customers", token, json={"name": "Ada"}, headers=forged)
    assert made.status_code == 201, made.text
    # It knows that the client came by TLS.
    assert made.headers["Strict-Transport-Security"]
    (entry,) = proxy.call("GET", "/admin/audit", token, params={"resource_type": "customer"}).json()["data"]
    assert entry["ip_address"] == CLIENT


def test_what_is_not_encrypted_is_sent_to_where_it_is(proxy: Proxy) -> None:
    answer = httpx.post(f"http://127.0.0.1:{proxy.plain_port}/admin/customers?a=1", headers={"Host": NAME})
    assert (answer.status_code, answer.headers["Location"]) == (308, f"https://{NAME}/admin/customers?a=1")


def test_only_addresses_for_clients_are_reached(proxy: Proxy) -> None:
    assert proxy.call("GET", "/admin/me").json()["code"] == "MISSING_TOKEN"
    for path in ("/metrics", "/health", "/ready", "/docs", "/"):
        assert error(proxy.call("GET", path)) == (404, "NOT_FOUND")


def test_an_event_arrives_when_it_happens(proxy: Proxy, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    with (
        httpx.Client(verify=proxy.tls, timeout=20) as client,
        client.stream("GET", f"https://localhost:{proxy.port}/admin/events/stream", headers=headers) as stream,
    ):
        assert stream.status_code == 200
        assert proxy.call("POST", "/admin/customers", token, json={"name": "Ada"}).status_code == 201
        assert any(line == "event: customer.created" for line in stream.iter_lines())


def test_a_websocket_passes_through(proxy: Proxy, token: str) -> None:
    with proxy.connect() as connection:
        connection.sendall(
            b"GET /admin/assistant/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        message = json.dumps({"type": "auth", "token": token}).encode()
        # A text of less than 64 KiB, with a mask that changes nothing.
        connection.sendall(b"\x81\xfe" + len(message).to_bytes(2, "big") + bytes(4) + message)
        told = b""
        while b"ready" not in told:
            told += (more := connection.recv(1000))
            assert more, told
        assert told.startswith(b"HTTP/1.1 101 ")


def test_an_upload_by_nobody_is_refused_before_it_has_arrived(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        connection.sendall(
            b"POST /admin/customers/1/attachments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
            b"Content-Type: multipart/form-data; boundary=a\r\n\r\n--a"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")


def test_what_nginx_refuses_looks_as_the_services_own_errors(proxy: Proxy, token: str) -> None:
    head = {"X-Long": "a" * (MAX_HEADER_BYTES + 1000)}
    assert error(proxy.call("GET", "/admin/me", token, headers=head)) == (431, "REQUEST_HEADER_FIELDS_TOO_LARGE")
    with proxy.connect() as connection:
        connection.sendall(b"POST /admin/imports HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000000\r\n\r\n")
        answer = connection.recv(2000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize(
    "line",
    [
        b"GET /% HTTP/1.1",
        b"GET /admin/customers/%zz HTTP/1.1",
        b"GET /../x HTTP/1.1",
        b"GET",
        b"GET /admin/me HTTP/3.0",
        b"GET /admin/me HTTP/1.1\r\nTransfer-Encoding: other",
    ],
)
def test_a_request_that_nginx_cannot_read_is_refused_in_the_form_of_all_errors(proxy: Proxy, line: bytes) -> None:
    refused = sent(proxy, line + b"\r\nHost: localhost\r\n\r\n")
    assert error(refused) == (400, "INVALID_REQUEST")


def test_a_method_that_nginx_refuses_is_refused_in_the_form_of_all_errors(proxy: Proxy) -> None:
    refused = sent(proxy, b"TRACE /admin/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert error(refused) == (405, "METHOD_NOT_ALLOWED")


def test_an_address_that_is_too_long_is_refused_as_headers_are(proxy: Proxy) -> None:
    line = b"GET /admin/me?" + b"a" * 17_000 + b" HTTP/1.1"
    refused = sent(proxy, line + b"\r\nHost: localhost\r\n\r\n")
    assert error(refused) == (431, "REQUEST_HEADER_FIELDS_TOO_LARGE")


def test_who_forgets_tls_is_told_so_in_the_form_of_all_errors(proxy: Proxy) -> None:
    assert error(httpx.get(f"http://127.0.0.1:{proxy.port}/admin/me")) == (400, "INVALID_REQUEST")


def test_no_log_has_the_secret_of_an_address_whoever_answers(proxy: Proxy) -> None:
    end = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for path in (b"/public/calendars/hush.ics", b"/public/hush%zz", b"/public/hush" + 17_000 * b"x"):
        assert sent(proxy, b"GET " + path + end).is_client_error
    assert sent(proxy, b"GET /admin/seen" + end).is_client_error
    log = proxy.service.data_dir.parent / "access.log"
    wait_until(lambda: "/admin/seen" in log.read_text(), "the log's last line")
    assert "hush" not in log.read_text()


def test_nginxs_own_addresses_are_for_nobody_else(proxy: Proxy) -> None:
    for path in ("/.nginx/invalid", "/.nginx/head"):
        assert error(proxy.call("GET", path)) == (404, "NOT_FOUND")


def test_its_limits_fit_those_of_the_service() -> None:
    def seconds(name: str, *, last: bool = True) -> float:
        found = re.findall(rf"^ *{name} (\d+)s;", CONFIGURATION, re.MULTILINE)
        return float(found[-1] if last else found[0])

    defaults = Settings()
    assert seconds("client_header_timeout") == defaults.idle_seconds
    assert seconds("client_body_timeout") == seconds("send_timeout") == STALLED_SECONDS
    assert seconds("keepalive_timeout", last=False) < defaults.idle_seconds, "that of the upstream"
    assert seconds("proxy_read_timeout") > 2 * max(COMMENT_SECONDS, SILENT_SECONDS)
    assert int(re.findall(r"client_max_body_size (\d+)m", CONFIGURATION)[0]) * 1024**2 > defaults.import_max_bytes
    ((count, size),) = re.findall(r"large_client_header_buffers (\d+) (\d+)k", CONFIGURATION)
    assert (int(count) * int(size) * 1024, int(size) * 1024) == (MAX_HEADERS_BYTES, MAX_HEADER_BYTES)


# The last one: it stops the service.
def test_when_the_service_is_away_clients_are_told_so(proxy: Proxy, token: str) -> None:
    proxy.service.stop()
    answer = proxy.call("GET", "/admin/me", token)
    assert error(answer) == (503, "SERVICE_UNAVAILABLE")
    assert answer.headers["Retry-After"]
