"""How alike two records are, and by which keys one finds those that may be: pure functions of what records say.

Records with a key in common are compared; those without are not. What has too many owners to tell anything, such as a
name that a hundred people have, is no reason to compare them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from itertools import permutations
from typing import NamedTuple
from urllib.parse import urlsplit

from anyascii import anyascii

from app.admin.duplicates.words import (
    FAMILIES,
    FILLERS,
    LEGAL_FORMS,
    LEGAL_FORMS_UNSPACED,
    NICKNAMES,
    PUBLIC_DOMAINS,
    TITLES,
    WITHOUT_DOTS,
)

# Out of 100: what is shown.
LOWEST_SCORE = 60
# Names that differ by more letters are not similar, or by more than these parts of a hundred.
MOST_LETTERS, LOWEST_RATIO = 2, 85
# Two people with names that have so little in common are not one person.
DIFFERENT_RATIO = 50
VOWELS = re.compile(r"(?<!^)(?<! )[aeiouy]+")
REPEATED = re.compile(r"(.)\1+")
INITIAL = re.compile(r"\b(\w)\.")
APOSTROPHES = re.compile("['`\u2019\u00b4\u02bc]")
WORDS = re.compile(r"[a-z0-9]+")
DIGITS = re.compile(r"\d+")
KINDS_OF_KEYS = 8


class Of(IntEnum):
    """What a key is of."""

    EMAIL = 0
    PHONE = 1
    DOMAIN = 2
    NAME = 3
    # These find names that differ by few letters.
    CONSONANTS = 4
    WORD = 5
    # Nothing is found by it. When it changes, the record is compared anew.
    REST = 7


LOOKED_UP = frozenset(Of) - {Of.REST}


class Party(NamedTuple):
    """What a customer or a contact says of itself. `kind` and `company` are a customer's, `customer_id` a contact's."""

    id: int
    name: str
    email: str | None
    phone: str | None
    website: str | None = None
    company: str | None = None
    kind: str | None = None
    customer_id: int | None = None

    @property
    def is_contact(self) -> bool:
        """Whether it is a contact: a person of a customer."""
        return self.customer_id is not None


class Name(NamedTuple):
    """A name without what does not count: case, accents, script, order, titles, legal forms. `full` has the long forms
    of short names, and `written` these in the order in which they were written.
    """

    words: tuple[str, ...]
    full: tuple[str, ...]
    written: str
    has_legal_form: bool

    @property
    def text(self) -> str:
        """As one text, to be compared."""
        return " ".join(self.full)


class Likeness(NamedTuple):
    """How sure it is, out of 100, and why."""

    score: int
    reasons: list[str]


# ── what is compared ─────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(4096)
def read_name(name: str, *, is_person: bool = False) -> Name:
    """A name as it is compared. Of one that nothing would be left of, everything counts."""
    plain, unspaced = name, False
    if not is_person:
        for form in LEGAL_FORMS_UNSPACED:
            plain = plain.replace(form, " ")
        unspaced = plain != name
    plain = anyascii(APOSTROPHES.sub("", INITIAL.sub(r"\1", plain))).casefold()
    every: list[str] = WORDS.findall(APOSTROPHES.sub("", plain)) or [name]
    words = list(every)
    while words and words[0] in TITLES:
        words.pop(0)
    legal = False
    if not is_person:
        # At the ends only, so that what is called after a legal form keeps its name.
        words = [word for word in words if word not in FILLERS] or words
        while len(words) > 1 and words[-1] in LEGAL_FORMS:
            words.pop()
            legal = True
        while len(words) > 1 and words[0] in LEGAL_FORMS:
            words.pop(0)
            legal = True
    kept = words or every
    full = [NICKNAMES.get(word, word) for word in kept]
    return Name(tuple(sorted(kept)), tuple(sorted(full)), " ".join(full), legal or unspaced)


def read_email(email: str | None) -> tuple[str, str] | None:
    """Whose mailbox an address is, without what comes after a plus; and its domain."""
    if not email or "@" not in email:
        return None
    local, _, domain = email.casefold().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in WITHOUT_DOTS:
        local, domain = local.replace(".", ""), "gmail.com"
    return f"{local}@{domain}", domain


def read_website(website: str | None) -> str | None:
    """The domain of a website."""
    if not website:
        return None
    try:
        host = urlsplit(website).hostname
    except ValueError:
        return None
    return host and host.casefold().rstrip(".").removeprefix("www.")


@lru_cache(4096)
def read_phone(phone: str | None, country: str | None) -> str | None:
    """The number in E.164, or its digits where nobody knows the country; None if it is none."""
    if not phone:
        return None
    # Inside the function, as what compares is below: a process that serves compares nothing, and need not load 10 MB.
    import phonenumbers

    try:
        number = phonenumbers.parse(phone, country)
    except phonenumbers.NumberParseException:
        digits = "".join(DIGITS.findall(phone))
        return digits.lstrip("0") if len(digits) >= 7 else None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def is_public(domain: str) -> bool:
    """Whether anybody may have an address there."""
    return domain in PUBLIC_DOMAINS or domain.partition(".")[0] in FAMILIES


def _domains(party: Party) -> set[str]:
    found = {read_website(party.website)}
    if mailbox := read_email(party.email):
        found.add(mailbox[1])
    return {domain for domain in found if domain and not is_public(domain)}


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def keys_of(party: Party, country: str | None) -> frozenset[int]:
    """What others may have in common with this one."""
    return frozenset(_key(of, text) for of, text in _texts(party, country))


def of_key(key: int) -> Of:
    """What a key is of."""
    return Of(key % KINDS_OF_KEYS)


def _texts(party: Party, country: str | None) -> Iterator[tuple[Of, str]]:
    if mailbox := read_email(party.email):
        yield Of.EMAIL, mailbox[0]
    if phone := read_phone(party.phone, country):
        yield Of.PHONE, phone
    for domain in _domains(party):
        yield Of.DOMAIN, domain
    full = _name(party).full
    yield Of.NAME, " ".join(full)
    yield Of.CONSONANTS, REPEATED.sub(r"\1", VOWELS.sub("", " ".join(full)))
    # With a slip in one word, another one still leads to the name: with the first letter of a second one, since a
    # single word has too many owners.
    for word, other in permutations(sorted(set(full), key=lambda word: (len(word), word))[-3:], 2):
        yield Of.WORD, f"{word} {other[0]}"
    yield Of.REST, f"{party.name}\n{party.company}\n{party.kind}\n{party.customer_id}"


def _key(of: Of, text: str) -> int:
    number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)
    return number - number % KINDS_OF_KEYS + of


# ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def compare(one: Party, other: Party, keys: frozenset[int], other_keys: frozenset[int]) -> Likeness | None:
    """How alike two records are; None if they are not."""
    # Inside the function: see read_phone.
    from rapidfuzz import fuzz

    common = {of_key(key) for key in keys & other_keys}
    name, other_name = _name(one), _name(other)
    are_companies = _is_company(one, name) and _is_company(other, other_name)
    ratio = max(fuzz.ratio(name.text, other_name.text), fuzz.ratio(name.written, other_name.written))
    same_name = name.words == other_name.words
    similar = not same_name and _are_similar(name, other_name, ratio)
    evidence: list[tuple[str, float]] = []
    if Of.EMAIL in common:
        evidence.append(("same email", 0.95))
    if Of.PHONE in common:
        evidence.append(("same phone", 0.4 if one.is_contact else 0.7))
    named = "same name" if same_name else "similar name" if similar else None
    where = _common_place(one, other, common)
    if named:
        weights = (0.5, 0.4) if one.is_contact else (0.8, 0.65) if are_companies else (0.6, 0.6)
        evidence.append((f"{named}, {where}" if where else named, weights[not same_name]))
    elif where == "same domain" and are_companies:
        evidence.append((where, 0.7))
    doubt = 1.0
    for _, worth in evidence:
        doubt *= 1 - worth
    if named and where:
        doubt *= 0.45 if where == "same domain" else 0.3
    score = (1 - doubt) * _trust(one, other, common, (keys, other_keys), ratio=ratio, named=bool(named))
    percent = round(score * 100)
    return Likeness(percent, [reason for reason, _ in evidence]) if percent >= LOWEST_SCORE else None


def _common_place(one: Party, other: Party, common: set[Of]) -> str | None:
    """Where both are."""
    if one.is_contact and one.customer_id == other.customer_id:
        return "same customer"
    if one.company and other.company and read_name(one.company).words == read_name(other.company).words:
        return "same company"
    return "same domain" if Of.DOMAIN in common and Of.EMAIL not in common else None


def _trust(
    one: Party,
    other: Party,
    common: set[Of],
    both: tuple[frozenset[int], frozenset[int]],
    *,
    ratio: float,
    named: bool,
) -> float:
    """How much what they have in common is worth, with what speaks against it."""
    trust = 1.0
    for of in (Of.EMAIL, Of.PHONE):
        if of not in common and all(any(of_key(key) is of for key in keys) for keys in both):
            # Colleagues have an address each.
            trust *= 0.7 if one.is_contact and of is Of.EMAIL else 0.85
    if {one.kind, other.kind} == {"person", "organization"}:
        trust *= 0.5
    are_people = not _is_company(one, _name(one)) and not _is_company(other, _name(other))
    if not named and Of.EMAIL not in common and are_people and ratio < DIFFERENT_RATIO:
        trust *= 0.6
    return trust


def _are_similar(name: Name, other: Name, ratio: float) -> bool:
    """Whether names differ by a nickname or by few letters, and by no number."""
    if name.full == other.full:
        return True
    if ratio < LOWEST_RATIO or DIGITS.findall(name.text) != DIGITS.findall(other.text):
        return False
    # Inside the function: see read_phone.
    from rapidfuzz.distance import OSA

    # A slip in the first letter of a word changes the order of the words.
    return any(
        OSA.distance(one, another, score_cutoff=MOST_LETTERS) <= MOST_LETTERS
        for one, another in ((name.text, other.text), (name.written, other.written))
    )


def _name(party: Party) -> Name:
    return read_name(party.name, is_person=party.is_contact or party.kind == "person")


def _is_company(party: Party, name: Name) -> bool:
    if party.is_contact or party.kind is not None:
        return party.kind == "organization"
    return name.has_legal_form or (bool(party.company) and read_name(party.company or "").words == name.words)


# ── groups ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Pair(NamedTuple):
    """Two records that may be the same."""

    record_id: int
    other_id: int
    score: int
    reasons: list[str]


class Group(NamedTuple):
    """Records that hang together. The score and the reasons are those of its best pair, and then of the others."""

    members: list[int]
    score: int
    reasons: list[str]
    pairs: list[Pair]


def grouped(pairs: Iterable[Pair], most: int, apart: Collection[tuple[int, int]] = ()) -> list[Group]:
    """Groups of at most so many records: what hangs together by the best pairs comes together first. Those that are to
    be kept `apart` do not come together by a third one either.
    """
    groups: dict[int, list[int]] = {}
    ordered = sorted(pairs, key=lambda pair: (-pair.score, pair.record_id, pair.other_id))
    for pair in ordered:
        ours, theirs = (groups.setdefault(each, [each]) for each in (pair.record_id, pair.other_id))
        if ours is theirs or len(ours) + len(theirs) > most:
            continue
        if not any((min(one, other), max(one, other)) in apart for one in ours for other in theirs):
            ours += theirs
            groups |= dict.fromkeys(theirs, ours)
    held: dict[int, list[Pair]] = {}
    for pair in ordered:
        if groups[pair.record_id] is groups[pair.other_id]:
            held.setdefault(id(groups[pair.record_id]), []).append(pair)
    return [
        Group(
            sorted(groups[inside[0].record_id]),
            inside[0].score,
            list(dict.fromkeys(reason for pair in inside for reason in pair.reasons)),
            inside,
        )
        for inside in held.values()
    ]
