"""`crm worker`: a process that runs jobs."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import click

from app.cli.environment import data_dir_option, environment
from app.cli.serve import free_port, prepare, run_server
from app.db.startup import UnsafeRoleError, check_role, tell_missing_migrations

# After those of the service and of `crm identity`: all three may run on one machine.
PORT = 3002


@click.command()
@click.option(
    "--concurrency", type=click.IntRange(1, 100), help="Jobs at the same time.  [default: JOB_CONCURRENCY, 4]"
)
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 picks a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for every address of the machine.")
@data_dir_option
def worker(concurrency: int | None, port: int, host: str, data_dir: Path | None) -> None:
    """Run jobs, such as large bulk changes.

    In production this is a process of its own; elsewhere `crm serve` runs jobs too. Any number of workers take turns.
    It serves /live, /ready, /health and /metrics. Once it is told to stop, each job comes to the end of its step, and
    another worker goes on with it.

    \b
    Examples:
      crm worker
      ENVIRONMENT=production DATABASE_URL=postgresql://crm@db/crm JWT_SECRET=... crm worker --concurrency 8
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if concurrency is not None:
        os.environ["JOB_CONCURRENCY"] = str(concurrency)  # for the process that runs them
    with environment(data_dir, with_store=True) as env, tempfile.TemporaryDirectory(prefix="crm-run-") as run_dir:
        prepare(env.settings)
        listening_port = free_port(host, port)
        try:
            check_role(env.settings.database_dsn, production=env.settings.production)
            if env.settings.read_dsn:
                check_role(env.settings.read_dsn, production=env.settings.production, name="DATABASE_READ_URL")
        except UnsafeRoleError as error:
            raise click.ClickException(str(error)) from None
        tell_missing_migrations(env.settings.database_dsn)
        run_server(env, "jobs_app", host, listening_port, 1, Path(run_dir), share=True)
