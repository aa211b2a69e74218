"""Case folding as functions of the database, which decide which texts are equal.

Folded keys are stored, so the result must not change when PostgreSQL or ICU is upgraded; and PostgreSQL 15 has no case
folding. So the table is our own: case_folding.txt, from Unicode. A later version of Unicode needs a migration.
"""

from bisect import bisect
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from migrations.rules import run

TABLE = Path(__file__).with_name("case_folding.txt")
# Where scripts begin: Latin, its extensions, Greek, Cyrillic, Armenian and others, more Latin, more Greek, the rest.
# Only the scripts that occur in a text cost time. PostgreSQL caches 32 compiled regular expressions: more would be
# slow.
SCRIPTS = (0x80, 0x100, 0x370, 0x400, 0x530, 0x1E00, 0x1F00, 0x2000)
# Characters that Unicode does not decompose, but that people replace by plain ones in a search: letters with strokes
# (as in Polish and Danish), the dotless i, curly quotes, other dashes, digits of other scripts.
ALSO_ALIKE = {
    "\u0142\u0141\u00f8\u00d8\u0111\u0110\u0127\u0126\u0167\u0166\u0131": "lLoOdDhHtTi",
    "\u2018\u2019\u02bc\u2032": "''''",
    "\u2010\u2011\u2012\u2013\u2014\u2212": "------",
    "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669": "0123456789",
    "\u06f0\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6\u06f7\u06f8\u06f9": "0123456789",
}
# Accents, and invisible characters that come with pasted text.
LEFT_OUT = r"\u0300-\u036f\u00ad\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"

ASCII = "octet_length(value) = char_length(value)"
SLOW = "LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE"


def create() -> None:
    """Make `crm_fold` for keys and sorting, `crm_fold_email` for addresses, and `crm_fold_search` for search."""
    plain_address = f"{ASCII} AND strpos(lower(value COLLATE \"C\"), 'xn--') = 0"
    for statement in (
        _letters(),
        _fast("crm_fold", ASCII, "crm_fold_letters(value, true)"),
        PUNYCODE,
        EMAIL_LETTERS,
        _fast("crm_fold_email", plain_address, "crm_fold_email_letters(value)"),
        _search_letters(),
        _fast("crm_fold_search", ASCII, "crm_fold_search_letters(value)"),
    ):
        run(statement)


def _fast(name: str, plain: str, otherwise: str) -> str:
    # Not STRICT, because PostgreSQL would then not inline the function.
    return f"""
        CREATE FUNCTION {name}(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN CASE WHEN {plain} THEN lower(value COLLATE "C") ELSE {otherwise} END"""


def _table() -> tuple[dict[int, str], dict[int, str]]:
    """Unicode's simple case folding (one letter to one letter), and its full one (one letter to several)."""
    simple: dict[int, str] = {}
    full: dict[int, str] = {}
    for line in TABLE.read_text().splitlines():
        if line.startswith("#"):
            continue
        code, status, mapping = line.split("; ")
        (full if status == "F" else simple)[int(code, 16)] = "".join(chr(int(each, 16)) for each in mapping.split())
    return simple, full


def _letters() -> str:
    simple, full = _table()
    blocks = [list(block) for _, block in groupby(sorted(simple), lambda code: bisect(SCRIPTS, code))]
    latin, *others = blocks
    longer = "\n".join(f"folded := replace(folded, {_quoted(chr(code))}, {_quoted(full[code])});" for code in full)
    return f"""
        CREATE FUNCTION crm_fold_letters(value text, in_full boolean) RETURNS text {SLOW} AS $$
        DECLARE
            folded text COLLATE "C" :=
                lower(CASE WHEN value IS NFC NORMALIZED THEN value ELSE normalize(value, NFC) END COLLATE "C");
        BEGIN
            IF in_full THEN
                folded := replace(folded, '\u00df', 'ss');
                IF folded ~ '{_class(code for code in full if code > SCRIPTS[1])}' THEN
                    {longer}
                END IF;
            END IF;
            {_translated(latin, simple)}
            IF folded ~ '{_class(code for block in others for code in block)}' THEN
                {"".join(_translated(block, simple) for block in others)}
            END IF;
            RETURN CASE WHEN folded IS NFC NORMALIZED THEN folded ELSE normalize(folded, NFC) END;
        END $$"""


def _translated(block: list[int], simple: dict[int, str]) -> str:
    from_, to = "".join(map(chr, block)), "".join(simple[code] for code in block)
    return f"""
                IF folded ~ '{_class(block)}' THEN
                    folded := translate(folded, {_quoted(from_)}, {_quoted(to)});
                END IF;"""


def _search_letters() -> str:
    from_, to = "".join(ALSO_ALIKE), "".join(ALSO_ALIKE.values())
    return f"""
        CREATE FUNCTION crm_fold_search_letters(value text) RETURNS text {SLOW} AS $$
        DECLARE
            bare text COLLATE "C" := regexp_replace(normalize(value, NFKD) COLLATE "C", '[{LEFT_OUT}]+', '', 'g');
        BEGIN
            IF bare ~ '{_class(map(ord, from_ + chr(0xE6) + chr(0xC6) + chr(0x153) + chr(0x152)))}' THEN
                bare := translate(bare, {_quoted(from_)}, {_quoted(to)});
                bare := replace(replace(bare, '\u00e6', 'ae'), '\u00c6', 'AE');
                bare := replace(replace(bare, '\u0153', 'oe'), '\u0152', 'OE');
            END IF;
            RETURN public.crm_fold_letters(bare, true);
        END $$"""


def _class(codes: Iterable[int]) -> str:
    """The codes as a class of a regular expression."""
    members = set(codes)
    starts = sorted(code for code in members if code - 1 not in members)
    ends = sorted(code for code in members if code + 1 not in members)
    return "[" + "".join(f"{_escaped(start)}-{_escaped(end)}" for start, end in zip(starts, ends, strict=True)) + "]"


def _escaped(code: int) -> str:
    return f"\\U{code:08X}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# RFC 3492. A label that is not valid Punycode, or that decodes to ASCII only, is returned unchanged.
PUNYCODE = f"""
CREATE FUNCTION crm_decode_punycode(label text) RETURNS text {SLOW} AS $$
DECLARE
    digits CONSTANT text := 'abcdefghijklmnopqrstuvwxyz0123456789';
    coded text := substr(label, 5);
    cut int := length(coded) - strpos(reverse(coded), '-');
    codes int[] := '{{}}';
    code bigint := 128;
    place bigint := 0;
    bias int := 72;
    position int;
    before bigint;
    weight bigint;
    digit int;
    threshold int;
    delta bigint;
    step int;
BEGIN
    IF length(label) > 63 OR label !~ '^xn--[a-z0-9-]+$' THEN
        RETURN label;
    END IF;
    IF strpos(coded, '-') > 0 THEN
        SELECT array_agg(ascii(letter) ORDER BY n) INTO codes
        FROM regexp_split_to_table(substr(coded, 1, cut), '') WITH ORDINALITY AS letters (letter, n) WHERE letter <> '';
        codes := coalesce(codes, '{{}}');
        position := cut + 2;
    ELSE
        position := 1;
    END IF;
    WHILE position <= length(coded) LOOP
        before := place;
        weight := 1;
        step := 36;
        LOOP
            digit := strpos(digits, substr(coded, position, 1)) - 1;
            IF position > length(coded) OR digit < 0 OR weight > 2147483647 THEN
                RETURN label;
            END IF;
            position := position + 1;
            place := place + digit * weight;
            threshold := greatest(1, least(26, step - bias));
            EXIT WHEN digit < threshold;
            weight := weight * (36 - threshold);
            step := step + 36;
        END LOOP;
        delta := (place - before) / CASE before WHEN 0 THEN 700 ELSE 2 END;
        delta := delta + delta / (cardinality(codes) + 1);
        bias := 0;
        WHILE delta > 455 LOOP
            delta := delta / 35;
            bias := bias + 36;
        END LOOP;
        bias := bias + 36 * delta / (delta + 38);
        code := code + place / (cardinality(codes) + 1);
        place := place % (cardinality(codes) + 1);
        IF code > 1114111 OR code BETWEEN 55296 AND 57343 THEN
            RETURN label;
        END IF;
        codes := codes[:place] || code::int || codes[place + 1:];
        place := place + 1;
    END LOOP;
    IF code = 128 THEN
        RETURN label;
    END IF;
    RETURN (SELECT string_agg(chr(each), '' ORDER BY n) FROM unnest(codes) WITH ORDINALITY AS decoded (each, n));
END $$
"""

# In the local part, simple folding: \u00df is not ss there. The ideographic dots separate labels too. Calls name the
# schema, because a dump is restored without a search path.
EMAIL_LETTERS = f"""
CREATE FUNCTION crm_unicode_domain(value text) RETURNS text {SLOW} AS $$
DECLARE
    label text;
BEGIN
    FOR label IN SELECT matched[1] FROM regexp_matches(value, '(?:^|[.@])(xn--[a-z0-9-]+)', 'g') AS matched LOOP
        value := replace(value, label, public.crm_decode_punycode(label));
    END LOOP;
    RETURN value;
END $$;
CREATE FUNCTION crm_fold_email_letters(value text) RETURNS text {SLOW} AS $$
DECLARE
    cut int := length(value) - strpos(reverse(value), '@') + 1;
    domain text := translate(normalize(substr(value, cut + 1), NFKC), '\u3002\uff0e\uff61', '...');
BEGIN
    IF strpos(value, '@') = 0 THEN
        RETURN public.crm_fold_letters(value, false);
    END IF;
    RETURN public.crm_fold_letters(substr(value, 1, cut - 1), false) || '@'
        || public.crm_fold_letters(public.crm_unicode_domain(lower(domain COLLATE "C")), true);
END $$
"""
