"""Conversations with the assistant."""

from pathlib import Path

from migrations.rules import amend, granted, isolate, owned_by, run, within_years

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0041")
TABLES = ("conversations", "conversation_messages", "conversation_calls")
ERASE = "crm_erase_record(text, bigint, timestamptz, text, bigint, bigint)"
ERASED = "    IF records > 0 THEN\n"
FORGOTTEN = "    PERFORM crm_forget_conversations(tenant, known);\n"


def upgrade() -> None:
    run((SQL / "conversations.sql").read_text())
    for table in TABLES:
        run(isolate(table) + within_years(table))
    changed = "title, updated_at, run, alive_at, cancelled, told, mentions"
    run(granted("conversations", f"SELECT, INSERT, DELETE, UPDATE ({changed})"))
    changed = "status, parts, error, input_tokens, output_tokens"
    run(granted("conversation_messages", f"SELECT, INSERT, UPDATE ({changed})"))
    run(granted("conversation_calls", "SELECT, INSERT"))
    run(owned_by("crm_maintenance", "crm_prune_conversations(bigint, bigint)"))
    amend(ERASE, ERASED, FORGOTTEN + ERASED)


def downgrade() -> None:
    """Conversations are lost."""
    amend(ERASE, FORGOTTEN, "")
    run("DROP FUNCTION crm_forget_conversations, crm_prune_conversations")
    run("DROP TABLE conversation_calls, conversation_messages, conversations")
