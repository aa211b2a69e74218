"""Which records may be the same, as the database keeps it: brought up to date for some records at a time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import TextClause, text

from app.admin.duplicates.matching import LOOKED_UP, Group, Pair, Party, compare, grouped, keys_of, of_key
from app.admin.duplicates.schemas import MOST_MEMBERS
from app.db.session import Session
from app.db.statements import unprepared

# What more records have in common tells nothing of any two of them.
MOST_WITH_A_KEY = 20

Keys = Mapping[int, frozenset[int]]


def _statement(sql: str) -> TextClause:
    """A plan that is kept, and was made while the table was small, would go through all of it for each key."""
    return unprepared(text(sql))


PARTIES = {
    "customers": text("""
        SELECT id, name, email, phone, website, company, kind FROM customers
        WHERE id = ANY(CAST(:ids AS bigint[])) AND deleted_at IS NULL
    """),
    "contacts": text("""
        SELECT id, btrim(concat(first_name, ' ', last_name)), email, phone, NULL, NULL, NULL, customer_id FROM contacts
        WHERE id = ANY(CAST(:ids AS bigint[])) AND deleted_at IS NULL
    """),
}
COUNTRY = text("SELECT country FROM settings")
# Tables that are new, or small yet, are not gone through either.
BY_INDEX = text("""
    SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true)
""")
# Nobody else of the tenant writes these tables until the transaction ends.
LOCK = text("SELECT FROM duplicate_states FOR UPDATE")
KEYS = _statement("""
    SELECT record_id, array_agg(key) FROM duplicate_keys
    WHERE record_id = ANY(CAST(:ids AS bigint[])) AND kind = :kind GROUP BY record_id
""")
DELETE_KEYS = _statement("""
    DELETE FROM duplicate_keys WHERE record_id = ANY(CAST(:ids AS bigint[])) AND kind = :kind
""")
INSERT_KEYS = text("""
    INSERT INTO duplicate_keys (tenant_id, kind, key, record_id)
    SELECT current_setting('crm.tenant'), :kind, key, id
    FROM unnest(CAST(:keys AS bigint[]), CAST(:ids AS bigint[])) AS made (key, id)
""")
# By key, the records that have it; without those that only one has, or too many.
SHARED = _statement("""
    SELECT wanted.key, owners.ids FROM unnest(CAST(:keys AS bigint[])) AS wanted (key) CROSS JOIN LATERAL (
        SELECT array_agg(record_id) AS ids FROM (
            SELECT record_id FROM duplicate_keys WHERE kind = :kind AND key = wanted.key LIMIT :most + 1
        ) AS found
    ) AS owners
    WHERE cardinality(owners.ids) BETWEEN 2 AND :most
""")
DELETE_PAIRS = _statement("""
    DELETE FROM duplicate_pairs WHERE kind = :kind AND dismissed_at IS NULL
        AND (record_id = ANY(CAST(:ids AS bigint[])) OR other_id = ANY(CAST(:ids AS bigint[])))
    RETURNING record_id, other_id, group_id
""")
# Of records that are gone for good, no dismissal is kept.
DELETE_DISMISSED = _statement("""
    DELETE FROM duplicate_pairs WHERE kind = :kind
        AND (record_id = ANY(CAST(:ids AS bigint[])) OR other_id = ANY(CAST(:ids AS bigint[])))
""")
INSERT_PAIRS = text("""
    INSERT INTO duplicate_pairs (tenant_id, kind, record_id, other_id, score, reasons)
    SELECT current_setting('crm.tenant'), :kind, record_id, other_id, score, string_to_array(reasons, E'\\n')
    FROM unnest(CAST(:ones AS bigint[]), CAST(:others AS bigint[]), CAST(:scores AS smallint[]),
        CAST(:reasons AS text[])) AS made (record_id, other_id, score, reasons)
    ON CONFLICT DO NOTHING
""")
DISMISS_PAIRS = _statement("""
    INSERT INTO duplicate_pairs (tenant_id, kind, record_id, other_id, score, reasons, dismissed_at, dismissed_by)
    SELECT current_setting('crm.tenant'), :kind, record_id, other_id, 0, '{}', now(),
        nullif(current_setting('crm.user', true), '')
    FROM unnest(CAST(:ids AS bigint[])) AS one (record_id)
        JOIN unnest(CAST(:ids AS bigint[])) AS another (other_id) ON record_id < other_id
    ON CONFLICT (tenant_id, kind, record_id, other_id) DO UPDATE
        SET dismissed_at = excluded.dismissed_at, dismissed_by = excluded.dismissed_by, group_id = NULL
        WHERE duplicate_pairs.dismissed_at IS NULL
""")
GROUPS_OF = _statement("""
    SELECT DISTINCT group_id FROM duplicate_pairs WHERE kind = :kind AND group_id IS NOT NULL
        AND (record_id = ANY(CAST(:ids AS bigint[])) OR other_id = ANY(CAST(:ids AS bigint[])))
""")
DELETE_GROUPS = text("""
    DELETE FROM duplicate_groups WHERE kind = :kind AND id = ANY(CAST(:groups AS bigint[])) RETURNING members
""")
PAIRS_AMONG = _statement("""
    SELECT record_id, other_id, score, reasons, dismissed_at IS NOT NULL FROM duplicate_pairs
    WHERE kind = :kind AND record_id = ANY(CAST(:ids AS bigint[]))
        AND other_id = ANY(CAST(:ids AS bigint[]))
""")
INSERT_GROUP = text("""
    INSERT INTO duplicate_groups (tenant_id, kind, score, reasons, members)
    VALUES (current_setting('crm.tenant'), :kind, :score, CAST(:reasons AS text[]), CAST(:members AS bigint[]))
    RETURNING id
""")
JOIN_GROUPS = _statement("""
    UPDATE duplicate_pairs AS pair SET group_id = made.group_id
    FROM unnest(CAST(:ones AS bigint[]), CAST(:others AS bigint[]), CAST(:groups AS bigint[]))
        AS made (record_id, other_id, group_id)
    WHERE kind = :kind AND pair.record_id = made.record_id AND pair.other_id = made.other_id
        AND pair.group_id IS DISTINCT FROM made.group_id
""")


async def country_of(session: Session) -> str | None:
    """The tenant's country, in which phone numbers are read that name none."""
    country: str | None = (await session.execute(COUNTRY)).scalar_one_or_none()
    return country


async def refresh(session: Session, kind: str, ids: Collection[int], country: str | None) -> None:
    """Compare these records with the others, if what counts of them has changed; some may be gone. Raises AppError.

    Whoever calls it has executed BY_INDEX, and holds the tenant's row of duplicate_states.
    """
    wanted = sorted(set(ids))
    parties = await _parties(session, kind, wanted)
    before = await _stored_keys(session, kind, wanted)
    # It takes some time of the processor, while others are served.
    now = await asyncio.to_thread(lambda: {each.id: keys_of(each, country) for each in parties.values()})
    # Of one that is gone, the keys may be gone already.
    changed = [each for each in wanted if each not in now or now[each] != before.get(each)]
    if not changed:
        return
    await _store_keys(session, kind, changed, now)
    shared = await _shared(session, kind, {key for record_id in changed for key in now.get(record_id, ())})
    near = {owner for owners in shared.values() for owner in owners} - parties.keys()
    parties |= await _parties(session, kind, sorted(near))
    keys = {**await _stored_keys(session, kind, sorted(near)), **now}
    found = await asyncio.to_thread(_compare, set(changed) & now.keys(), parties, keys, shared)
    await _replace_pairs(session, kind, changed, found)


async def forget(session: Session, kind: str, ids: Sequence[int]) -> None:
    """Records that are gone, such as those that were merged into another one, are like none. Raises AppError."""
    await _lock(session)
    await session.execute(DELETE_KEYS, {"kind": kind, "ids": ids})
    await _replace_pairs(session, kind, ids, [])


async def _lock(session: Session) -> None:
    await session.execute(BY_INDEX)
    await session.execute(LOCK)


async def forget_dismissals(session: Session, kind: str, ids: Sequence[int]) -> None:
    """Of records that are gone for good, nothing is kept. Raises AppError."""
    await session.execute(DELETE_DISMISSED, {"kind": kind, "ids": ids})


async def dismiss(session: Session, kind: str, ids: Sequence[int]) -> None:
    """These are different: none of them is shown with another one of them any more. Raises AppError."""
    await _lock(session)
    groups = await _groups_of(session, kind, ids)
    await session.execute(DISMISS_PAIRS, {"kind": kind, "ids": ids})
    await _group_anew(session, kind, ids, groups)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _parties(session: Session, kind: str, ids: Sequence[int]) -> dict[int, Party]:
    found = await session.execute(PARTIES[kind], {"ids": ids})
    return {row[0]: Party(*row) for row in found}


async def _stored_keys(session: Session, kind: str, ids: Sequence[int]) -> dict[int, frozenset[int]]:
    found = await session.execute(KEYS, {"kind": kind, "ids": ids})
    return {record_id: frozenset(keys) for record_id, keys in found}


async def _shared(session: Session, kind: str, keys: Iterable[int]) -> dict[int, list[int]]:
    looked_up = [key for key in keys if of_key(key) in LOOKED_UP]
    found = await session.execute(SHARED, {"kind": kind, "keys": looked_up, "most": MOST_WITH_A_KEY})
    return dict(found.all())


async def _groups_of(session: Session, kind: str, ids: Sequence[int]) -> set[int]:
    return set((await session.execute(GROUPS_OF, {"kind": kind, "ids": ids})).scalars().all())


def _compare(
    changed: set[int], parties: Mapping[int, Party], keys: Keys, shared: Mapping[int, Sequence[int]]
) -> list[Pair]:
    met = {
        (min(one, other), max(one, other))
        for owners in shared.values()
        for one in owners
        if one in changed
        for other in owners
        if other != one and other in parties
    }
    found = []
    for one, other in sorted(met):
        likeness = compare(parties[one], parties[other], keys.get(one, frozenset()), keys.get(other, frozenset()))
        if likeness is not None:
            found.append(Pair(one, other, likeness.score, likeness.reasons))
    return found


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _store_keys(session: Session, kind: str, ids: Sequence[int], now: Keys) -> None:
    await session.execute(DELETE_KEYS, {"kind": kind, "ids": ids})
    made = [(key, record_id) for record_id in ids for key in sorted(now.get(record_id, ()))]
    given = {"kind": kind, "keys": [key for key, _ in made], "ids": [record_id for _, record_id in made]}
    await session.execute(INSERT_KEYS, given)


async def _replace_pairs(session: Session, kind: str, ids: Sequence[int], found: Sequence[Pair]) -> None:
    """Let these records have these pairs, but for those that somebody dismissed."""
    gone = (await session.execute(DELETE_PAIRS, {"kind": kind, "ids": ids})).all()
    near = {*ids, *(each for one, other, _ in gone for each in (one, other))}
    near |= {each for pair in found for each in (pair.record_id, pair.other_id)}
    groups = {group for _, _, group in gone if group is not None} | await _groups_of(session, kind, sorted(near))
    if found:
        given = {
            "kind": kind,
            "ones": [pair.record_id for pair in found],
            "others": [pair.other_id for pair in found],
            "scores": [pair.score for pair in found],
            "reasons": ["\n".join(pair.reasons) for pair in found],
        }
        await session.execute(INSERT_PAIRS, given)
    await _group_anew(session, kind, near, groups)


async def _group_anew(session: Session, kind: str, near: Iterable[int], groups: Collection[int]) -> None:
    """Put these records, and those of these groups, into groups again."""
    members = set(near)
    if groups:
        dissolved = await session.execute(DELETE_GROUPS, {"kind": kind, "groups": sorted(groups)})
        members |= {member for (ids,) in dissolved for member in ids}
    rows = (await session.execute(PAIRS_AMONG, {"kind": kind, "ids": sorted(members)})).all()
    pairs = [Pair(*row) for *row, dismissed in rows if not dismissed]
    apart = {(one, other) for one, other, *_, dismissed in rows if dismissed}
    made: dict[tuple[int, int], int | None] = {(pair.record_id, pair.other_id): None for pair in pairs}
    for group in grouped(pairs, MOST_MEMBERS, apart):
        group_id = await _store_group(session, kind, group)
        made |= dict.fromkeys(((pair.record_id, pair.other_id) for pair in group.pairs), group_id)
    if made:
        ones, others = zip(*made, strict=True)
        given: dict[str, Any] = {"kind": kind, "ones": list(ones), "others": list(others)}
        await session.execute(JOIN_GROUPS, given | {"groups": list(made.values())})


async def _store_group(session: Session, kind: str, group: Group) -> int:
    given = {"kind": kind, "score": group.score, "reasons": group.reasons, "members": group.members}
    return int((await session.execute(INSERT_GROUP, given)).scalar_one())


def by_kind(named: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """Ids by kind."""
    found: dict[str, list[int]] = defaultdict(list)
    for kind, record_id in named:
        found[kind].append(record_id)
    return found
