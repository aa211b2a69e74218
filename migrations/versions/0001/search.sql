-- Search: how texts are folded and cut into grams, and the function that finds ids.

-- The digits of a phone number, without leading zeros and with them. They are stored as private-use Unicode characters,
-- so that only a search for a number finds them (app/web/search.py has the same characters).
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
        E'\n=' || ltrim(digits, '0') || E'\n' || digits, '0123456789=',
        E'\uE000\uE001\uE002\uE003\uE004\uE005\uE006\uE007\uE008\uE009\uE00A') END;
END $$;

-- What a search for a person or a company looks through.
CREATE FUNCTION crm_party_text(name text, email text, company text, phone text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN crm_fold_search(coalesce(name, '') || E'\n' || coalesce(email, '') || E'\n' || coalesce(company, '')
                       || E'\n' || coalesce(phone, ''))
    || coalesce(crm_phone_lines(phone), '')
    || CASE WHEN strpos(lower(email COLLATE "C"), 'xn--') > 0
            THEN E'\n' || crm_fold_search(crm_unicode_domain(lower(email COLLATE "C"))) ELSE '' END;

-- Every letter of a text, and every pair of letters: an index of them serves fragments of any length, on any server.
-- The cost tells the planner that they are not cheap to compute.
CREATE FUNCTION crm_grams(value text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 1000
RETURN string_to_array(value, NULL)
    || string_to_array(regexp_replace(value, '(..)', E'\\1\x01', 'g'), E'\x01')
    || string_to_array(regexp_replace(substr(value, 2), '(..)', E'\\1\x01', 'g'), E'\x01');

-- What somebody looks for, folded as the documents are. A label of a domain is decoded once it is whole.
CREATE FUNCTION crm_fold_fragment(fragment text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN coalesce(nullif(crm_fold_search(
    CASE WHEN lower(fragment COLLATE "C") ~ 'xn--[a-z0-9-]+[.]' THEN crm_unicode_domain(lower(fragment COLLATE "C"))
         ELSE fragment END), ''), fragment);
CREATE FUNCTION crm_fragment_patterns(fragments text[]) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY(SELECT '%' || regexp_replace(crm_fold_fragment(fragment), '([\\%_])', '\\\1', 'g') || '%'
             FROM unnest(fragments) AS fragment);
CREATE FUNCTION crm_fragment_grams(fragments text[]) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY(SELECT DISTINCT gram
             FROM unnest(fragments) AS fragment, unnest(crm_grams(crm_fold_fragment(fragment))) AS gram
             WHERE length(gram) = least(length(crm_fold_fragment(fragment)), 2));

-- Row-level security keeps LIKE and @> away from any index (they are not leakproof), so the search for ids runs as a
-- role of its own that sees all rows, and names the tenant itself. The rows it finds are read under row-level security
-- as ever. All fragments must be found, or with `every` false any of them; `live` leaves out the trash. Each searchable
-- table has a function crm_search_<table> with its query.
CREATE FUNCTION crm_search(resource text, fragments text[], every boolean, live boolean, most bigint)
RETURNS SETOF bigint LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 100
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET work_mem = '32MB'
SET max_parallel_workers_per_gather = 0 AS $$
DECLARE
    query text := (
        SELECT format('SELECT * FROM %I($1, $2, $3, $4, $5, $6, $7)', proname)
        FROM pg_proc WHERE proname = 'crm_search_' || resource AND pronamespace = 'public'::regnamespace
    );
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
        grams := crm_fragment_grams(wanted);
        patterns := crm_fragment_patterns(wanted);
        longest_grams := grams;
        longest_pattern := patterns[1];
        IF cardinality(wanted) > 1 THEN
            longest := ARRAY(SELECT fragment FROM unnest(wanted) AS fragment ORDER BY length(fragment) DESC LIMIT 1);
            longest_grams := crm_fragment_grams(longest);
            longest_pattern := (crm_fragment_patterns(longest))[1];
        END IF;
        RETURN QUERY EXECUTE query
        USING current_setting('crm.tenant', true), grams, patterns, live, most, longest_grams, longest_pattern;
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION crm_search(text, text[], boolean, boolean, bigint) TO crm_service;
