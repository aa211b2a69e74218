-- Nobody narrows or shuts out an organization's last admin, nor themselves.
CREATE OR REPLACE FUNCTION crm_keep_an_admin() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    me text := current_setting('crm.user', true);
BEGIN
    PERFORM crm_lock_members(NEW.tenant_id);
    -- Whatever role the person was seen with last: somebody may have tokens of several. In another trigger it is an
    -- invitation that narrows whoever comes.
    IF NEW.user_id = me AND pg_trigger_depth() = 1 OR EXISTS (
        SELECT FROM users WHERE tenant_id = NEW.tenant_id AND id = NEW.user_id AND role = 'admin'
    ) AND NOT EXISTS (
        SELECT FROM members JOIN users ON users.tenant_id = members.tenant_id AND users.id = members.user_id
        WHERE members.tenant_id = NEW.tenant_id AND members.is_active AND coalesce(members.role, 'admin') = 'admin'
            AND (users.role = 'admin' OR users.id = me)
    ) THEN
        RAISE check_violation USING CONSTRAINT = 'last_admin',
            MESSAGE = format('member %s is the last admin, or changes itself', NEW.id);
    END IF;
    RETURN NULL;
END $$;

-- Who is seen with the email of somebody who is expected is that person. Whoever has a membership already keeps it, and
-- may do what both allow; the last admin stays admin.
CREATE OR REPLACE FUNCTION crm_join_member() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    expected members;
    lower_first text[] := ARRAY['agent', 'manager', 'admin'];
BEGIN
    IF TG_OP = 'UPDATE' AND NOT EXISTS (
        SELECT FROM members
        WHERE tenant_id = NEW.tenant_id AND user_id IS NULL AND email_folded = crm_fold_email(NEW.email)
    ) THEN
        RETURN NULL;
    END IF;
    PERFORM crm_lock_members(NEW.tenant_id);
    IF NOT EXISTS (SELECT FROM members WHERE tenant_id = NEW.tenant_id AND user_id = NEW.id) THEN
        UPDATE members SET user_id = NEW.id
        WHERE tenant_id = NEW.tenant_id AND user_id IS NULL AND email_folded = crm_fold_email(NEW.email);
        IF NOT FOUND THEN
            INSERT INTO members (tenant_id, user_id) VALUES (NEW.tenant_id, NEW.id);
        END IF;
        RETURN NULL;
    END IF;
    DELETE FROM members
    WHERE tenant_id = NEW.tenant_id AND user_id IS NULL AND email_folded = crm_fold_email(NEW.email)
    RETURNING * INTO expected;
    IF FOUND THEN
        BEGIN
            UPDATE members SET role = CASE WHEN array_position(lower_first, expected.role)
                    < coalesce(array_position(lower_first, role), 4) THEN expected.role ELSE role END,
                is_active = is_active AND expected.is_active,
                signed_out_at = greatest(signed_out_at, expected.signed_out_at),
                invited_at = coalesce(invited_at, expected.invited_at)
            WHERE tenant_id = NEW.tenant_id AND user_id = NEW.id;
        EXCEPTION WHEN check_violation THEN
            NULL;
        END;
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER join_member ON users;
CREATE TRIGGER join_member AFTER INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION crm_join_member();

-- Nobody is expected who is here, such as by an undo.
CREATE FUNCTION crm_expect_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM crm_lock_members(NEW.tenant_id);
    IF EXISTS (
        SELECT FROM users WHERE tenant_id = NEW.tenant_id AND crm_fold_email(email) = crm_fold_email(NEW.email)
    ) THEN
        RAISE unique_violation USING CONSTRAINT = 'members_invited_email_key',
            MESSAGE = 'somebody with this email is a member already';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER expect BEFORE INSERT ON members FOR EACH ROW WHEN (NEW.user_id IS NULL)
    EXECUTE FUNCTION crm_expect_member();
