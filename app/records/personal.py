"""Which columns hold what is known of customers and their contacts: what an erasure must leave nothing of.

Each column of text, JSON or bytes is in one of the two lists: tests/laws/test_personal.py says so of a new one. A table
with personal columns is erased with the record that its rows belong to, or is one of EMPTIED.
"""

from __future__ import annotations

PERSONAL = {
    "activities": "description external_id outcome title title_folded",
    "attachment_uploads": "file_name",
    "attachments": "file_name sha256",
    "audit_entries": "new_values old_values salt",
    "contacts": "email external_id first_name last_name notes phone position search_folded",
    "conversation_messages": "parts",
    "conversations": "title",
    "customers": "company company_folded contact_preferences email email_folded external_id industry name name_folded"
    " notes phone role search_folded website",
    "deals": "description external_id lost_reason title title_folded",
    "idempotency_keys": "body",
    "import_rows": "before document keys problems",
    "imports": "columns file_name mapping options remarks",
    "job_files": "content document",
    "notes": "content content_folded external_id",
    "projects": "description external_id name name_folded",
    "proposals": "answer changes request title",
    "stage_history": "reason",
    # What receivers answered.
    "webhook_deliveries": "attempts",
}
# Words of ours, ids, keys and hashes; and who of the organization's own people did something.
NOT_PERSONAL = {
    "access_tokens": "name scope secret_hash user_id",
    "activities": "assigned_to priority status type",
    "attachment_uploads": "content_type object_key uploaded_by",
    "attachments": "content_type object_key uploaded_by",
    "assistant_settings": "base_url failure model provider secret secret_end",
    "assistant_usage": "user_id",
    "audit_cuts": "hash hash_v1",
    "audit_entries": "action ip_address new_digest old_digest request_id resource_type user_agent user_id user_name"
    " user_role via",
    "audit_seals": "hash hash_v1",
    # Whose calendar it is: one of the organization's own people.
    "calendar_connections": "account calendar calendar_name decision last_error provider secret status sync_token"
    " user_id",
    # What servers call entries, and digests.
    "calendar_entries": "etag here key remote_id sent series there uid user_id",
    "calendar_feeds": "include name secret_hash user_id",
    # What is in front of all messages, and who of the organization's own people has them.
    "conversation_calls": "model provider system tools",
    "conversation_messages": "context error role status",
    "conversations": "mentions user_id",
    "customer_values": "assigned_to currency",
    "customers": "assigned_to kind status",
    "deals": "currency owner_id",
    "duplicate_groups": "kind reasons",
    "duplicate_keys": "kind",
    "duplicate_pairs": "dismissed_by kind reasons",
    "feed_places": "reader",
    "feed_readers": "reader",
    "go_imports": "copying source",
    "idempotency_keys": "etag fingerprint key user_id",
    "import_rows": "outcome",
    "imports": "delimiter encoding format kind object_key sheet status summary user_id user_name",
    # What it is about is emptied when it ends: nobody is erased that it would go on to change.
    "jobs": "arguments error kind request_id result state status user_id user_name user_role",
    "job_files": "content_type name object_key",
    # What servers say of themselves.
    "mcp_servers": "allowed_tools auth name problem secret secret_end tools url",
    "members": "email email_folded name role user_id",
    # People of the organization, and what mail servers answered.
    "mails": "about address error key kind status user_id",
    "notes": "author_id author_name",
    "notification_settings": "digest digest_at emailed hidden locale quiet_from quiet_to timezone user_id",
    # `data` has times and numbers.
    "notifications": "actor_id actor_name data key kind resource_type user_id",
    "oauth_states": "provider state_hash user_id verifier",
    "pipeline_stages": "color display_name kind name origin",
    "projects": "assignees owner_id status",
    # The summary has ids in place of names.
    "proposals": "status summary tool user_id versions via",
    "record_counts": "counted facet",
    "report_changes": "facet part person series",
    "report_sums": "facet part person series",
    "refused_addresses": "address_folded answer",
    "removed_objects": "object_key",
    "report_schedules": "at every format from name owner_id recipients report to user_id user_name user_role",
    "routines": "name",
    "settings": "country default_currency timezone",
    "stage_history": "deal_owner_id user_id user_name",
    "tags": "color name name_folded",
    "users": "email id name role",
    "webhook_deliveries": "resource_type status type",
    "webhook_states": "previous_secret secret",
    "webhooks": "description types url",
}
# Of these the rows stay, without what is personal in them; proposals, which live for a day, go.
EMPTIED = frozenset(
    {
        *("audit_entries", "conversation_messages", "conversations", "idempotency_keys"),
        *("import_rows", "imports", "job_files", "proposals", "webhook_deliveries"),
    }
)
