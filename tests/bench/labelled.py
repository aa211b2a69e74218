"""Customers and contacts of which somebody said by hand which are the same: how many of these are found, and of what is
found, how much is right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import Any, NamedTuple

from app.admin.duplicates.finding import MOST_WITH_A_KEY
from app.admin.duplicates.matching import LOOKED_UP, Party, compare, keys_of, of_key

COUNTRY = "DE"
ORGANIZATION, PERSON = {"kind": "organization"}, {"kind": "person"}


def _one(name: str, email: str | None = None, phone: str | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "email": email, "phone": phone, **more}


# Each list is one customer, as several people have written it down; what is in different lists is different.
CUSTOMERS: list[list[dict[str, Any]]] = [
    # Companies: case, accents, legal forms, order, abbreviations, letters.
    [_one("Müller Maschinenbau GmbH", **ORGANIZATION), _one("MÜLLER MASCHINENBAU", **ORGANIZATION)],
    [_one("Muller Maschinen AG", **ORGANIZATION)],
    [_one("Siemens AG"), _one("Siemens Aktiengesellschaft", website="https://siemens.com"), _one("Siemens")],
    [_one("Siemens Energy AG", **ORGANIZATION, website="https://siemens-energy.com")],
    [_one("Siemens Healthineers AG", **ORGANIZATION, website="https://siemens-healthineers.com")],
    [
        _one("Analytical Engines Ltd", "info@engines.example"),
        _one("Analytical Engines Limited", "ada@engines.example", "+44 20 7946 0000"),
        _one("Analytcal Engines", phone="+44 (0)20 7946-0000"),
    ],
    [
        _one("Société Générale S.A.", website="https://www.sg.example", **ORGANIZATION),
        _one("Societe Generale", website="http://sg.example/contact", **ORGANIZATION),
    ],
    [_one("Bäckerei Schmidt & Söhne OHG"), _one("Baeckerei Schmidt und Soehne OHG")],
    [_one("Bäckerei Schmitz GmbH"), _one("Bäckerei Schmitz")],
    [_one("Johnson & Johnson Inc."), _one("Johnson and Johnson")],
    [_one("The Coffee Company Ltd"), _one("Coffee Company Ltd")],
    [_one("Nordwind Logistik GmbH & Co. KG"), _one("Nordwind Logistik GmbH"), _one("Nordwind Logistik")],
    [_one("Nordlicht Logistik GmbH")],
    [_one("Deutsche Bahn AG", phone="030 297 0"), _one("DB Deutsche Bahn", phone="+49 30 2970", **ORGANIZATION)],
    [_one("Żabka Polska Sp. z o.o."), _one("Zabka Polska")],
    [_one("ООО Ромашка"), _one("Ромашка"), _one("Romashka OOO")],
    [_one("ООО Роза")],
    [_one("株式会社トヨタ"), _one("トヨタ株式会社")],
    [_one("北京科技有限公司"), _one("北京科技")],
    [_one("上海科技有限公司")],
    [_one("Ελληνική Εταιρεία Α.Ε."), _one("ΕΛΛΗΝΙΚΗ ΕΤΑΙΡΕΙΑ")],
    [_one("שלום טכנולוגיות", phone="+972 3 123 4567"), _one("שלום טכנולוגיות בעמ", phone="+972-3-1234567")],
    # Companies of one domain.
    [
        _one("Acme Industries", "sales@acme-industries.example", **ORGANIZATION),
        _one("ACME Ind.", "billing@acme-industries.example", **ORGANIZATION),
        _one("Acme", website="https://acme-industries.example", **ORGANIZATION),
    ],
    [_one("Globex", website="https://globex.example", **ORGANIZATION), _one("Globex Corp", "hello@globex.example")],
    [_one("Initech LLC", website="https://www.initech.example"), _one("Initech", website="https://initech.example/en")],
    [_one("Hooli Inc", "a@gmail.com", **ORGANIZATION)],
    [_one("Pied Piper Inc", "b@gmail.com", **ORGANIZATION)],
    [_one("Bakery One", website="https://facebook.com/bakeryone", **ORGANIZATION)],
    [_one("Flower Shop", website="https://facebook.com/flowers", **ORGANIZATION)],
    # Numbered ones are different.
    *[[_one(f"Filiale {number}", **ORGANIZATION)] for number in range(1, 7)],
    [_one("Project House 12 GmbH")],
    [_one("Project House 21 GmbH")],
    # People: order, case, accents, nicknames, letters.
    [_one("Ada Lovelace", "ada@calc.example"), _one("Lovelace, Ada"), _one("ADA LOVELACE")],
    [_one("Bob Miller", phone="+1 212 555 0101"), _one("Robert Miller", phone="+1 (212) 555-0101")],
    [_one("Robert Smith", "rsmith@shop.example"), _one("Bob Smith", "bob@shop.example")],
    [_one("William Gates", **PERSON), _one("Bill Gates", **PERSON)],
    [_one("Elizabeth Windsor", phone="+44 20 7930 4832"), _one("Liz Windsor", phone="+44 (0)20 7930 4832")],
    [_one("Jon Snow", "jon@wall.example"), _one("John Snow", "jsnow@wall.example")],
    [_one("Katarzyna Wiśniewska"), _one("Katarzyna Wisniewska")],
    [_one("Иван Петров", "petrov@mail.ru"), _one("Ivan Petrov", phone="+7 495 123 45 67")],
    [_one("Иван Сидоров")],
    [_one("王小明", phone="+86 10 6552 9988"), _one("王小明", phone="+861065529988")],
    [_one("محمد علي", phone="+20 2 2576 0000"), _one("محمد على", phone="+20225760000")],
    [_one("Jürgen Klopp", "j.klopp@gmail.com"), _one("Juergen Klopp", "jklopp+crm@googlemail.com")],
    [_one("Dr. Maria Weber", phone="089 123456"), _one("Maria Weber", phone="+49 89 123456")],
    [_one("Maria Huber", phone="089 7654321")],
    [_one("José García López"), _one("Jose Garcia Lopez")],
    [_one("Jose Garcia Perez")],
    [_one("Hopper, Grace", company="Navy"), _one("Grace Hoper", company="US Navy")],
    [_one("Charlotte Brontë", phone="0711 998877"), _one("Charlotte Bronte", phone="0711/99 88 77")],
    # Colleagues, namesakes and families are different people.
    [_one("Anna Schmidt", "anna@team.example")],
    [_one("Peter Krause", "peter@team.example")],
    [_one("Jana Wolf", "jana@team.example")],
    [_one("John Smith", "john.smith@one.example", "+1 212 555 0110")],
    [_one("John Smith", "jsmith@two.example", "+1 312 555 0120")],
    [_one("Thomas Müller", "thomas@verein-a.example", "0821 111222")],
    [_one("Thomas Müller", "t.mueller@verein-b.example", "0341 333444")],
    [_one("Homer Simpson", phone="+1 939 555 0113", **PERSON)],
    [_one("Marge Bouvier", phone="+1 939 555 0113", **PERSON)],
    [_one("Alan Turing", "alan@gmail.com")],
    [_one("Alonzo Church", "church@gmail.com")],
    [_one("Anna Berg")],
    [_one("Anna Burgmann")],
    [_one("Max Mustermann", "max@web.de")],
    [_one("Erika Mustermann", "erika@web.de")],
    [_one("Apple Farm", **ORGANIZATION)],
    [_one("Apple Pharma", **ORGANIZATION)],
    [_one("Green Energy Solutions", **ORGANIZATION)],
    [_one("Green Energy Systems", **ORGANIZATION)],
    [_one("Hotel Adler", **ORGANIZATION, phone="0761 1111111")],
    [_one("Hotel Alder", **ORGANIZATION, phone="0431 2222222")],
]
# The same for contacts; the number is their customer's.
CONTACTS: list[list[dict[str, Any]]] = [
    [_one("Grace Hopper", "grace@navy.example", customer_id=1), _one("Hopper Grace", customer_id=1)],
    [
        _one("Katherine Johnson", "kj@nasa.example", customer_id=2),
        _one("Kathy Johnson", "kj@nasa.example", customer_id=3),
    ],
    [_one("Margaret Hamilton", phone="+1 617 555 0100", customer_id=2), _one("Maggie Hamilton", customer_id=2)],
    [_one("Linus Torvald", customer_id=4), _one("Linus Torvalds", customer_id=4)],
    [
        _one("Tim Berners-Lee", phone="+41 22 767 6111", customer_id=5),
        _one("Tim Berners Lee", phone="+41 (0)22 767 61 11", customer_id=6),
    ],
    [
        _one("Sophie Germain", "sophie@ens.example", "0221 234567", customer_id=7),
        _one("S. Germain", "sophie@ens.example", customer_id=7),
    ],
    [_one("Пётр Чайковский", customer_id=8), _one("Petr Chaykovskiy", customer_id=8)],
    # Colleagues share a switchboard; namesakes work elsewhere.
    [_one("Ann Lee", phone="030 1234567", customer_id=9)],
    [_one("Ben Cho", phone="030 1234567", customer_id=9)],
    [_one("Anna Meyer", "anna@firm.example", customer_id=10)],
    [_one("Hanna Meyer", "hanna@firm.example", customer_id=10)],
    [_one("David Brown", customer_id=11)],
    [_one("David Brown", customer_id=12)],
    [_one("Info", "info@firm.example", customer_id=13)],
    [_one("Info", "info@other.example", customer_id=14)],
]


class Quality(NamedTuple):
    """Of what is found, how much is right; and of what is right, how much is found."""

    precision: float
    recall: float
    wrong: list[tuple[str, str]]
    missed: list[tuple[str, str]]


def quality(clusters: Iterable[list[dict[str, Any]]]) -> Quality:
    """As the service finds them: by what they have in common, and then by comparing."""
    parties: list[Party] = []
    truth: set[tuple[int, int]] = set()
    for cluster in clusters:
        ids = range(len(parties), len(parties) + len(cluster))
        parties += [Party(number, **fields) for number, fields in zip(ids, cluster, strict=True)]
        truth |= set(combinations(ids, 2))
    keys = {party.id: keys_of(party, COUNTRY) for party in parties}
    owners: dict[int, list[int]] = defaultdict(list)
    for party in parties:
        for key in keys[party.id]:
            if of_key(key) in LOOKED_UP:
                owners[key].append(party.id)
    met = {pair for ids in owners.values() if len(ids) <= MOST_WITH_A_KEY for pair in combinations(sorted(ids), 2)}
    found = {(one, other) for one, other in met if compare(parties[one], parties[other], keys[one], keys[other])}

    def named(pairs: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
        return [(parties[one].name, parties[other].name) for one, other in sorted(pairs)]

    right = len(found & truth)
    return Quality(right / len(found), right / len(truth), named(found - truth), named(truth - found))
