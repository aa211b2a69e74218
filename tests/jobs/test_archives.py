"""The archive of an organization: made by a job, fetched by a link, gone after an erasure, and put back elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import Result

from app.admin.exports.archive import TYPES
from app.db.roles import enter_tenant
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.access.test_access_tokens import program
from tests.admin.test_erasure import erase
from tests.callers import Caller, Callers, refused
from tests.jobs.test_bulk_jobs import ended
from tests.laws.routes import member_id
from tests.processes import crm_on, wait_until
from tests.records.chains import breaks, seal

EXPORTS = "/admin/exports"


def fill(admin: Caller) -> int:
    """Something of each kind, and a changed, a trashed and an erased record; answers the id of a customer."""
    customer = int(admin.customer("Ada", email="ada@example.com")["id"])
    admin.ok("POST", f"/admin/customers/{customer}/tags", {"tag_ids": [admin.tag("VIP")["id"]]})
    contact = admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": "Grace"})["id"]
    links = {"customer_id": customer, "contact_id": contact}
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "amount": 10.5, **links})["id"]
    admin.ok("PATCH", f"/admin/deals/{deal}", {"stage": "closed_won"})
    project = admin.ok("POST", "/admin/projects", {"name": "Move", "customer_id": customer, "assignees": [7, "x"]})[
        "id"
    ]
    admin.ok("POST", "/admin/activities", {"title": "Call", "type": "call", "project_id": project, **links})
    admin.ok("POST", "/admin/notes", {"content": "Grüße\n", "deal_id": deal})
    admin.attach(f"/admin/customers/{customer}", b"Hello")
    admin.ok("DELETE", f"/admin/customers/{admin.customer('Trashed')['id']}")
    erase(admin, f"/admin/customers/{admin.customer('Erased')['id']}", "Erased")
    return customer


def archived(admin: Caller) -> tuple[dict[str, Any], bytes]:
    """The job of a new archive, and the archive."""
    started = admin.post(EXPORTS)
    assert started.status_code == 202, started.text
    done = ended(admin, started.json()["job"]["id"])
    assert (done["status"], done["error"]) == ("done", None), done
    answer = admin.client.get(done["result"]["download_url"])
    assert answer.status_code == 200, answer.text
    return done, answer.content


def key_of(settings: Settings, tenant: str) -> Any:
    """The object of the organization's only archive."""
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
        ((key,),) = owner.execute("SELECT object_key FROM job_files").fetchall()
    return key


@pytest.mark.usefixtures("working")
def test_an_archive_has_everything_and_goes_when_somebody_is_erased(
    admin: Caller, stranger: Caller, manager: Caller, settings: Settings
) -> None:
    customer = fill(admin)
    stranger.customer("Elsewhere")
    refused(manager.post(EXPORTS), 403, "INSUFFICIENT_PERMISSIONS")
    done, content = archived(admin)
    assert (done["kind"], done["result"]["size"], done["result"]["missing"]) == ("export", len(content), 0)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        files = {each["name"]: each for each in manifest["files"]}
        assert set(archive.namelist()) == {"manifest.json", *files}
        for name, each in files.items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == each["sha256"]
        rows = {name: [json.loads(line) for line in archive.read(f"{name}.jsonl").splitlines()] for name in TYPES}
        (attachment,) = rows["attachments"]
        assert archive.read(f"attachments/{attachment['id']}") == b"Hello"
    assert {name: len(found) for name, found in rows.items()} == done["result"]["counts"]
    assert [row["name"] for row in rows["customers"]] == ["Ada", "Trashed"]
    assert [move["left_at"] is None for move in rows["stage_history"]] == [False, True]
    assert manifest["organization"] == admin.tenant
    assert admin.audit(action="export")[0]["new_values"]["rows"] == done["result"]["counts"]
    key = key_of(settings, admin.tenant)
    erase(admin, f"/admin/customers/{customer}", "Ada")
    refused(admin.client.get(done["result"]["download_url"]), 410, "ANSWER_ERASED")
    assert key_of(settings, admin.tenant) is None
    store = ObjectStore(settings)
    wait_until(lambda: asyncio.run(store.size(key)) is None, "the end of the object")
    store.close()


def test_nobody_has_an_object_deleted_that_is_no_archive_of_the_tenant(settings: Settings, tenant: str) -> None:
    row = (
        "INSERT INTO job_files (tenant_id, job_id, name, content_type, mentions, object_key)"
        " VALUES (%s, 1, '', '', '{}', %s)"
    )
    of_another = f"exports/{hashlib.sha256(b'another').hexdigest()}/{uuid.uuid4()}"
    for key in (f"{tenant}/{uuid.uuid4()}", of_another):
        with psycopg.connect(settings.database_dsn) as login:
            enter_tenant(login, tenant, {})
            with pytest.raises(psycopg.errors.CheckViolation):
                login.execute(row, [tenant, key])


def restored(settings: Settings, file: Path, tenant: str) -> Result:
    return crm_on(settings, "restore-export", str(file), "--tenant", tenant)


@pytest.mark.usefixtures("working")
def test_who_is_no_admin_any_more_gets_no_archive(admin: Caller, callers: Callers, tenant: str) -> None:
    other = callers.person("admin", tenant)
    done, _ = archived(other)
    admin.ok("PATCH", f"/admin/members/{member_id(other)}", {"role": "manager"})
    assert other.ok("GET", f"/admin/jobs/{done['id']}")["result"]["download_url"] is None
    assert admin.ok("GET", f"/admin/jobs/{done['id']}")["result"]["download_url"] is not None
    # Nor does a program of whoever still is.
    assert program(admin).ok("GET", f"/admin/jobs/{done['id']}")["result"]["download_url"] is None


@pytest.mark.slow
@pytest.mark.usefixtures("working")
def test_an_archive_is_put_back_into_an_empty_organization_as_it_was(
    admin: Caller, callers: Callers, settings: Settings, tmp_path: Path
) -> None:
    customer = fill(admin)
    _, content = archived(admin)
    file = tmp_path / "archive.zip"
    file.write_bytes(content)
    refused_ = restored(settings, file, admin.tenant)
    assert (refused_.exit_code, "is not empty" in refused_.stderr) == (1, True), refused_.output
    copy = callers.person("admin", f"copy-{uuid.uuid4().hex[:12]}")
    copy.ok("GET", "/admin/me")
    done = restored(settings, file, copy.tenant)
    assert done.exit_code == 0, done.output + done.stderr
    assert "DIFFERENT" not in done.stdout
    path = f"/admin/customers/{customer}"
    before, after = admin.ok("GET", path), copy.ok("GET", path)
    assert after == before
    attachment = copy.ok("GET", f"{path}/attachments")["data"][0]["id"]
    assert copy.get(f"/admin/attachments/{attachment}/content").content == b"Hello"
    assert copy.ok("GET", "/admin/customers", deleted="only")["data"][0]["name"] == "Trashed"
    history = [entry["action"] for entry in copy.ok("GET", f"{path}/versions")["data"]]
    assert history == [entry["action"] for entry in admin.ok("GET", f"{path}/versions")["data"]]
    seal(settings)
    assert breaks(settings, copy.tenant) == []
    # What is new has ids of its own.
    assert copy.customer("New")["id"] > customer


def of_another_release(content: bytes, without: set[str], change: Callable[[str, Any], Any]) -> bytes:
    """The archive without these files, and with other rows."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(changed, "w") as made:
        manifest = json.loads(archive.read("manifest.json"))
        manifest["files"] = [each for each in manifest["files"] if each["name"] not in without]
        for each in manifest["files"]:
            data, name = archive.read(each["name"]), each["name"].removesuffix(".jsonl")
            if name in TYPES:
                rows = [change(name, json.loads(line, parse_float=str)) for line in data.splitlines()]
                data = b"".join(
                    json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for row in rows
                )
                each["sha256"] = hashlib.sha256(data).hexdigest()
            made.writestr(each["name"], data)
        made.writestr("manifest.json", json.dumps(manifest))
    return changed.getvalue()


@pytest.mark.usefixtures("working")
def test_an_archive_of_an_earlier_release_is_put_back_and_one_of_a_later_release_is_not(
    admin: Caller, callers: Callers, settings: Settings, tmp_path: Path
) -> None:
    customer = admin.customer("Ada", contact_preferences={})["id"]
    _, content = archived(admin)
    file, tenant = tmp_path / "archive.zip", f"copy-{uuid.uuid4().hex[:12]}"

    def with_more(name: str, row: Any) -> Any:
        return row | ({"mood": "fine"} if name == "customers" else {})

    file.write_bytes(of_another_release(content, set(), with_more))
    answer = restored(settings, file, tenant)
    assert (answer.exit_code, "has mood: a later release" in answer.stderr) == (1, True), answer.stderr

    def with_less(name: str, row: Any) -> Any:
        lacks = {"customers": {"hold", "kind"}, "audit_entries": {"via"}}.get(name, set())
        return {column: value for column, value in row.items() if column not in lacks}

    file.write_bytes(of_another_release(content, {"projects.jsonl", "members.jsonl", "webhooks.jsonl"}, with_less))
    done = restored(settings, file, tenant)
    assert done.exit_code == 0, done.output + done.stderr
    assert "equal; the archive has no kind, hold" in done.stdout
    assert "an earlier release made the archive" in done.stdout
    copy = callers.person("admin", tenant, user_id=admin.user_id)
    found = copy.ok("GET", f"/admin/customers/{customer}")
    assert (found["name"], found["hold"], found["kind"]) == ("Ada", False, None)
    assert [each["role"] for each in copy.ok("GET", "/admin/members")["data"]] == ["admin"]


def test_what_is_no_whole_archive_is_refused(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "archive.zip"
    file.write_bytes(b"PK\x03\x04 and nothing more")
    for made in ({}, {"manifest.json": b"{}"}, {"manifest.json": b'{"organization":"a","files":[]}'}):
        answer = restored(settings, file, "empty")
        assert answer.exit_code == 1
        assert answer.stderr.startswith("Error: ")
        with zipfile.ZipFile(file, "w") as archive:
            for name, written in made.items():
                archive.writestr(name, written)
