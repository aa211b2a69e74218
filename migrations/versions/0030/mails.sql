-- Mails on their way to people of the organization. What one says is not here: it is made when the mail is sent.
CREATE TABLE mails (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    id bigint GENERATED ALWAYS AS IDENTITY,
    -- In the header Message-ID. A mail is handed over at most once under it.
    message_id uuid DEFAULT gen_random_uuid() NOT NULL,
    kind text NOT NULL CHECK (kind IN ('notification', 'digest', 'report')),
    -- What it is about, so that each mail is made once; and what is needed to make it: ids and days.
    key text NOT NULL,
    about jsonb DEFAULT '{}' NOT NULL,
    -- Whom it is for: a person, or whoever has this address.
    user_id text,
    address text,
    status text DEFAULT 'waiting' NOT NULL
        CHECK (status IN ('waiting', 'sending', 'sent', 'dropped', 'refused', 'failed', 'unknown')),
    attempts integer DEFAULT 0 NOT NULL,
    due_at timestamptz DEFAULT now() NOT NULL,
    taken_at timestamptz,
    error text,
    created_at timestamptz DEFAULT now() NOT NULL,
    finished_at timestamptz,
    CONSTRAINT mails_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT mails_key_key UNIQUE (tenant_id, kind, key),
    CONSTRAINT mails_recipient_check CHECK ((user_id IS NULL) <> (address IS NULL)),
    CONSTRAINT mails_taken_check CHECK (status <> 'sending' OR taken_at IS NOT NULL),
    CONSTRAINT mails_finished_check CHECK ((finished_at IS NULL) = (status IN ('waiting', 'sending')))
);
CREATE INDEX mails_due_idx ON mails (tenant_id, due_at, id) WHERE status = 'waiting';
CREATE INDEX mails_sending_idx ON mails (taken_at) WHERE status = 'sending';
CREATE INDEX mails_created_at_idx ON mails (created_at);

-- Addresses that a mail server has refused for good: nothing is sent there any more.
CREATE TABLE refused_addresses (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    address_folded text NOT NULL,
    answer text NOT NULL,
    refused_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT refused_addresses_pkey PRIMARY KEY (tenant_id, address_folded)
);

GRANT SELECT, INSERT (tenant_id, kind, key, about, user_id, address, due_at) ON mails TO crm_service;
-- Never whom it is for, or what it is about.
GRANT UPDATE (status, attempts, due_at, taken_at, error, finished_at) ON mails TO crm_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON refused_addresses TO crm_service;

CREATE POLICY maintenance ON mails TO crm_maintenance USING (true);
GRANT SELECT, INSERT, UPDATE (status, error, finished_at), DELETE ON mails TO crm_maintenance;

-- The mails that are due: of each tenant the first few, and the first of each before the second of any.
CREATE FUNCTION crm_due_mails(most bigint) RETURNS TABLE (tenant_id text, id bigint) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
    WITH RECURSIVE tenants AS (
        (SELECT tenant_id FROM mails WHERE status = 'waiting' ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT next.tenant_id FROM tenants CROSS JOIN LATERAL (
            SELECT tenant_id FROM mails
            WHERE status = 'waiting' AND mails.tenant_id > tenants.tenant_id ORDER BY tenant_id LIMIT 1
        ) AS next
    )
    SELECT tenants.tenant_id, mail.id
    FROM tenants CROSS JOIN LATERAL (
        SELECT due.id, due.due_at, row_number() OVER (ORDER BY due.due_at, due.id) AS place
        FROM (
            SELECT mails.id, mails.due_at FROM mails
            WHERE mails.tenant_id = tenants.tenant_id AND status = 'waiting' AND mails.due_at <= now()
            ORDER BY mails.due_at, mails.id LIMIT most
        ) AS due
    ) AS mail
    ORDER BY mail.place, mail.due_at LIMIT most;
$$;

-- Ends what waits too long, and what a worker took that has died since: whether that was sent, nobody knows. Says how
-- many mails wait, and for how long the first of those has been due.
CREATE FUNCTION crm_tend_mails(patience bigint, silent bigint, OUT waiting bigint, OUT oldest double precision)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE mails SET status = 'unknown', finished_at = now(),
        error = 'The worker died while it sent this: it may have been sent'
    WHERE status = 'sending' AND taken_at < now() - make_interval(secs => greatest(silent, 60));
    UPDATE mails SET status = 'failed', finished_at = now(), error = coalesce(error, 'The mail server was away for a day')
    WHERE status = 'waiting' AND due_at < now() AND due_at < now() - make_interval(secs => greatest(patience, 60));
    SELECT count(*), coalesce(greatest(extract(epoch FROM now() - min(due_at)), 0), 0) INTO waiting, oldest
    FROM mails WHERE status = 'waiting';
END $$;

-- Deletes mails that were made so many days ago; answers how many.
CREATE FUNCTION crm_prune_mails(days bigint, most bigint, OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    DELETE FROM mails WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM mails
        WHERE created_at < now() - make_interval(days => greatest(days, 7)::integer) ORDER BY created_at LIMIT most
    );
    GET DIAGNOSTICS count = ROW_COUNT;
END $$;

-- A report that is mailed is kept as JSON beside its file, because the mail shows it; and goes with the file's content.
ALTER TABLE job_files ADD COLUMN document bytea CHECK (octet_length(document) <= 16777216);
CREATE FUNCTION crm_forget_document() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.document := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER forget BEFORE UPDATE OF content ON job_files FOR EACH ROW WHEN (NEW.content IS NULL)
    EXECUTE FUNCTION crm_forget_document();
