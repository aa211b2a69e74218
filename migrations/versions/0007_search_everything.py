"""What the search over everything needs: deals by their titles alone, and snippets of long texts."""

from migrations.rules import owned_by, run

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The parameters are those of `searchable`.
TITLES = "crm_search_deal_titles(text, text[], text[], boolean, bigint, text[], text)"


def upgrade() -> None:
    run(f"""
        CREATE FUNCTION {TITLES} RETURNS SETOF bigint LANGUAGE sql STABLE AS $q$
            SELECT id FROM deals
            WHERE tenant_id = $1 AND crm_grams(crm_fold_search(title)) COLLATE "C" @> $2
                AND crm_fold_search(title) LIKE ALL ($3) AND (deleted_at IS NULL OR NOT $4)
            LIMIT $5
        $q$;
        {owned_by("crm_search", TITLES)}

        -- Some letters of a text around the first fragment; `folded` is the text as it is searched.
        CREATE FUNCTION crm_snippet(content text, folded text, fragments text[]) RETURNS text
        LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
        DECLARE
            place int := coalesce((
                SELECT min(nullif(strpos(folded, public.crm_fold_fragment(fragment)), 0))
                FROM unnest(fragments) AS fragment), 1);
            size int := char_length(content);
            start int := 0;
            passed int := 0;
            piece int;
        BEGIN
            IF char_length(folded) = size THEN
                start := place - 1;
            ELSE
                -- Folding makes several letters of some. So the place in the text is found by halves, each folded.
                WHILE size > 1 LOOP
                    size := (size + 1) / 2;
                    piece := char_length(public.crm_fold_search(substr(content, start + 1, size)));
                    IF passed + piece < place THEN
                        passed := passed + piece;
                        start := start + size;
                    END IF;
                END LOOP;
            END IF;
            start := greatest(start - 30, 1);
            RETURN CASE WHEN start > 1 THEN '…' ELSE '' END
                || btrim(regexp_replace(substr(content, start, 90), '\\s+', ' ', 'g'))
                || CASE WHEN start + 90 <= char_length(content) THEN '…' ELSE '' END;
        END $$;
        GRANT EXECUTE ON FUNCTION crm_snippet(text, text, text[]) TO crm_service;
    """)


def downgrade() -> None:
    run(f"DROP FUNCTION {TITLES}; DROP FUNCTION crm_snippet")
