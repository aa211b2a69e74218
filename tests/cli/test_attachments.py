"""Attachments of a real service: flat memory, and nothing lost or left over that a sweep would not find."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from app.dev.object_store import EmbeddedStore
from app.dev.postgres import EmbeddedPostgres
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.processes import Service, crm_here, wait_until

MIB = 1024 * 1024
GZIP = b"\x1f\x8b\x08\x00"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("attachments") / "data", ATTACHMENT_MAX_BYTES=str(200 * MIB))
    yield service
    service.stop()


def customer(service: Service, token: str) -> str:
    made = service.call("POST", "/admin/customers", token, json={"name": "Ada"})
    return f"/admin/customers/{made.json()['id']}"


def objects(service: Service, *tenants: str) -> set[str]:
    """Keys in the store, of everybody or of these organizations."""
    root = service.data_dir / "objects/crm"
    keys = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {key for key in keys if not tenants or key.split("/")[0] in tenants}


def grow_older() -> None:
    """Sweeps and purges leave alone what is younger than they are told, of which a second is the least."""
    time.sleep(1.5)


def sweep(service: Service, *more: str) -> str:
    swept = crm_here("attachments", "sweep", "--older-than", "1s", "--data-dir", str(service.data_dir), *more)
    assert swept.exit_code == 0, swept.stderr
    return swept.stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc to see a peak of memory")
def test_a_hundred_megabytes_in_and_out_raise_memory_by_less_than_twenty(service: Service, tmp_path: Path) -> None:
    token = service.token("admin")
    path = customer(service, token)
    service.call("POST", f"{path}/attachments", token, files={"file": ("small.txt", b"Hello")})
    (worker,) = service.workers

    def memory(name: str) -> int:
        lines = Path(f"/proc/{worker}/status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))

    big = tmp_path / "big.gz"
    with big.open("wb") as draft:
        draft.write(GZIP)
        for _ in range(100):
            draft.write(random.randbytes(MIB))
    with big.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmHWM")
    with big.open("rb") as file:
        made = service.call("POST", f"{path}/attachments", token, files={"file": ("big.gz", file)}).json()
    assert (made["size"], made["sha256"]) == (big.stat().st_size, sha256)
    downloaded = hashlib.sha256()
    with httpx.stream(
        "GET",
        f"{service.url}/admin/attachments/{made['id']}/content",
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    ) as answer:
        for chunk in answer.iter_bytes():
            downloaded.update(chunk)
    assert downloaded.hexdigest() == sha256
    assert memory("VmHWM") - before < 20


@pytest.mark.slow
def test_killed_in_the_middle_of_twenty_uploads_it_leaves_nothing_that_a_sweep_does_not_find(tmp_path: Path) -> None:
    service = Service(tmp_path / "data")
    token = service.token("admin")
    path = customer(service, token)
    acknowledged: list[int] = []
    begun, killed = threading.Semaphore(0), threading.Event()

    def upload(number: int) -> None:
        def body() -> Iterator[bytes]:
            yield b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.gz"\r\n\r\n' + GZIP
            begun.release()
            for _ in range(20):
                yield random.randbytes(64 * 1024)
            if number >= 10:
                killed.wait()
            yield b"\r\n--X--\r\n"

        headers = {"Authorization": f"Bearer {token}", "Content-Type": "multipart/form-data; boundary=X"}
        try:
            made = httpx.post(f"{service.url}{path}/attachments", headers=headers, content=body(), timeout=60)
            acknowledged.append(made.json()["id"])
        except httpx.TransportError:
            pass

    with ThreadPoolExecutor(20) as pool:
        for number in range(20):
            pool.submit(upload, number)
        for _ in range(20):
            begun.acquire()
        wait_until(lambda: len(acknowledged) >= 5, "five uploads")
        for pid in (service.process.pid, *service.workers):
            os.kill(pid, signal.SIGKILL)
        killed.set()
    service.stop(signal.SIGKILL)
    assert 5 <= len(acknowledged) <= 10
    grow_older()
    before = objects(service)
    again = Service(service.data_dir)
    try:
        listed = again.call("GET", f"{path}/attachments?page_size=100", token).json()["data"]
        assert set(acknowledged) <= {entry["id"] for entry in listed}
        for entry in listed:
            content = again.call("GET", f"/admin/attachments/{entry['id']}/content", token).content
            assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        orphans = [line for line in sweep(again).splitlines() if line.startswith("object without a row")]
        assert len(before) == len(listed) + len(orphans)
        assert objects(again) == before
        assert "Cleaned up" in sweep(again, "--delete")
        assert len(objects(again)) == len(listed)
        assert "Found: 0 objects, 0 attachments, 0 uploads" in sweep(again)
    finally:
        again.stop()


def test_a_sweep_finds_orphans_of_every_kind_and_only_cleans_up_when_told(service: Service) -> None:
    token = service.token("admin")
    path = customer(service, token)
    kept, lost = (
        service.call("POST", f"{path}/attachments", token, files={"file": ("a.txt", text)}).json()
        for text in (b"kept", b"lost")
    )
    upload = {"file_name": "a.txt", "content_type": "text/plain", "size": 5}
    begun = service.call("POST", f"{path}/attachments/uploads", token, json=upload).json()
    assert httpx.put(begun["upload_url"], content=b"Hello", headers=begun["headers"]).status_code == 200
    with psycopg.connect(EmbeddedPostgres(service.data_dir).dsn(user="postgres"), autocommit=True) as superuser:
        superuser.execute("UPDATE attachment_uploads SET expires_at = now() - interval '1 hour'")
        (key,) = superuser.execute("SELECT object_key FROM attachments WHERE id = %s", [lost["id"]]).fetchone() or ("",)
    store = ObjectStore(EmbeddedStore(service.data_dir).configured(Settings()))
    store.remove(key)
    orphan, foreign = f"default/{uuid.uuid4()}", "backups/of-somebody-else.tar"
    for name in (orphan, foreign):
        asyncio.run(store.put(name, io.BytesIO(b"nobody's"), 8, "text/plain"))
    grow_older()
    before = objects(service)
    said = sweep(service)
    assert f"object without a row: {orphan} (8 bytes)" in said
    assert f"attachment without its object: {lost['id']} of default" in said
    assert f"upload never completed: {begun['id']} of default" in said
    assert "Found: 1 objects, 1 attachments, 1 uploads. Nothing was changed" in said
    assert objects(service) == before
    assert "Cleaned up: 1 objects, 1 attachments, 1 uploads" in sweep(service, "--delete")
    assert "Found: 0 objects, 0 attachments, 0 uploads" in sweep(service)
    listed = service.call("GET", f"{path}/attachments", token).json()["data"]
    assert [entry["id"] for entry in listed] == [kept["id"]]
    assert foreign in objects(service)
    audit = service.call("GET", f"/admin/audit?resource_type=attachment&resource_id={lost['id']}", token).json()["data"]
    assert (audit[0]["action"], audit[0]["user_name"]) == ("delete", "crm attachments sweep")
    # Its bytes were found again.
    asyncio.run(store.put(key, io.BytesIO(b"lost"), 4, "text/plain"))
    assert service.call("POST", f"/admin/attachments/{lost['id']}/restore", token).status_code == 200
    assert service.call("GET", f"/admin/attachments/{lost['id']}/content", token).content == b"lost"
    store.close()


def test_a_purge_deletes_for_good_what_is_in_the_trash_long_enough(service: Service) -> None:
    for tenant in ("one", "two"):
        token = service.token("admin", "--tenant", tenant)
        path = customer(service, token)
        for _ in range(2):
            made = service.call("POST", f"{path}/attachments", token, files={"file": ("a.txt", b"Hello")}).json()
        service.call("DELETE", f"/admin/attachments/{made['id']}", token)
    grow_older()
    where = ("--data-dir", str(service.data_dir))
    assert "0 attachments" in crm_here("attachments", "purge", "--older-than", "30d", *where).stdout
    assert len(objects(service, "one", "two")) == 4
    assert "2 attachments" in crm_here("attachments", "purge", "--older-than", "1s", *where).stdout
    assert len(objects(service, "one", "two")) == 2
    assert service.call("POST", f"/admin/attachments/{made['id']}/restore", token).status_code == 404
    assert service.call("GET", f"{path}/attachments?deleted=include", token).json()["total"] == 1
    newest = service.call("GET", "/admin/audit?resource_type=attachment", token).json()["data"][0]
    assert (newest["action"], newest["user_name"]) == ("purge", "crm attachments purge")


def test_a_store_that_dies_is_started_again_and_the_rest_goes_on(service: Service) -> None:
    token = service.token("admin")
    path = customer(service, token)
    made = service.call("POST", f"{path}/attachments", token, files={"file": ("a.txt", b"Hello")}).json()
    os.kill(int((service.data_dir / "store.pid").read_text()), signal.SIGKILL)

    def answers() -> bool:
        answer = service.call("GET", f"/admin/attachments/{made['id']}/content", token)
        if answer.status_code == 200:
            assert answer.content == b"Hello"
            return True
        assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert service.call("GET", "/ready", token).status_code == 200
        assert service.call("GET", path, token).status_code == 200
        return False

    wait_until(answers, "a store again")
