"""`crm serve`: embedded servers if none are configured, the workers, and a graceful stop."""

from __future__ import annotations

import http.client
import multiprocessing
import os
import resource
import shlex
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.server import Server

from app.cli.environment import Environment, data_dir_option, environment
from app.db.revisions import is_current
from app.db.startup import UnsafeRoleError, check_role, tell_missing_migrations
from app.logs import configure_logging, log_config
from app.settings import DRAIN_FILE, Settings

if TYPE_CHECKING:
    from app.dev.identity import Logins

START_SECONDS = 60
WORKER_STOP_SECONDS = 25
STOPS = {signal.SIGTERM, signal.SIGINT}
# Of each worker. An idle connection costs a few kilobytes. Further ones, also of probes, wait in the backlog.
MAX_CONNECTIONS = 16_384
BACKLOG = 4096
# Other open files of a worker: connections to the database and the store, temporary files, logs.
OTHER_FILES = 512
DEMO_TOKEN_SECONDS = 30 * 86400


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="0 picks a free one.  [default: SERVER_PORT, 3000]")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for every address of the machine.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="One for each core, at most.")
@click.option(
    "--migrate", is_flag=True, help="Upgrade the configured database first. The embedded one is always upgraded."
)
@click.option("--demo", is_flag=True, help="Put demo data into an empty embedded database, and print how to use it.")
@data_dir_option
def serve(port: int | None, host: str, workers: int, migrate: bool, demo: bool, data_dir: Path | None) -> None:
    """Serve the CRM.

    Without DATABASE_URL or DB_HOST, and outside production, it starts a PostgreSQL of its own in .crm/ and keeps it
    running; without S3_BUCKET, an object store. It prints `ready http://HOST:PORT` once it accepts requests.

    \b
    Examples:
      crm serve
      crm serve --port 0 --data-dir /tmp/crm
      ENVIRONMENT=production DATABASE_URL=postgresql://crm@db/crm JWT_SECRET=... crm serve --host 0.0.0.0 --workers 4
    """
    # This handler stops the embedded servers too, until the web server installs its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with environment(data_dir, with_store=True) as env, tempfile.TemporaryDirectory(prefix="crm-run-") as run_dir:
        settings = env.settings
        prepare(settings)
        listening_port = free_port(host, settings.server_port if port is None else port)
        try:
            upgrade = migrate or (env.has_embedded_database and not is_current(settings.database_dsn))
            if upgrade:
                _upgrade(settings)
            check_role(settings.database_dsn, production=settings.production)
        except UnsafeRoleError as error:
            raise click.ClickException(str(error)) from None
        tell_missing_migrations(settings.database_dsn)
        has_demo = demo and _has_demo(settings)
        if env.has_embedded_database and demo:
            _create_demo(settings)
        # The workers' links say it, where PUBLIC_URL says nothing.
        os.environ["SERVER_PORT"] = str(listening_port)
        with _logins(env, host, listening_port) if has_demo else nullcontext() as logins:
            greet = partial(_greeting, settings, logins) if has_demo else None
            share = not (upgrade or demo)
            run_server(env, "serve_app", host, listening_port, workers, Path(run_dir), greet, share=share)


def prepare(settings: Settings) -> None:
    """Check what tracing, the message broker and Redis need, and begin to log."""
    if settings.otel_exporter_otlp_endpoint and find_spec("opentelemetry.sdk") is None:
        raise click.ClickException(
            "OTEL_EXPORTER_OTLP_ENDPOINT: sending traces needs more packages, run uv sync --extra tracing"
        )
    if settings.amqp_url and find_spec("aio_pika") is None:
        raise click.ClickException("AMQP_URL: publishing events needs more packages, run uv sync --extra broker")
    if settings.redis_url and find_spec("redis") is None:
        raise click.ClickException("REDIS_URL: sharing through Redis needs more packages, run uv sync --extra redis")
    configure_logging(settings.log_level, settings.log_format)


def _has_demo(settings: Settings) -> bool:
    """Whether a token of the demo's admin can be shown: not in production, nor in an image that is made for it."""
    return not settings.production and find_spec("app.dev") is not None


def _upgrade(settings: Settings) -> None:
    # Inside the function, because the tools for migrations take longer to load than the rest of the start.
    from app.db.migrations import MigrationError, Migrations

    try:
        Migrations(settings.migration_dsn, settings.database_dsn).upgrade()
    except MigrationError as error:
        raise click.ClickException(str(error)) from None


def _create_demo(settings: Settings) -> None:
    # Inside the function, because a production image does not contain it.
    from app.dev.demo import create_demo

    create_demo(settings)


@contextmanager
def _logins(env: Environment, host: str, port: int) -> Iterator[Logins | None]:
    """Let the demo's people log in, on the next port, if that is free and its libraries are installed."""
    if not env.has_embedded_database or find_spec("argon2") is None:
        yield None
        return
    # Inside the function, because a production image does not contain it.
    from app.dev.identity import logins_beside

    try:
        beside = free_port(host, port + 1)
    except click.ClickException:
        beside = 0
    with logins_beside(env.settings, host, beside) as logins:
        yield logins


def _greeting(settings: Settings, logins: Logins | None, base: str) -> str:
    """How to use the demo, at this address."""
    # Inside the function, because a production image does not contain it.
    from app.dev.token import make_token

    token = make_token(settings, role="admin", ttl=DEMO_TOKEN_SECONDS)
    curl = shlex.join(["curl", "-H", f"Authorization: Bearer {token}", f"{base}/admin/customers"])
    people = "\n".join(logins.lines()) if logins else ""
    return (
        f"\nThe CRM is at {base}, its API reference at {base}/docs\n{people}\n"
        f'A token, for the field behind "Authorize" in the API reference:\n\n{token}\n'
        f"\nOr in a terminal:\n\n{curl}\n"
    )


def free_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Fails if it is taken: workers share a port, so a second service could start."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise click.ClickException(
                f"Can't listen on {host}:{port} ({error.strerror}): choose another port with --port"
            ) from None
        return int(probe.getsockname()[1])


def run_server(
    env: Environment,
    app: str,
    host: str,
    port: int,
    workers: int,
    run_dir: Path,
    greet: Callable[[str], str] | None = None,
    *,
    share: bool,
) -> None:
    """Serve a function of app/worker.py in worker processes, until a signal stops them. `greet` says how to use it.

    If they `share` what this process loads for them, they are forked from it. What it has worked with before would stay
    in each of them, such as the tools for migrations, and metrics that are its own.
    """
    settings = env.settings
    metrics_dir = run_dir / "metrics"
    metrics_dir.mkdir()
    drain_file = run_dir / "draining"
    os.environ |= {
        "DATABASE_URL": settings.database_dsn,
        "CRM_DATA_DIR": settings.crm_data_dir,
        **{name.upper(): getattr(settings, name) for name in settings.__struct_fields__ if name.startswith("s3_")},
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir),
        DRAIN_FILE: str(drain_file),
    }
    # Elsewhere, libraries of the system do not survive a fork.
    if share := share and sys.platform == "linux":
        # Inside the function, because who does not share it need not load it.
        from app.worker import load

        load(app)
        # This process serves nothing: its figures, which are nought, would be taken for a worker's.
        for figures in metrics_dir.iterdir():
            figures.unlink()
        let_signals_end_what_is_forked()
    multiprocessing.set_start_method("fork" if share else "spawn", force=True)
    server = Server(
        f"app.worker:{app}",
        factory=True,
        address=host,
        port=port,
        workers=workers,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        websockets=True,
        # The header timeout does not apply while the server detects the protocol, so it must not have to.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=settings.idle_seconds * 1000),
        backlog=BACKLOG,
        backpressure=_connections(),
        respawn_failed_workers=True,
        workers_kill_timeout=WORKER_STOP_SECONDS,
        log_dictconfig=log_config(settings.log_level, settings.log_format),
    )

    def stop_after(seconds: float) -> Callable[[int, FrameType | None], None]:
        def stop(_signal: int, _frame: FrameType | None) -> None:
            drain_file.touch()  # /ready fails, and who waits for an event waits no longer
            threading.Timer(seconds, server.signal_handler_interrupt).start()

        return stop

    def announce() -> None:
        # A process that is forked meanwhile would wait for ever for a lock that this thread holds; it holds none here.
        while len(server.wrks) < workers:
            time.sleep(0.005)
        _announce(host, port, greet)

    # Load balancers see /ready fail before the service stops accepting connections; Ctrl-C does not wait.
    server.on_startup(lambda: signal.signal(signal.SIGTERM, stop_after(settings.drain_seconds)))
    server.on_startup(lambda: signal.signal(signal.SIGINT, stop_after(0)))
    server.on_startup(lambda: threading.Thread(target=announce, daemon=True).start())
    for embedded in env.servers:
        embedded.watch()
    server.serve()


def let_signals_end_what_is_forked() -> None:
    """A forked worker would handle signals as this process does, and would not end, until the web server has installed
    its own handlers. While one is forked, signals wait.
    """

    def wait() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def be_ended() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for its parent, which ends it
        go_on()

    os.register_at_fork(before=wait, after_in_parent=go_on, after_in_child=be_ended)


def _connections() -> int:
    """How many connections a worker may have: each one is an open file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # the limit may not be raised
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files < 0 else max(256, min(MAX_CONNECTIONS, files - OTHER_FILES))


def _announce(host: str, port: int, greet: Callable[[str], str] | None) -> None:
    address = f"[{host}]" if ":" in host else host
    until = time.monotonic() + START_SECONDS
    while not _alive(host, port):
        if time.monotonic() > until:
            return
        time.sleep(0.02)
    base = f"http://{address}:{port}"
    if greet is not None:
        click.echo(greet(base))
    click.echo(f"ready {base}")


def _alive(host: str, port: int) -> bool:
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- only compared, not bound
    connection = http.client.HTTPConnection(target, port, timeout=2)
    try:
        connection.request("GET", "/live")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
