"""What is alike by Unicode, and a search that needs no more than one letter.

Rows that were distinct before and are alike now keep their place: the later tag gets a suffix, and the later customer's
email moves to the notes. Each is an audited change by "crm db upgrade", which lists them.
"""

from importlib import import_module

from alembic import context

from migrations import folding
from migrations.rules import act_in, owned_by, rederived, rows, run

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

CUSTOMERS = import_module("migrations.versions.0001_customers")

# Of each table what is looked through.
DOCUMENTS = {
    "customers": "search_folded",
    "contacts": "search_folded",
    "deals": "crm_fold_search(title)",
    "activities": "crm_fold_search(title)",
    "notes": "content_folded",
}
# A search looks through everything that was inserted since the index was last merged (kilobytes). PostgreSQL's own
# limit of 4 MB makes a search for a rare word three times as slow after an import.
PENDING = 256
# A few letters become many when they are folded; of what is longer than any usual text the end is not found.
LONGEST_DOCUMENT = 40_000

# The names that a person or company has, and the digits of its phone number: without leading zeros, and with them. They
# are kept in letters that nobody types, so that only a search for a number finds them (app/web/search.py has the same).
PARTIES = """
CREATE FUNCTION crm_phone_lines(phone text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    bare text := public.crm_fold_search(phone);
    digits text;
BEGIN
    -- A zero in parentheses is not dialled after a country code.
    digits := regexp_replace(
        CASE WHEN bare ~ '^[^0-9+]*([+]|00)' THEN replace(bare, '(0', '') ELSE replace(bare, '(0)', '') END,
        '[^0-9]+', '', 'g');
    RETURN CASE WHEN digits = '' THEN '' ELSE translate(
        E'\\n=' || ltrim(digits, '0') || E'\\n' || digits, '0123456789=',
        E'\\uE000\\uE001\\uE002\\uE003\\uE004\\uE005\\uE006\\uE007\\uE008\\uE009\\uE00A') END;
END $$;
CREATE FUNCTION crm_party_text(name text, email text, company text, phone text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN crm_fold_search(coalesce(name, '') || E'\\n' || coalesce(email, '') || E'\\n' || coalesce(company, '')
                       || E'\\n' || coalesce(phone, ''))
    || coalesce(crm_phone_lines(phone), '')
    || CASE WHEN strpos(lower(email COLLATE "C"), 'xn--') > 0
            THEN E'\\n' || crm_fold_search(crm_unicode_domain(lower(email COLLATE "C"))) ELSE '' END;
"""

# Every letter of a text, and every pair of letters: an index of them serves fragments of any length, on any server.
# To compute them is not cheap, and the planner should know.
GRAMS = r"""
CREATE FUNCTION crm_grams(value text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 1000
RETURN string_to_array(value, NULL)
    || string_to_array(regexp_replace(value, '(..)', E'\\1\x01', 'g'), E'\x01')
    || string_to_array(regexp_replace(substr(value, 2), '(..)', E'\\1\x01', 'g'), E'\x01');

-- What is looked for, as the documents have it. A label of a domain is decoded once it is whole.
CREATE FUNCTION crm_sought(fragment text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN coalesce(nullif(crm_fold_search(
    CASE WHEN lower(fragment COLLATE "C") ~ 'xn--[a-z0-9-]+[.]' THEN crm_unicode_domain(lower(fragment COLLATE "C"))
         ELSE fragment END), ''), fragment);
CREATE FUNCTION crm_sought_patterns(fragments text[]) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY(SELECT '%' || regexp_replace(crm_sought(fragment), '([\\%_])', '\\\1', 'g') || '%'
             FROM unnest(fragments) AS fragment);
CREATE FUNCTION crm_sought_grams(fragments text[]) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY(SELECT DISTINCT gram FROM unnest(fragments) AS fragment, unnest(crm_grams(crm_sought(fragment))) AS gram
             WHERE length(gram) = least(length(crm_sought(fragment)), 2));
"""


def _found(table: str, document: str) -> str:
    return f"""
        SELECT {table}.id FROM {table}
        WHERE tenant_id = $1 AND crm_grams({document}) COLLATE "C" @> $2 AND {document} LIKE ALL ($3)
            AND (deleted_at IS NULL OR NOT $4)
        LIMIT $5"""


# Of deals, the customer's name too. The longest fragment leads to what may be meant, by either index. LATERAL with
# OFFSET 0 goes from there to the others, and stops when there are enough: no planner knows how many there are.
DEAL_HOLDS = """AND crm_fold_search(deals.title) || E'\\n' || crm_fold_search(customers.name) LIKE ALL ($3)
        LIMIT $5"""
FOUND_DEALS = f"""
        (SELECT deals.id FROM deals CROSS JOIN LATERAL (
            SELECT name FROM customers
            WHERE customers.tenant_id = $1 AND customers.id = deals.customer_id OFFSET 0) AS customers
        WHERE tenant_id = $1 AND crm_grams(crm_fold_search(title)) COLLATE "C" @> $6
            AND crm_fold_search(title) LIKE $7 AND (deleted_at IS NULL OR NOT $4) {DEAL_HOLDS})
        UNION ALL
        (SELECT deals.id FROM customers CROSS JOIN LATERAL (
            SELECT id, title FROM deals
            WHERE deals.tenant_id = $1 AND deals.customer_id = customers.id AND (deleted_at IS NULL OR NOT $4)
                AND crm_fold_search(title) NOT LIKE $7 OFFSET 0) AS deals
        WHERE tenant_id = $1 AND crm_grams(search_folded) COLLATE "C" @> $6
            AND crm_fold_search(name) LIKE $7 {DEAL_HOLDS})
        LIMIT $5"""
QUERIES = {table: _found(table, document) for table, document in DOCUMENTS.items()} | {"deals": FOUND_DEALS}
WHICH = " ".join(f"WHEN '{table}' THEN $q${query}$q$" for table, query in QUERIES.items())
SEARCH = f"""
-- Row-level security keeps LIKE and @> away from any index (they are not leakproof), so the search for ids runs as a
-- role of its own that sees all rows, and names the tenant itself. What it finds is read under row-level security as
-- ever. All fragments have to be found, or with `every` false any of them; `live` leaves out the trash.
CREATE FUNCTION crm_search(resource text, fragments text[], every boolean, live boolean, most bigint)
RETURNS SETOF bigint LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 100
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET work_mem = '32MB'
SET max_parallel_workers_per_gather = 0 AS $$
DECLARE
    query text := CASE resource {WHICH} END;
    wanted text[];
    grams text[];
    patterns text[];
    longest text[];
    longest_grams text[];
    longest_pattern text;
BEGIN
    IF query IS NULL OR cardinality(fragments) = 0 THEN
        RETURN;
    END IF;
    FOR place IN 1 .. CASE WHEN every THEN 1 ELSE cardinality(fragments) END LOOP
        wanted := CASE WHEN every THEN fragments ELSE fragments[place:place] END;
        grams := crm_sought_grams(wanted);
        patterns := crm_sought_patterns(wanted);
        longest_grams := grams;
        longest_pattern := patterns[1];
        IF cardinality(wanted) > 1 THEN
            longest := ARRAY(SELECT fragment FROM unnest(wanted) AS fragment ORDER BY length(fragment) DESC LIMIT 1);
            longest_grams := crm_sought_grams(longest);
            longest_pattern := (crm_sought_patterns(longest))[1];
        END IF;
        RETURN QUERY EXECUTE query
        USING current_setting('crm.tenant', true), grams, patterns, live, most, longest_grams, longest_pattern;
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION crm_search(text, text[], boolean, boolean, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crm_search(text, text[], boolean, boolean, bigint) TO crm_service;
{owned_by("crm_search", "crm_search(text, text[], boolean, boolean, bigint)")}
"""

DERIVED_COLUMNS = """
ALTER TABLE customers
    DROP COLUMN name_folded, DROP COLUMN email_folded, DROP COLUMN company_folded, DROP COLUMN search_folded,
    ADD COLUMN name_folded text COLLATE "C" NOT NULL GENERATED ALWAYS AS (crm_fold(name)) STORED,
    ADD COLUMN email_folded text COLLATE "C" GENERATED ALWAYS AS (crm_fold_email(email)) STORED,
    ADD COLUMN company_folded text COLLATE "C" GENERATED ALWAYS AS (crm_fold(company)) STORED,
    ADD COLUMN search_folded text COLLATE "C" NOT NULL
        GENERATED ALWAYS AS (crm_party_text(name, email, company, phone)) STORED;
CREATE UNIQUE INDEX customers_live_email_key ON customers (tenant_id, email_folded) WHERE deleted_at IS NULL;
CREATE INDEX customers_live_name_idx ON customers (tenant_id, name_folded, id) WHERE deleted_at IS NULL;
CREATE INDEX customers_live_email_idx ON customers (tenant_id, email_folded, id) WHERE deleted_at IS NULL;
CREATE INDEX customers_live_company_idx ON customers (tenant_id, company_folded, id) WHERE deleted_at IS NULL;
ALTER TABLE contacts
    DROP COLUMN search_folded,
    ADD COLUMN search_folded text COLLATE "C" NOT NULL GENERATED ALWAYS AS (
        crm_party_text(coalesce(first_name, '') || ' ' || coalesce(last_name, ''), email, NULL, phone)) STORED;
ALTER TABLE tags
    DROP COLUMN name_folded,
    ADD COLUMN name_folded text COLLATE "C" NOT NULL GENERATED ALWAYS AS (crm_fold(name)) STORED,
    ADD CONSTRAINT tags_name_key UNIQUE (tenant_id, name_folded);
ALTER TABLE deals
    DROP COLUMN title_folded,
    ADD COLUMN title_folded text COLLATE "C" NOT NULL GENERATED ALWAYS AS (crm_fold(title)) STORED;
CREATE INDEX deals_live_title_idx ON deals (tenant_id, title_folded, id) WHERE deleted_at IS NULL;
ALTER TABLE activities
    DROP COLUMN title_folded,
    ADD COLUMN title_folded text COLLATE "C" NOT NULL GENERATED ALWAYS AS (crm_fold(title)) STORED;
CREATE INDEX activities_live_title_idx ON activities (tenant_id, title_folded, id) WHERE deleted_at IS NULL;
"""
NOTES = f"""
ALTER TABLE notes ADD COLUMN content_folded text COLLATE "C" NOT NULL
    GENERATED ALWAYS AS (left(crm_fold_search(content), {LONGEST_DOCUMENT})) STORED;
{rederived("notes", "note", ("content_folded",))}
"""
NOTES_BEFORE = f"""
{rederived("notes", "note", ())}
ALTER TABLE notes DROP COLUMN content_folded;
"""

DERIVED_COLUMNS_BEFORE = (
    DERIVED_COLUMNS.replace("crm_fold_email(", "crm_fold(")
    .replace(
        "crm_party_text(name, email, company, phone)",
        r"crm_fold(name || E'\n' || coalesce(email, '') || E'\n' || coalesce(company, ''))",
    )
    .replace(
        "crm_party_text(coalesce(first_name, '') || ' ' || coalesce(last_name, ''), email, NULL, phone)",
        "crm_fold(first_name || ' ' || coalesce(last_name, '')"
        r" || E'\n' || coalesce(email, '') || E'\n' || coalesce(phone, ''))",
    )
)

# The first of those that are alike keeps its key.
ALIKE_TAGS = """
SELECT tenant_id, id, name FROM (
    SELECT tenant_id, id, name, row_number() OVER (PARTITION BY tenant_id, crm_fold(name) ORDER BY id) AS place
    FROM tags
) AS ranked WHERE place > 1 ORDER BY tenant_id, id
"""
ALIKE_CUSTOMERS = """
SELECT tenant_id, id, email FROM (
    SELECT tenant_id, id, email, row_number() OVER (
        PARTITION BY tenant_id, crm_fold_email(email) ORDER BY created_at, id) AS place
    FROM customers WHERE deleted_at IS NULL AND email IS NOT NULL
) AS ranked WHERE place > 1 ORDER BY tenant_id, id
"""
# Row-level security binds the tables' owner too. The audit log's stays in force: each change is its tenant's.
CHANGED = ("tags", "customers", "notes")
RENAME_TAG = """
UPDATE tags SET name = (
    SELECT candidate FROM generate_series(2, 10000) AS n,
        LATERAL (SELECT left(tags.name, 100 - length(format(' (%%s)', n))) || format(' (%%s)', n)) AS c (candidate)
    WHERE NOT EXISTS (SELECT FROM tags AS other
                      WHERE other.tenant_id = tags.tenant_id AND crm_fold(other.name) = crm_fold(candidate))
    ORDER BY n LIMIT 1
) WHERE tenant_id = %s AND id = %s RETURNING name
"""
# Where the notes have no room for it, it becomes a note of its own.
MOVE_EMAIL = """
WITH moved AS (SELECT tenant_id, id, 'Email: ' || email AS line, notes FROM customers
               WHERE tenant_id = %(tenant)s AND id = %(id)s),
noted AS (INSERT INTO notes (tenant_id, customer_id, content, author_id, author_name)
          SELECT tenant_id, id, line, 'crm', 'crm db upgrade' FROM moved
          WHERE length(notes) + length(line) + 1 > 10000)
UPDATE customers SET email = NULL, notes = CASE
    WHEN customers.notes IS NULL THEN moved.line
    WHEN length(customers.notes) + length(moved.line) + 1 > 10000 THEN customers.notes
    ELSE customers.notes || E'\\n' || moved.line END
FROM moved WHERE customers.tenant_id = moved.tenant_id AND customers.id = moved.id
"""


def upgrade() -> None:
    folding.create()
    run("".join(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;" for table in CHANGED))
    _make_distinct()
    run("".join(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY;" for table in CHANGED))
    run("DROP FUNCTION crm_search(regclass, text, text)")
    run("".join(f"DROP INDEX IF EXISTS {table}_search_trgm_idx;" for table in DOCUMENTS))
    for statements in (PARTIES, GRAMS, DERIVED_COLUMNS, NOTES, SEARCH):
        run(statements)
    for table, document in DOCUMENTS.items():
        run(
            f'CREATE INDEX {table}_search_idx ON {table} USING gin (crm_grams({document}) COLLATE "C")'
            f" WITH (gin_pending_list_limit = {PENDING})"
        )


def _make_distinct() -> None:
    told = context.config.attributes.setdefault("told", [])
    for tenant, tag_id, name in rows(ALIKE_TAGS):
        act_in(tenant)
        ((renamed,),) = rows(RENAME_TAG, [tenant, tag_id])
        told.append(f"Tag {tag_id} of {tenant!r}, {name!r}, is alike another one: it is {renamed!r} now.")
    for tenant, customer_id, email in rows(ALIKE_CUSTOMERS):
        act_in(tenant)
        rows(MOVE_EMAIL, {"tenant": tenant, "id": customer_id})
        told.append(
            f"Customer {customer_id} of {tenant!r}: its email {email!r} is alike an older customer's, and stands"
            " in its notes now."
        )


def downgrade() -> None:
    run("".join(f"DROP INDEX {table}_search_idx;" for table in DOCUMENTS))
    run("DROP FUNCTION crm_search(text, text[], boolean, boolean, bigint)")
    run(CUSTOMERS.FOLD.replace("CREATE FUNCTION crm_fold(", "CREATE OR REPLACE FUNCTION crm_fold("))
    run(NOTES_BEFORE)
    run(DERIVED_COLUMNS_BEFORE)
    run("""
        DROP FUNCTION crm_sought_grams(text[]), crm_sought_patterns(text[]), crm_sought(text), crm_grams(text),
            crm_party_text(text, text, text, text), crm_phone_lines(text), crm_fold_search(text),
            crm_fold_search_letters(text), crm_fold_email(text), crm_fold_email_letters(text),
            crm_unicode_domain(text), crm_unpunycode(text), crm_fold_letters(text, boolean);
    """)
    # The function, and not the policy that goes with it. Of the indexes there are none before the next upgrade.
    run(CUSTOMERS.SEARCH.partition("CREATE POLICY")[0])
