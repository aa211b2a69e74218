"""A real RabbitMQ, on loopback only, and ways in which a broker fails."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Self

from tests.processes import wait_until
from tests.programs import program

PASSWORD = "s3cret/p@ss"
QUOTED_PASSWORD = "s3cret%2Fp%40ss"
VHOST = "crm/test"
CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{port}
listeners.ssl.1 = 127.0.0.1:{tls_port}
ssl_options.certfile = {home}/certificate.pem
ssl_options.keyfile = {home}/key.pem
default_user = crm
default_pass = {password}
default_vhost = {vhost}
log.console.level = error
log.file = false
"""


class RabbitMq:
    """A broker with a folder of its own, which starts in some five seconds."""

    def __init__(self, home: Path) -> None:
        # Debian's own command only lets root and its user start it, in its folder; the server itself is beside it.
        wrapper = Path(program("rabbitmq-server", package="rabbitmq-server")).resolve()
        self._server = str(wrapper.with_name("rabbitmq-server"))
        self.home = home
        self.port, self.tls_port, self._distribution, self._names = _free_ports(4)
        self.url = f"amqp://crm:{QUOTED_PASSWORD}@127.0.0.1:{self.port}/crm%2Ftest"
        self.tls_url = (
            f"amqps://crm:{QUOTED_PASSWORD}@127.0.0.1:{self.tls_port}/crm%2Ftest?cafile={home}/certificate.pem"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """With what it has kept, if it ran before."""
        _certify(self.home)
        given = {"port": self.port, "tls_port": self.tls_port, "home": self.home}
        (self.home / "rabbitmq.conf").write_text(CONFIGURATION.format(password=PASSWORD, vhost=VHOST, **given))
        (self.home / "plugins").write_text("[].")
        environment = {
            "HOME": self.home,
            "RABBITMQ_NODENAME": f"crm-{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": self.home / "data",
            "RABBITMQ_LOG_BASE": self.home / "log",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": self.home / "rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.home / "plugins",
            "RABBITMQ_DIST_PORT": self._distribution,
            # One processor, which it does not keep busy while it waits.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": self._names,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        names = ["epmd", "-port", str(self._names), "-address", "127.0.0.1"]
        # Started here, because one that the server starts stays when the server ends.
        self._epmd = subprocess.Popen(names, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with (self.home / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [self._server],
                env={**os.environ, **{name: str(value) for name, value in environment.items()}},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until(self._listens, f"RabbitMQ listens: {self.home / 'output'}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """As a machine that loses its power."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._epmd.kill()
        for process in (self._process, self._epmd):
            process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It accepts connections, and answers nothing."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    def _listens(self) -> bool:
        assert self._process.poll() is None, (self.home / "output").read_text()
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.tls_port)) == 0


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _certify(home: Path) -> None:
    """A certificate of our own for 127.0.0.1."""
    subject = ["-subj", "/CN=crm-test", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(home / "key.pem"), "-out", str(home / "certificate.pem")]
    command = [program("openssl", package="openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run([*command, *curve, *subject, *files], check=True, capture_output=True)


class Gate:
    """What the connections to a server go through: while it is shut, there is none."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_shut = False
        self.refused = 0
        self.port = 0

    def shut(self) -> None:
        """Break all connections, and refuse others."""
        self.is_shut = True
        for task in self._tasks:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_shut:
            self.refused += 1
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._behind)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(_forward(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


@asynccontextmanager
async def gate(port: int) -> AsyncIterator[Gate]:
    """A gate in front of this port."""
    made = Gate(port)
    async with await asyncio.start_server(made._accept, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
        made.shut()
