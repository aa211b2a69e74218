-- The webhooks that something is due for. One step through the index for each webhook that has anything to send.
CREATE OR REPLACE FUNCTION crm_webhooks_due() RETURNS TABLE (tenant_id text, webhook_id bigint) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
    WITH RECURSIVE hooks AS (
        (
            SELECT tenant_id, webhook_id FROM webhook_deliveries
            WHERE status = 'pending' ORDER BY tenant_id, webhook_id LIMIT 1
        )
        UNION ALL
        SELECT next.tenant_id, next.webhook_id FROM hooks CROSS JOIN LATERAL (
            SELECT tenant_id, webhook_id FROM webhook_deliveries AS delivery
            WHERE status = 'pending' AND (tenant_id, webhook_id) > (hooks.tenant_id, hooks.webhook_id)
            ORDER BY tenant_id, webhook_id LIMIT 1
        ) AS next
    )
    SELECT hooks.tenant_id, hooks.webhook_id
    FROM hooks JOIN webhooks ON webhooks.tenant_id = hooks.tenant_id AND webhooks.id = hooks.webhook_id AND is_active
    WHERE EXISTS (
        SELECT FROM webhook_deliveries AS delivery
        WHERE delivery.tenant_id = hooks.tenant_id AND delivery.webhook_id = hooks.webhook_id
            AND status = 'pending' AND due_at <= now() AND (claimed_until IS NULL OR claimed_until <= now())
    );
$$;

-- How many deliveries wait, and for how long the first of those has been due that nobody has taken.
CREATE OR REPLACE FUNCTION crm_tend_webhooks(OUT pending bigint, OUT oldest double precision) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT count(*), coalesce(greatest(extract(epoch FROM now() - min(due_at) FILTER (
        WHERE claimed_until IS NULL OR claimed_until <= now()
    )), 0), 0)
    FROM webhook_deliveries AS delivery
        JOIN webhooks ON webhooks.tenant_id = delivery.tenant_id AND webhooks.id = delivery.webhook_id
    WHERE status = 'pending' AND is_active;
$$;
