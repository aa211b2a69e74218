"""Webhooks, as admins look after them."""

from __future__ import annotations

import base64
import json
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.processes import crm_here

URL = "http://127.0.0.1:9/hook"
PATH = "/admin/webhooks"


def make(caller: Caller, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = caller.ok("POST", PATH, {"url": URL, "types": ["deal.won"]} | fields)
    return made


def test_a_webhook_has_a_whole_life_and_its_secret_is_shown_once(admin: Caller, settings: Settings) -> None:
    headers = {"Idempotency-Key": "once"}
    made = admin.post(PATH, {"url": URL, "types": ["deal.won", "deal.won"], "description": "ERP"}, headers=headers)
    assert made.status_code == 201
    webhook = made.json()
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", webhook["secret"])
    assert (webhook["types"], webhook["is_active"], webhook["version"]) == (["deal.won"], True, 1)
    again = admin.post(
        PATH, {"url": URL, "types": ["deal.won", "deal.won"], "description": "ERP"}, headers=headers
    ).json()
    assert again == webhook | {"secret": None}
    path = f"{PATH}/{webhook['id']}"
    assert admin.ok("GET", path) == again
    assert admin.ok("GET", PATH) == {"data": [again], "total": 1}
    tried = admin.post(f"{path}/rotate-secret", headers={"Dry-Run": "true"}).json()
    assert tried["result"]["secret"] is None
    rotated = admin.ok("POST", f"{path}/rotate-secret")
    assert rotated["secret"] not in {None, webhook["secret"]}
    changed = admin.patch(path, {"types": ["*.deleted"], "secret": "mine"}, headers={"If-Match": '"2"'})
    assert (changed.json()["types"], changed.headers["ETag"]) == (["*.deleted"], '"3"')
    refused(admin.patch(path, {"description": None}, headers={"If-Match": '"2"'}), 412, "VERSION_CONFLICT")
    told = admin.audit(resource_type="webhook")
    assert [entry["action"] for entry in told] == ["update", "update", "create"]
    assert told[1]["changes"].keys() == {"secret_changed_at"}
    # No secret is anywhere: not in the log, nor in kept answers, nor in clear in the database.
    everything = json.dumps(told) + dump(settings, admin.tenant)
    assert not any(each["secret"].removeprefix("whsec_")[:20] in everything for each in (webhook, rotated))
    admin.ok("DELETE", path)
    refused(admin.get(path), 404, "WEBHOOK_NOT_FOUND")
    refused(admin.get(f"{path}/deliveries"), 404, "WEBHOOK_NOT_FOUND")


def dump(settings: Settings, tenant: str) -> str:
    tables = "audit_entries idempotency_keys webhooks webhook_states".split()
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [tenant])
        rows = [owner.execute(f"SELECT each::text FROM {table} AS each").fetchall() for table in tables]
        bodies = owner.execute("SELECT convert_from(body, 'UTF8') FROM idempotency_keys").fetchall()
    assert all(rows)
    return json.dumps([rows, bodies])


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",
        "http://127.0.0.1.example.invalid/",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/",
        "http://192.168.1.1/",
        "http://224.0.0.1/",
        "http://198.51.100.7/",
        "http://168.63.129.16/",
        "http://0.0.0.0/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[fe80::1%25eth0]/",
        "http://[fd00:ec2::254]/",
        "http://[ff02::1]/",
        "http://[2001:db8::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:7f00:1::]/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://localhost/",  # one of its addresses is not in the allowed network
        "http://no-such-host.invalid/",
        "http://a..b/",
        "http://" + "a" * 300 + ".example/",
        "http://user:password@127.0.0.1/",
        "http://@127.0.0.1/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/#part",
        "http:///path",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "//127.0.0.1/",
        "127.0.0.1",
        "http://[::1/",
        "http://127.0.0.1\\@10.0.0.1/",
    ],
)
def test_an_address_that_is_not_public_is_refused(url: str, admin: Caller) -> None:
    data = refused(admin.post(PATH, {"url": url, "types": ["*"]}), 400, "WEBHOOK_URL_REFUSED")
    assert data["fields"][0]["field"] == "url"


def test_a_public_address_and_an_allowed_network_are_taken(admin: Caller) -> None:
    for url in (
        "http://127.0.0.1:8080/hook?a=b",
        "https://127.9.9.9",
        "https://93.184.216.34/",
        "https://[2606:4700::1]/",
    ):
        assert make(admin, url=url)["url"] == url


def test_a_change_of_the_address_is_checked_and_one_that_stays_is_not(admin: Caller, variant: Any) -> None:
    webhook = make(admin)
    path = f"{PATH}/{webhook['id']}"
    refused(admin.patch(path, {"url": "http://10.0.0.1/"}), 400, "WEBHOOK_URL_REFUSED")
    strict = Caller(variant(webhook_allowed_networks=""), "", user_id=admin.user_id, tenant=admin.tenant)
    strict.headers = admin.headers
    assert strict.ok("PUT", path, webhook)["version"] == 1
    refused(strict.put(path, {"url": f"{URL}/2"}), 400, "WEBHOOK_URL_REFUSED")
    refused(strict.put(f"{PATH}/{2**60}", {"url": f"{URL}/2"}), 404, "WEBHOOK_NOT_FOUND")


def test_in_production_addresses_are_https_and_secrets_need_a_key(callers: Callers, tenant: str, variant: Any) -> None:
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    with_key = callers.person(
        "admin", tenant, client=variant(environment="production", encryption_keys=key, jobs_in_service=False)
    )
    refused(with_key.post(PATH, {"url": URL, "types": ["*"]}), 400, "WEBHOOK_URL_REFUSED")
    secure = {"url": "https://127.0.0.1:9/", "types": ["*"]}
    assert with_key.post(PATH, secure).status_code == 201
    without = callers.person("admin", tenant, client=variant(environment="production", encryption_keys=""))
    answer = without.post(PATH, secure)
    refused(answer, 503, "SERVICE_UNAVAILABLE")
    assert "ENCRYPTION_KEYS" in answer.json()["message"]
    assert without.ok("GET", PATH)["total"] == 1


def test_types_are_patterns_that_match_something(admin: Caller) -> None:
    for types in ([], ["deal.win"], ["deal"], ["*.*.*"], [""], ["deal.won"] * 51, "deal.won", [1], None):
        data = refused(admin.post(PATH, {"url": URL, "types": types}), 400, "INVALID_REQUEST")
        assert data["fields"][0]["field"] == "types"


def test_there_are_fifty_webhooks_at_most(admin: Caller) -> None:
    for _ in range(50):
        made = make(admin)
    assert refused(admin.post(PATH, {"url": URL, "types": ["*"]}), 409, "LIMIT_REACHED") == {"max": 50}
    # Nor by taking a deletion back.
    removed = admin.call("DELETE", f"{PATH}/{made['id']}").headers["X-Operation-Id"]
    make(admin)
    refused(admin.post(f"/admin/operations/{removed}/undo", {"changed_since": "refuse"}), 409, "LIMIT_REACHED")
    assert admin.ok("GET", PATH)["total"] == 50


def test_of_many_who_want_the_last_place_one_gets_it(admin: Caller) -> None:
    for _ in range(49):
        make(admin)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: admin.post(PATH, {"url": URL, "types": ["*"]}).status_code, range(6)))
    assert sorted(answers) == [201, *[409] * 5]


def test_only_admins_see_webhooks(admin: Caller, manager: Caller, agent: Caller, stranger: Caller) -> None:
    path = f"{PATH}/{make(admin)['id']}"
    for other in (manager, agent):
        for each in (PATH, path, f"{path}/deliveries"):
            refused(other.get(each), 403, "INSUFFICIENT_PERMISSIONS")
    refused(stranger.get(path), 404, "WEBHOOK_NOT_FOUND")


def test_a_deletion_that_is_undone_brings_no_secret_back(admin: Caller) -> None:
    webhook = make(admin)
    path = f"{PATH}/{webhook['id']}"
    deleted = admin.delete(path)
    admin.ok("POST", f"/admin/operations/{deleted.headers['X-Operation-Id']}/undo", {})
    assert admin.ok("GET", path)["url"] == URL
    rotated = admin.post(f"{path}/rotate-secret")
    assert rotated.json()["secret"]
    refused(admin.post(f"/admin/operations/{rotated.headers['X-Operation-Id']}/undo", {}), 409, "CHANGED_SINCE")


def test_keys_are_replaced_one_after_the_other(callers: Callers, settings: Settings, tenant: str, variant: Any) -> None:
    old, new = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
    made = make(callers.person("admin", tenant, client=variant(encryption_keys=old)))
    configured = {"DATABASE_URL": settings.database_url, "JWT_SECRET": settings.jwt_secret}
    lost = crm_here("keys", "rotate", ENCRYPTION_KEYS=new, **configured)
    assert lost.exit_code == 1
    assert f"webhook {made['id']}" in lost.output
    done = crm_here("keys", "rotate", ENCRYPTION_KEYS=f"{new},{old}", **configured)
    assert "Encrypted 1 secrets" in done.output, done.output
    answer = callers.person("admin", tenant, client=variant(encryption_keys=new)).ok(
        "POST", f"{PATH}/{made['id']}/test"
    )
    assert answer == {
        "status": None,
        "duration_ms": answer["duration_ms"],
        "response": None,
        "error": "The receiver does not accept connections",
    }
    assert made["secret"] not in lost.output + done.output


def test_a_setting_of_keys_is_checked_and_never_shown() -> None:
    for bad in ("short", base64.b64encode(b"x" * 31).decode(), "ä" * 44):
        wrong = crm_here("keys", "rotate", ENCRYPTION_KEYS=bad, JWT_SECRET="x" * 32)
        assert wrong.exit_code == 1
        assert "ENCRYPTION_KEYS" in wrong.output
        assert bad not in wrong.output
