"""`crm audit`, from sealing to a checkpoint that outlives the database."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import Result

from app.dev.postgres import OWNER, EmbeddedPostgres
from app.records.signatures import CHECKPOINT, sign
from app.settings import Settings
from tests.processes import crm_here

SECRET = "a secret of the command's own, of more than thirty-two bytes"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server with the audit log of two tenants on it, sealed."""
    data_dir = tmp_path_factory.mktemp("audit") / "data"
    with EmbeddedPostgres(data_dir) as server:
        for tenant in ("acme", "globex"):
            seeded = crm_here("seed", "--customers", "150", "--tenant", tenant, "--data-dir", str(data_dir))
            assert seeded.exit_code == 0, seeded.stderr
        sealed = audit(server, "seal")
        assert sealed.exit_code == 0, sealed.stderr
        assert sealed.stdout.startswith("Sealed ")
        yield server


def audit(server: EmbeddedPostgres, *arguments: str, database: str = "crm", **environment: str) -> Result:
    return crm_here(
        "audit",
        *arguments,
        **{
            "DATABASE_URL": server.dsn(database=database),
            "MIGRATION_DATABASE_URL": server.dsn(user=OWNER, database=database),
            "JWT_SECRET": SECRET,
            "AUDIT_KEY": "",
        }
        | environment,
    )


def test_what_was_sealed_is_verified(server: EmbeddedPostgres) -> None:
    verified = audit(server, "verify")
    assert verified.exit_code == 0, verified.stderr
    assert "0 not sealed yet." in verified.stdout
    assert verified.stdout.endswith("The audit log is intact.\n")
    assert audit(server, "seal").stdout == "Sealed 0 entries.\n"


def test_the_services_login_does_not_read_the_logs_of_all(server: EmbeddedPostgres) -> None:
    refused = audit(server, "verify", MIGRATION_DATABASE_URL="")
    assert refused.exit_code == 1
    assert "MIGRATION_DATABASE_URL" in refused.stderr


def test_a_superuser_who_rewrites_history_is_named_and_the_exit_code_says_so(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    made = audit(server, "checkpoint")
    assert made.exit_code == 0, made.stderr
    (file := tmp_path / "checkpoint.json").write_text(made.stdout)
    assert set(json.loads(made.stdout)["heads"]) == {"acme", "globex"}
    assert audit(server, "verify", "--checkpoint", str(file)).exit_code == 0

    with psycopg.connect(server.dsn(user="postgres"), autocommit=True) as superuser:
        superuser.execute("CREATE DATABASE spoiled TEMPLATE crm")
    with psycopg.connect(server.dsn(user="postgres", database="spoiled"), autocommit=True) as superuser:
        row = superuser.execute(
            "SELECT entry_id FROM audit_seals WHERE (tenant_id, sequence) = ('acme', 17)"
        ).fetchone()
        assert row is not None
        superuser.execute("ALTER TABLE audit_entries DISABLE TRIGGER guard")
        superuser.execute("UPDATE audit_entries SET user_name = 'Eve' WHERE id = %s", row)
        superuser.execute("DELETE FROM audit_seals WHERE tenant_id = 'globex' AND sequence > 40")
        superuser.execute(
            "DELETE FROM audit_entries WHERE tenant_id = 'globex' AND id > ALL ("
            "SELECT entry_id FROM audit_seals WHERE tenant_id = 'globex')"
        )
    found = audit(server, "verify", "--checkpoint", str(file), database="spoiled")
    assert found.exit_code == 1
    first, second = found.stdout.splitlines()[:2]
    assert first == f"acme: sequence 17, entry {row[0]}: the entry, or its seal, was changed"
    assert second.startswith("globex: sequence 41: the chain was cut here")
    assert "TAMPERED WITH: 2 of" in found.stderr
    alone = audit(server, "verify", "--tenant", "acme", "--checkpoint", str(file), database="spoiled")
    assert (alone.exit_code, alone.stdout.splitlines()[0]) == (1, first)
    assert "globex" not in alone.stdout
    mistyped = audit(server, "verify", "--tenant", "acne", database="spoiled")
    assert (mistyped.exit_code, "is this the organization's name?" in mistyped.stderr) == (1, True)


def test_a_checkpoint_is_believed_only_with_a_signature_of_ours(server: EmbeddedPostgres, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.json"
    made = audit(server, "checkpoint", AUDIT_KEY="a key of its own, longer than thirty-two bytes").stdout
    forged = json.loads(made)
    forged["heads"]["acme"]["sequence"] = 1
    for content, environment, reason in (
        (made, {}, "was not signed"),
        (json.dumps(forged), {"AUDIT_KEY": "a key of its own, longer than thirty-two bytes"}, "was not signed"),
        ("{}", {}, "not a checkpoint"),
        ("nonsense", {}, "not a checkpoint"),
        ('{"signature": 1, "heads": {}}', {}, "not a checkpoint"),
        ('{"signature": "\u00e9", "heads": {}}', {}, "was not signed"),
    ):
        file.write_text(content)
        refused = audit(server, "verify", "--checkpoint", str(file), **environment)
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1), refused.stderr
        assert reason in refused.stderr
    # While the secret is changed, checkpoints of the previous one are good.
    file.write_text(audit(server, "checkpoint").stdout)
    changed = {"JWT_SECRET": "another secret of more than thirty-two bytes", "JWT_SECRET_PREVIOUS": SECRET}
    assert audit(server, "verify", "--checkpoint", str(file), **changed).exit_code == 0


def test_a_checkpoint_of_an_older_release_is_compared_with_the_old_seals(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """It does not say of which version its seals are; here there are no old ones."""
    body = json.loads(audit(server, "checkpoint").stdout)
    del body["signature"]
    for head in body["heads"].values():
        assert head.pop("version") == 2
    body["signature"] = sign(Settings(jwt_secret=SECRET), CHECKPOINT, body)
    (file := tmp_path / "checkpoint.json").write_text(json.dumps(body))
    found = audit(server, "verify", "--checkpoint", str(file))
    assert found.exit_code == 1
    assert "the checkpoint saw another seal" in found.stdout


def test_what_was_erased_is_told_with_the_entry_that_says_so(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn(user="postgres"), autocommit=True) as superuser:
        superuser.execute("CREATE DATABASE erased TEMPLATE crm")
    with psycopg.connect(server.dsn(user=OWNER, database="erased")) as owner:
        actor = '{"user_name": "Zoë\\u001b[2J"}'
        owner.execute("SELECT set_config('crm.tenant', 'acme', false), set_config('crm.actor', %s, false)", [actor])
        ids = [row[0] for row in owner.execute("SELECT id FROM audit_entries ORDER BY id LIMIT 12")]
        erasure = owner.execute("SELECT crm_erase_entries('customer', 1, '{}', %s)", [ids]).fetchone()
        assert erasure is not None
    audit(server, "seal", database="erased")
    verified = audit(server, "verify", database="erased")
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    first, _, *_ = verified.stdout.splitlines()
    named = ", ".join(map(str, ids[:10]))
    assert first.startswith(f"acme: entries {named} and 2 more were erased by entry {erasure[0]} ('Zoë\\x1b[2J', 20")


@pytest.mark.slow
def test_the_chain_survives_dump_and_restore(server: EmbeddedPostgres, tmp_path: Path) -> None:
    (file := tmp_path / "checkpoint.json").write_text(audit(server, "checkpoint").stdout)
    dump = subprocess.run(
        [str(server._binaries / "pg_dump"), server.dsn(user="postgres")], capture_output=True, text=True, check=True
    ).stdout
    with psycopg.connect(server.dsn(user="postgres"), autocommit=True) as superuser:
        superuser.execute("CREATE DATABASE restored TEMPLATE template0")
        superuser.execute("ALTER DATABASE restored SET timezone = 'Asia/Kathmandu'")
    restored = server.dsn(user="postgres", database="restored")
    subprocess.run(
        [str(server._binaries / "psql"), "-q", "-v", "ON_ERROR_STOP=1", restored], input=dump, text=True, check=True
    )
    verified = audit(server, "verify", "--checkpoint", str(file), database="restored")
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    with psycopg.connect(restored) as superuser:
        superuser.execute("SELECT set_config('crm.tenant', 'acme', false)")
        superuser.execute("INSERT INTO tags (tenant_id, name) VALUES ('acme', 'after the restore')")
    assert audit(server, "seal", database="restored").stdout == "Sealed 1 entries.\n"
    assert audit(server, "verify", "--checkpoint", str(file), database="restored").exit_code == 0
