"""An erasure leaves nothing: not in a dump of the database, not in the store, not in the logs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.types.json import Jsonb

from app.db.migrations import Migrations
from app.dev.object_store import EmbeddedStore
from app.dev.postgres import OWNER, EmbeddedPostgres
from app.main import create_app
from app.records.personal import PERSONAL
from app.settings import Settings, load_settings
from tests.admin.test_erasure import erase
from tests.callers import Caller, Callers
from tests.client import InProcess
from tests.processes import fetch, wait_until
from tests.records.chains import breaks, seal
from tests.tools import Tools

# Folded, it is the same.
CANARY = "zyxcanaryqwv"
# Not the text itself.
HASHES = {("attachments", "sha256"), ("audit_entries", "salt")}
SAID = """
    INSERT INTO conversation_messages (tenant_id, conversation_id, role, parts)
    SELECT tenant_id, id, 'user', jsonb_build_array(jsonb_build_object('type', 'text', 'text', title))
    FROM conversations
"""
DELIVERED = """
    INSERT INTO webhook_deliveries (tenant_id, webhook_id, sequence, type, resource_type, resource_id, attempts)
    VALUES ('acme', 1, 1, 'customer.created', 'customer', %s, %s)
"""


class Place(NamedTuple):
    """A service whose database and store nobody else uses."""

    settings: Settings
    server: EmbeddedPostgres
    objects: Path
    caller: Caller


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    server = EmbeddedPostgres(tmp_path / "data", options=("fsync=off", "full_page_writes=off"))
    with server, EmbeddedStore(tmp_path / "data") as store:
        settings = replace(
            store.configured(load_settings(data_dir=str(tmp_path / "data"))),
            database_url=server.dsn(),
            migration_database_url=server.dsn(user=OWNER),
            jwt_secret="s" * 32,
            upkeep_seconds=0,
            jobs_in_service=True,
        )
        Migrations(settings.migration_dsn, settings.database_dsn).upgrade()
        with InProcess(create_app(settings)) as client:
            caller = Callers(client, settings).person("admin", "acme")
            yield Place(settings, server, tmp_path / "data" / "objects", caller)
    server.destroy()


def fill(caller: Caller) -> tuple[str, list[str]]:
    """A customer whose every personal field holds the canary. Returns its address, and links to files."""
    kept = iter(range(1000))

    def ok(method: str, path: str, body: Any = None) -> Any:
        headers = {"Idempotency-Key": f"key-{next(kept)}"} if method == "POST" else {}
        answer = caller.call(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    def twice(path: str, field: str, /, **body: Any) -> dict[str, Any]:
        """Made with one text, and changed to another."""
        made = ok("POST", path, {**body, field: f"{body[field]} first"})
        collection = f"/admin/{path.rsplit('/', 1)[1]}"
        changed: dict[str, Any] = ok("PATCH", f"{collection}/{made['id']}", {field: body[field]})
        return changed

    text = f"Some {CANARY} text"
    customer = twice(
        "/admin/customers",
        "name",
        name=CANARY,
        email=f"{CANARY}@example.com",
        phone=CANARY,
        company=text,
        role=text,
        industry=text,
        website=f"https://{CANARY}.example",
        notes=text,
        external_id=CANARY,
        contact_preferences={"channel": CANARY, CANARY: [text]},
    )
    path = f"/admin/customers/{customer['id']}"
    names = {"first_name": CANARY, "last_name": CANARY, "email": f"{CANARY}@example.org", "phone": CANARY}
    contact = twice(f"{path}/contacts", "notes", **names, position=text, notes=text, external_id=CANARY)
    of = {"customer_id": customer["id"]}
    more = {"external_id": CANARY, "description": text}
    deal = twice("/admin/deals", "title", title=text, contact_id=contact["id"], **of, **more)
    ok("PATCH", f"/admin/deals/{deal['id']}", {"stage": "closed_lost", "lost_reason": text})
    ok("PATCH", f"/admin/deals/{deal['id']}", {"lost_reason": f"Another {text}"})
    activity = twice("/admin/activities", "title", title=text, type="call", outcome=text, deal_id=deal["id"], **more)
    project = twice("/admin/projects", "name", name=text, **of, **more)
    todo = twice("/admin/activities", "title", title=text, type="task", project_id=project["id"])
    ok("POST", f"/admin/projects/{project['id']}/notes", {"content": text})
    ok("DELETE", f"/admin/activities/{todo['id']}")
    note = twice("/admin/notes", "content", content=text, activity_id=activity["id"], external_id=CANARY)
    ok("POST", f"/admin/customers/{customer['id']}/notes", {"content": text})
    for record in (f"/admin/notes/{note['id']}", f"/admin/activities/{activity['id']}"):
        ok("DELETE", record)
    links = []
    for record in (path, f"/admin/deals/{deal['id']}", f"/admin/projects/{project['id']}"):
        attached = caller.attach(record, f"{text} {record}".encode(), f"{CANARY}.txt").json()
        links.append(ok("GET", f"/admin/attachments/{attached['id']}")["download_url"])
        upload = ok(
            "POST",
            f"{record}/attachments/uploads",
            {"file_name": f"{CANARY}.txt", "content_type": "text/plain", "size": len(CANARY)},
        )
        answer = fetch(upload["upload_url"], "PUT", content=CANARY.encode(), headers=upload["headers"])
        assert answer.is_success, answer.text
    ok("DELETE", f"/admin/attachments/{attached['id']}")
    ok("POST", f"{path}/reassign", {"assigned_to": "agent-1"})

    def done(started: dict[str, Any]) -> None:
        job = started["job"]["id"]
        wait_until(lambda: ok("GET", f"/admin/jobs/{job}")["status"] == "done", "the end of a job")

    done(ok("POST", "/admin/report-runs", {"report": "overview", "format": "json"}))
    mail = f"{CANARY}@example.com"
    table = f"About {CANARY}\nName,Mail,{CANARY}\n{CANARY},{mail},New {CANARY}\nEve,{mail},\n".encode()
    sent = caller.call("POST", "/admin/imports", files={"file": (f"{CANARY}.csv", table)}, data={"kind": "customers"})
    for values in ({"notes": f"New {text}"}, {"name": f"New {CANARY}"}):
        Tools(caller, "admin").ok("update_record", type="customer", id=customer["id"], values=values)
    imported = f"/admin/imports/{sent.json()['id']}"
    options = {"match_on": "email", "on_error": "skip", "values": {"status": {CANARY: "lead"}}}
    mapping = {"Name": "name", "Mail": "email", CANARY: "company"}
    done(ok("PUT", f"{imported}/plan", {"mapping": mapping, "options": options}))
    done(ok("POST", f"{imported}/run", {}))
    ok("POST", "/admin/assistant/conversations", {"title": f"About {CANARY}"})
    return path, links


def dumped(place: Place) -> str:
    done = subprocess.run(
        [str(place.server.programs / "pg_dump"), place.server.dsn(user="postgres")],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def found(text: str) -> list[str]:
    """Where the canary, or its bytes, are."""
    wanted = re.compile(f".{{0,80}}(?:{CANARY}|{CANARY.encode().hex()}).{{0,80}}", re.IGNORECASE)
    return wanted.findall(text)


def files(place: Place) -> list[Path]:
    return [path for path in place.objects.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_an_erasure_leaves_no_canary(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    caller = place.caller
    other = caller.customer("Grace")
    path, links = fill(caller)
    with psycopg.connect(place.server.dsn(user="postgres")) as superuser:
        superuser.execute(
            DELIVERED, [path.rsplit("/", 1)[1], Jsonb([{"status": 500, "response": f"Who is {CANARY}?"}])]
        )
        superuser.execute("UPDATE conversations SET mentions = ARRAY['customer:' || %s]", [path.rsplit("/", 1)[1]])
        superuser.execute(SAID)
        # A report that is mailed has its figures beside its file.
        superuser.execute("UPDATE job_files SET document = content")
        # What a server of others answered.
        superuser.execute("UPDATE proposals SET answer = changes")
        for table, columns in PERSONAL.items():
            for column in columns.split():
                there = f"SELECT count(*) FROM {table} WHERE {column}::text ILIKE ANY (%s)"
                ((count,),) = superuser.execute(there, [[f"%{CANARY}%", f"%{CANARY.encode().hex()}%"]]).fetchall()
                assert count or (table, column) in HASHES, f"fill {table}.{column} with the canary here"
        # What was deleted for good before is in the log still.
        superuser.execute("SELECT set_config('crm.tenant', 'acme', true)")
        superuser.execute("""SELECT set_config('crm.actor', '{"removal": "purge"}', true)""")
        superuser.execute("DELETE FROM notes WHERE deleted_at IS NOT NULL")
    seal(place.settings)
    assert len(found(dumped(place))) > 50
    assert len(files(place)) == 7
    erased = erase(caller, path, CANARY)
    assert found(str(erased)) == []
    seal(place.settings)
    assert breaks(place.settings, "acme") == []
    assert found(dumped(place)) == []
    # What is uploaded while its address still takes a file is deleted when it no longer does.
    assert [fetch(link).status_code for link in links] == [404, 404, 404]
    assert files(place) == []
    logged = capfd.readouterr()
    assert found(logged.out) == found(logged.err) == []
    assert caller.ok("GET", f"/admin/customers/{other['id']}")["name"] == "Grace"
