"""An agent's own count of a tag's customers is a function, so that no plan of everybody else's is estimated with it."""

from migrations.rules import run

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("""
        -- How many live customers wear a tag, of those that the caller sees. Not SQL, which would be put into the
        -- statement around it: a list of customers would be estimated with it, and compiled for nothing.
        CREATE FUNCTION crm_count_tagged(tag bigint) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
        BEGIN
            RETURN (
                SELECT count(*)
                FROM customer_tags JOIN customers
                    ON customers.tenant_id = customer_tags.tenant_id AND customers.id = customer_id
                WHERE tag_id = tag AND live
            );
        END $$;
        REVOKE EXECUTE ON FUNCTION crm_count_tagged(bigint) FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION crm_count_tagged(bigint) TO crm_service;
    """)


def downgrade() -> None:
    run("DROP FUNCTION crm_count_tagged(bigint)")
