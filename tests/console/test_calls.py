"""Every call of the console, as the console makes it, by each role: once from Python, once from Node with axios."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.callers import Callers
from tests.console.dialect import CALLS, FOLDER, check_answers, filled
from tests.laws.routes import CONSOLE
from tests.processes import Service, beside
from tests.programs import missing, program

ROLES = ["admin", "manager", "agent"]


def saved_for(role: str, user_id: str, tag: dict[str, Any]) -> dict[str, str]:
    """What the calls may refer to from the start; an admin has made a tag for those who can't."""
    return {"me": user_id, "unique": role, "tag": str(tag["id"])}


@pytest.mark.parametrize("role", ROLES)
def test_every_call_is_answered_as_the_console_expects(role: str, callers: Callers, tenant: str) -> None:
    saved = saved_for(role, "7001", callers.person("admin", tenant).tag())
    caller = callers.person(role, tenant, user_id="7001", name="Joan Clarke", email="joan@example.com")
    results = []
    for call in CALLS:
        method, _, path = call["call"].partition(" ")
        more = {"json": filled(call["body"], saved)} if "body" in call else {}
        url = "/console" + filled(path, saved)
        response = caller.call(method, url, params=filled(call.get("params"), saved), **more)
        body = response.json()
        if "save" in call and "id" in body:
            saved[call["save"]] = body["id"]
        results.append({"status": response.status_code, "body": body})
    check_answers(results, role)


def test_the_table_has_every_call_that_is_served() -> None:
    made = {call["call"] for call in CALLS}
    for operation in CONSOLE:
        path = operation.path.removeprefix("/console")
        assert any(same_route(call, f"{operation.method} {path}") for call in made), operation


def same_route(call: str, route: str) -> bool:
    """Whether a call of the table, with its {names}, is one of this route."""
    parts, wanted = call.split("/"), route.split("/")
    return len(parts) == len(wanted) and all(
        part == want or (part.startswith("{") and want.startswith("{"))
        for part, want in zip(parts, wanted, strict=True)
    )


@pytest.fixture(scope="module")
def node_modules() -> None:
    """What package-lock.json says."""
    program("node", package="nodejs")
    npm = program("npm", package="npm")
    installed = FOLDER / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (FOLDER / "package-lock.json").stat().st_mtime:
        return
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"], cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        missing(f"npm could not install axios: {done.stderr[-300:]}")


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("console") / "data", **beside(settings))
    yield service
    service.stop()


@pytest.mark.usefixtures("node_modules")
@pytest.mark.parametrize("role", ROLES)
def test_axios_gets_the_same(role: str, service: Service) -> None:
    mine = ("--tenant", f"node-{role}")
    tag = service.call("POST", "/admin/tags", service.token("admin", *mine), json={"name": "VIP"}).json()
    saved = saved_for(role, "7001", tag)
    done = subprocess.run(
        ["node", str(Path(FOLDER, "client.mjs"))],
        env=os.environ
        | {
            "BASE_URL": f"{service.url}/console",
            "TOKEN": service.token(role, *mine, "--user-id", "7001"),
            "SAVED": json.dumps(saved),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check_answers(json.loads(done.stdout), role)
