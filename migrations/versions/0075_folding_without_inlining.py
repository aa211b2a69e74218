"""What each new row is folded by is called, and not put in place of the call.

PostgreSQL puts a SQL function's expression in place of a call when it plans, and it plans a stored column's expression
for each statement. That took longer than to fold the values: a fifth of what a new customer costs the database.
"""

from migrations.rules import run

revision = "0075"
down_revision = "0071"
branch_labels = None
depends_on = None

# By function: its result, how the planner sees a call, and its expression. A call in place of an expression is not to
# change a plan.
FUNCTIONS = {
    "crm_fold(value text)": (
        "text",
        "COST 1",
        """CASE WHEN octet_length(value) = char_length(value) THEN lower(value COLLATE "C")
         ELSE public.crm_fold_letters(value, true) END""",
    ),
    "crm_fold_email(value text)": (
        "text",
        "COST 1",
        """CASE WHEN octet_length(value) = char_length(value) AND strpos(lower(value COLLATE "C"), 'xn--') = 0
         THEN lower(value COLLATE "C") ELSE public.crm_fold_email_letters(value) END""",
    ),
    "crm_party_text(name text, email text, company text, phone text)": (
        "text",
        "COST 1",
        r"""public.crm_fold_search(coalesce(name, '') || E'\n' || coalesce(email, '') || E'\n' || coalesce(company, '')
                             || E'\n' || coalesce(phone, ''))
        || coalesce(public.crm_phone_lines(phone), '')
        || CASE WHEN strpos(lower(email COLLATE "C"), 'xn--') > 0
                THEN E'\n' || public.crm_fold_search(public.crm_unicode_domain(lower(email COLLATE "C")))
                ELSE '' END""",
    ),
    "crm_grams(value text)": (
        "text[]",
        "STRICT COST 1000",
        r"""string_to_array(value, NULL)
        || string_to_array(regexp_replace(value, '(..)', E'\\1\x01', 'g'), E'\x01')
        || string_to_array(regexp_replace(substr(value, 2), '(..)', E'\\1\x01', 'g'), E'\x01')""",
    ),
}


def upgrade() -> None:
    for function, (result, options, expression) in FUNCTIONS.items():
        run(f"""
CREATE OR REPLACE FUNCTION {function} RETURNS {result} LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE {options} AS $$
BEGIN
    RETURN {expression};
END $$
""")


def downgrade() -> None:
    for function, (result, options, expression) in FUNCTIONS.items():
        usual = options if "STRICT" in options else ""
        run(f"""
CREATE OR REPLACE FUNCTION {function} RETURNS {result} LANGUAGE sql IMMUTABLE PARALLEL SAFE {usual}
RETURN {expression}
""")
