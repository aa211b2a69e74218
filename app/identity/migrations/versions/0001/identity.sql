-- Everything is in the schema `identity`, which the search path of this connection names. The login of `crm identity`
-- acts as crm_identity. No role of the CRM has any right here, and this one has none on the CRM's tables.
REVOKE ALL ON SCHEMA identity FROM PUBLIC;
GRANT USAGE ON SCHEMA identity TO crm_identity;

-- People who may log in. Emails that are alike are one: `email_folded` is the key that the CRM makes of them too.
CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email varchar(255) NOT NULL CHECK (email <> ''),
    email_folded text COLLATE "C" NOT NULL CONSTRAINT users_email_key UNIQUE,
    name varchar(255) NOT NULL CHECK (name <> ''),
    is_active boolean NOT NULL DEFAULT true,
    email_verified_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Apart from the people, so that nothing that reads people reads hashes.
CREATE TABLE credentials (
    user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- The id is the `tenant_id` of tokens.
CREATE TABLE organizations (
    id varchar(64) PRIMARY KEY CHECK (id <> ''),
    name varchar(255) NOT NULL CHECK (name <> ''),
    -- The admin who made it.
    owner_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE memberships (
    organization_id varchar(64) NOT NULL REFERENCES organizations ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('admin', 'manager', 'agent')),
    joined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX memberships_user_idx ON memberships (user_id, joined_at, organization_id);
-- The owner can't be removed. It is deferred, because an organization comes before its first member.
ALTER TABLE organizations ADD CONSTRAINT organizations_owner_fkey FOREIGN KEY (id, owner_id)
    REFERENCES memberships (organization_id, user_id) DEFERRABLE INITIALLY DEFERRED;

-- An organization keeps an admin who may log in. Whoever takes an admin's rights away waits for others who do so.
CREATE FUNCTION keep_an_admin() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, identity, pg_temp AS $$
BEGIN
    PERFORM FROM organizations WHERE id = OLD.organization_id FOR UPDATE;
    IF FOUND AND NOT EXISTS (
        SELECT FROM memberships JOIN users ON users.id = user_id
        WHERE organization_id = OLD.organization_id AND role = 'admin' AND is_active
    ) THEN
        RAISE check_violation USING CONSTRAINT = 'last_admin', MESSAGE = 'an organization keeps an admin';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER last_admin_changed AFTER UPDATE ON memberships FOR EACH ROW
    WHEN (OLD.role = 'admin' AND NEW.role <> 'admin') EXECUTE FUNCTION keep_an_admin();
CREATE CONSTRAINT TRIGGER last_admin_removed AFTER DELETE ON memberships FOR EACH ROW
    WHEN (OLD.role = 'admin') EXECUTE FUNCTION keep_an_admin();

-- Secrets are made when they are sent, so that none is ever kept: only their hashes are here.
CREATE TABLE invitations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id varchar(64) NOT NULL REFERENCES organizations ON DELETE CASCADE,
    email varchar(255) NOT NULL CHECK (email <> ''),
    email_folded text COLLATE "C" NOT NULL,
    role text NOT NULL CHECK (role IN ('admin', 'manager', 'agent')),
    invited_by uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    secret_hash bytea CONSTRAINT invitations_secret_key UNIQUE CHECK (octet_length(secret_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    -- An invitation to an address takes the place of the one before it.
    CONSTRAINT invitations_email_key UNIQUE (organization_id, email_folded)
);

-- Links in mails: to set a new password, and to say that an address is one's own.
CREATE TABLE one_time_links (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    purpose text NOT NULL CHECK (purpose IN ('reset_password', 'verify_email')),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    secret_hash bytea NOT NULL CONSTRAINT one_time_links_secret_key UNIQUE CHECK (octet_length(secret_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX one_time_links_user_idx ON one_time_links (user_id, purpose);
CREATE INDEX one_time_links_expires_idx ON one_time_links (expires_at);

-- Somebody on one device. The session is the family of all refresh tokens that came of one login.
CREATE TABLE sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    -- Where its tokens work; null once that organization is gone.
    organization_id varchar(64) REFERENCES organizations ON DELETE SET NULL,
    user_agent varchar(255),
    address varchar(64),
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_by text CHECK (ended_by IN ('logout', 'reuse', 'password', 'disabled', 'owner')),
    CONSTRAINT sessions_ended_check CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
CREATE INDEX sessions_user_idx ON sessions (user_id, last_used_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_expires_idx ON sessions (expires_at);

-- Each is good for one refresh. Its id is the `jti` of the access token that was issued with it.
CREATE TABLE refresh_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    token_hash bytea NOT NULL CONSTRAINT refresh_tokens_hash_key UNIQUE CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    spent_at timestamptz,
    successor_id uuid,
    CONSTRAINT refresh_tokens_spent_check CHECK ((spent_at IS NULL) = (successor_id IS NULL))
);
CREATE INDEX refresh_tokens_session_idx ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_created_idx ON refresh_tokens (created_at);

-- What happened, never with a secret. Nobody changes an entry. Failed logins are counted here, too.
CREATE TABLE auth_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL CHECK (kind <> ''),
    user_id uuid,
    email varchar(255),
    email_folded text COLLATE "C",
    organization_id varchar(64),
    -- An IPv4 address or an IPv6 network of 64 bits.
    network varchar(64),
    user_agent varchar(255),
    request_id varchar(128),
    data jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX auth_events_network_idx ON auth_events (network, kind, at);
CREATE INDEX auth_events_user_idx ON auth_events (user_id, id);
CREATE INDEX auth_events_at_idx ON auth_events (at);

-- Mails on their way. What one says is made when it is sent, and so is the secret in its link.
CREATE TABLE mails (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id uuid NOT NULL DEFAULT gen_random_uuid(),
    kind text NOT NULL CHECK (kind <> ''),
    about jsonb NOT NULL DEFAULT '{}',
    address varchar(255) NOT NULL,
    locale text NOT NULL,
    status text NOT NULL DEFAULT 'waiting'
        CHECK (status IN ('waiting', 'sending', 'sent', 'dropped', 'refused', 'failed', 'unknown')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    taken_at timestamptz,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT mails_taken_check CHECK (status <> 'sending' OR taken_at IS NOT NULL),
    CONSTRAINT mails_finished_check CHECK ((finished_at IS NULL) = (status IN ('waiting', 'sending')))
);
CREATE INDEX mails_due_idx ON mails (due_at, id) WHERE status = 'waiting';
CREATE INDEX mails_sending_idx ON mails (taken_at) WHERE status = 'sending';
CREATE INDEX mails_created_at_idx ON mails (created_at);

-- Addresses that a mail server has refused for good.
CREATE TABLE refused_addresses (
    address_folded text COLLATE "C" PRIMARY KEY,
    answer text NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT, INSERT, UPDATE (email, email_folded, name, is_active, email_verified_at) ON users TO crm_identity;
GRANT SELECT, INSERT, UPDATE (password_hash, changed_at) ON credentials TO crm_identity;
-- FOR UPDATE needs a right to change something.
GRANT SELECT, INSERT, UPDATE (name) ON organizations TO crm_identity;
GRANT SELECT, INSERT, UPDATE (role), DELETE ON memberships TO crm_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON invitations, one_time_links TO crm_identity;
GRANT SELECT, INSERT, UPDATE (organization_id, user_agent, address, last_used_at, expires_at, ended_at, ended_by)
    ON sessions TO crm_identity;
GRANT SELECT, INSERT, UPDATE (spent_at, successor_id) ON refresh_tokens TO crm_identity;
GRANT SELECT, INSERT ON auth_events TO crm_identity;
GRANT SELECT, INSERT, UPDATE (status, attempts, due_at, taken_at, error, finished_at) ON mails TO crm_identity;
GRANT SELECT, INSERT ON refused_addresses TO crm_identity;

-- Deletes some of what is kept long enough, and says how much. A spent refresh token is kept as long as one is valid:
-- until then, somebody could use it again.
CREATE FUNCTION prune(event_days bigint, token_days bigint, most bigint) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, identity, pg_temp AS $$
DECLARE
    done bigint;
    total bigint := 0;
BEGIN
    DELETE FROM auth_events WHERE id IN (
        SELECT id FROM auth_events WHERE at < now() - make_interval(days => greatest(event_days, 30)::int) LIMIT most);
    GET DIAGNOSTICS done = ROW_COUNT;
    total := total + done;
    DELETE FROM refresh_tokens WHERE id IN (
        SELECT id FROM refresh_tokens
        WHERE created_at < now() - make_interval(days => greatest(token_days, 1)::int) AND spent_at IS NOT NULL
        LIMIT most);
    GET DIAGNOSTICS done = ROW_COUNT;
    total := total + done;
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions WHERE expires_at < now() - interval '30 days' LIMIT most);
    GET DIAGNOSTICS done = ROW_COUNT;
    total := total + done;
    DELETE FROM one_time_links WHERE id IN (
        SELECT id FROM one_time_links WHERE expires_at < now() - interval '1 day' LIMIT most);
    GET DIAGNOSTICS done = ROW_COUNT;
    total := total + done;
    DELETE FROM mails WHERE id IN (
        SELECT id FROM mails WHERE created_at < now() - interval '30 days' AND finished_at IS NOT NULL LIMIT most);
    GET DIAGNOSTICS done = ROW_COUNT;
    RETURN total + done;
END $$;
REVOKE EXECUTE ON FUNCTION keep_an_admin(), prune(bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune(bigint, bigint, bigint) TO crm_identity;
