"""Old deliveries are found by indexes, however many there are."""

from migrations.rules import as_role, run

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

PRUNE = """
-- Deletes deliveries that were made so many days ago, and what is left of webhooks that were deleted; answers how many.
CREATE OR REPLACE FUNCTION crm_prune_webhooks(days bigint, most bigint, OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    more bigint;
BEGIN
    DELETE FROM webhook_deliveries WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM webhook_deliveries
        WHERE created_at < now() - make_interval(days => greatest(days, 1)::integer) ORDER BY created_at LIMIT most
    );
    GET DIAGNOSTICS count = ROW_COUNT;
    DELETE FROM webhook_deliveries WHERE (tenant_id, id) IN (
        SELECT delivery.tenant_id, delivery.id FROM webhook_states AS state CROSS JOIN LATERAL (
            SELECT tenant_id, id FROM webhook_deliveries
            WHERE tenant_id = state.tenant_id AND webhook_id = state.webhook_id ORDER BY sequence LIMIT most
        ) AS delivery
        WHERE NOT EXISTS (SELECT FROM webhooks WHERE tenant_id = state.tenant_id AND id = state.webhook_id) LIMIT most
    );
    GET DIAGNOSTICS more = ROW_COUNT;
    count := count + more;
    DELETE FROM webhook_states AS state
    WHERE NOT EXISTS (SELECT FROM webhooks WHERE tenant_id = state.tenant_id AND id = state.webhook_id)
        AND NOT EXISTS (
            SELECT FROM webhook_deliveries AS delivery
            WHERE delivery.tenant_id = state.tenant_id AND delivery.webhook_id = state.webhook_id
        );
END $$;
"""


def upgrade() -> None:
    run("GRANT SELECT (sequence) ON webhook_deliveries TO crm_maintenance")
    as_role("crm_maintenance", PRUNE)


def downgrade() -> None:
    """What 0014 has is right too, only slower: there is nothing to undo."""
