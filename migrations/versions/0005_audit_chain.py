"""A chain of hashes over the audit log, and the role that keeps it up."""

from migrations.rules import granted, isolate, run

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# No foreign key: an entry that somebody deletes must leave its seal behind.
SEALS = f"""
CREATE TABLE audit_seals (
    tenant_id varchar(64) NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    entry_id bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (tenant_id, sequence),
    CONSTRAINT audit_seals_entry_key UNIQUE (tenant_id, entry_id)
);
CREATE INDEX audit_seals_entry_idx ON audit_seals (entry_id);
CREATE INDEX audit_entries_id_idx ON audit_entries (id);
{isolate("audit_seals")}
{granted("audit_seals", "SELECT")}
"""

# Asked by name, so that a login that is merely a member sees no more than before.
UPKEEP = """
CREATE POLICY upkeep ON audit_entries FOR SELECT TO crm_upkeep USING (current_user = 'crm_upkeep');
CREATE POLICY upkeep ON audit_seals FOR SELECT TO crm_upkeep USING (current_user = 'crm_upkeep');
CREATE POLICY sealing ON audit_seals FOR INSERT TO crm_upkeep WITH CHECK (current_user = 'crm_upkeep');
CREATE POLICY upkeep ON idempotency_keys TO crm_upkeep
    USING (current_user = 'crm_upkeep' AND created_at < now() - interval '24 hours');
GRANT SELECT ON audit_entries TO crm_upkeep;
GRANT SELECT, INSERT ON audit_seals TO crm_upkeep;
GRANT SELECT (tenant_id, user_id, key, created_at), DELETE ON idempotency_keys TO crm_upkeep;
"""


def upgrade() -> None:
    run(SEALS)
    run(UPKEEP)


def downgrade() -> None:
    run("""
        DROP POLICY upkeep ON idempotency_keys;
        REVOKE ALL ON idempotency_keys FROM crm_upkeep;
        DROP POLICY upkeep ON audit_entries;
        REVOKE ALL ON audit_entries FROM crm_upkeep;
        DROP INDEX audit_entries_id_idx;
        DROP TABLE audit_seals;
    """)
