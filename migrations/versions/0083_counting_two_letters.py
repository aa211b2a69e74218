"""What a search of a letter or two finds is counted up to its limit without all of the index.

The search's index gave all rows of all organizations that have the letters, to count ten thousand of them.
"""

from migrations.rules import run

revision = "0083"
down_revision = "0082"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("""
-- How many live rows a search finds, at most so many. `share` is what part of the rows is expected to match: where that
-- comes to more than twice as many, the index leaves out some by chance, which is enough if so many are found all the
-- same. It keeps three times as many, since it also has rows that are gone, and of all organizations as much more.
CREATE FUNCTION crm_count_found(resource text, fragments text[], every boolean, most bigint, share double precision)
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp SET gin_fuzzy_search_limit = 0 AS $$
DECLARE
    here numeric := (SELECT sum(rows) FROM record_counts WHERE counted = resource);
    everywhere numeric;
    found bigint;
BEGIN
    IF share * here > 2 * most THEN
        everywhere := (SELECT reltuples FROM pg_class WHERE oid = resource::regclass);
        PERFORM set_config(
            'gin_fuzzy_search_limit', least(trunc(3 * most * greatest(everywhere / here, 1)), 2147483647)::text, true);
        found := (SELECT count(*) FROM crm_search(resource, fragments, every, true, most));
        IF found >= most THEN
            RETURN found;
        END IF;
        PERFORM set_config('gin_fuzzy_search_limit', '0', true);
    END IF;
    RETURN (SELECT count(*) FROM crm_search(resource, fragments, every, true, most));
END $$;
GRANT EXECUTE ON FUNCTION crm_count_found(text, text[], boolean, bigint, double precision) TO crm_service;
    """)


def downgrade() -> None:
    run("DROP FUNCTION crm_count_found(text, text[], boolean, bigint, double precision)")
