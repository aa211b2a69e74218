-- A login takes one hash with each of the parameters that are in use: this finds them.
CREATE INDEX credentials_parameters_idx ON credentials (split_part(password_hash, '$', 4));
-- How many mails went to an address, whoever asked for them.
CREATE INDEX auth_events_email_idx ON auth_events (email_folded, kind, at);

-- What somebody made is not made a second time: the answer is kept, without the secret that it showed.
CREATE TABLE idempotency_keys (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    key varchar(255) NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_created_idx ON idempotency_keys (created_at);
GRANT SELECT, INSERT, UPDATE ON idempotency_keys TO crm_identity;

ALTER FUNCTION prune(bigint, bigint, bigint) RENAME TO prune_entries;
CREATE FUNCTION prune(event_days bigint, token_days bigint, most bigint) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, identity, pg_temp AS $$
DECLARE
    done bigint;
BEGIN
    DELETE FROM idempotency_keys WHERE ctid IN (
        SELECT ctid FROM idempotency_keys WHERE created_at < now() - interval '24 hours' LIMIT most);
    GET DIAGNOSTICS done = ROW_COUNT;
    RETURN done + prune_entries(event_days, token_days, most);
END $$;
REVOKE EXECUTE ON FUNCTION prune(bigint, bigint, bigint), prune_entries(bigint, bigint, bigint)
    FROM PUBLIC, crm_identity;
GRANT EXECUTE ON FUNCTION prune(bigint, bigint, bigint) TO crm_identity;
