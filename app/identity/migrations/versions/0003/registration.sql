-- A new person, with an organization if it has an id; NULL where the email is known. Then the same rows are made, under a
-- key that is nobody's, and undone: it takes as long. It is undone here, because a client that rolls back, to a savepoint
-- too, makes its prepared statements anew: that takes longer.
CREATE FUNCTION register(
    its_email text, its_key text, its_name text, its_hash text, its_organization_id text, its_organization text
) RETURNS uuid LANGUAGE plpgsql SET search_path = pg_catalog, identity, pg_temp AS $$
DECLARE
    person uuid;
    is_new boolean;
BEGIN
    INSERT INTO users (email, email_folded, name)
        SELECT its_email, CASE WHEN EXISTS (SELECT FROM users WHERE email_folded = its_key)
            THEN 'known ' || gen_random_uuid() ELSE its_key END, its_name
        RETURNING id, email_folded = its_key INTO person, is_new;
    INSERT INTO credentials (user_id, password_hash) VALUES (person, its_hash);
    IF its_organization_id IS NOT NULL THEN
        INSERT INTO organizations (id, name, owner_id) VALUES (its_organization_id, its_organization, person);
        INSERT INTO memberships (organization_id, user_id, role) VALUES (its_organization_id, person, 'admin');
    END IF;
    IF NOT is_new THEN
        RAISE unique_violation;
    END IF;
    RETURN person;
EXCEPTION WHEN unique_violation THEN  -- or somebody else registers with it at this moment
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION register(text, text, text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION register(text, text, text, text, text, text) TO crm_identity;
