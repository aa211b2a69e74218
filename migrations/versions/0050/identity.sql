-- For `crm identity`, which removes people from an organization: its role may call these functions, and has no right on
-- any table here. They are for its own tenants; whether somebody stays admin there, it knows itself.

-- Shuts somebody out, or, not for good, only refuses the tokens from before. Who was not seen here yet is noted, so that
-- a token that was issued already lets nobody in. By the clock, since whoever issued one at this moment was waited for.
CREATE FUNCTION crm_shut_out(tenant text, person text, called text, address text, actor jsonb, for_good boolean)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM set_config('crm.tenant', tenant, true), set_config('crm.actor', actor::text, true);
    PERFORM crm_lock_members(tenant);
    UPDATE members SET is_active = is_active AND NOT for_good, signed_out_at = clock_timestamp()
    WHERE tenant_id = tenant AND user_id = person;
    IF NOT FOUND THEN
        INSERT INTO members (tenant_id, user_id, name, email, is_active, signed_out_at)
        VALUES (tenant, person, called, address, NOT for_good, clock_timestamp());
    END IF;
END $$;

-- Lets somebody in again who was shut out.
CREATE FUNCTION crm_let_in(tenant text, person text, actor jsonb)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM set_config('crm.tenant', tenant, true), set_config('crm.actor', actor::text, true);
    PERFORM crm_lock_members(tenant);
    UPDATE members SET is_active = true WHERE tenant_id = tenant AND user_id = person AND NOT is_active;
END $$;

GRANT INSERT (tenant_id, user_id, name, email, is_active, signed_out_at), UPDATE (is_active, signed_out_at)
    ON members TO crm_maintenance;
GRANT EXECUTE ON FUNCTION crm_lock_members(text) TO crm_maintenance;
GRANT EXECUTE ON FUNCTION crm_shut_out(text, text, text, text, jsonb, boolean), crm_let_in(text, text, jsonb)
    TO crm_identity;
