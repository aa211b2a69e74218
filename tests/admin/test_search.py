"""What a search finds."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.db.roles import enter_tenant
from app.records import searching
from app.settings import Settings
from tests.callers import Caller, Callers


def names(caller: Caller, search: str, path: str = "/admin/customers", key: str = "name", **more: Any) -> set[str]:
    """What is found. A cursor's walk, and the ids from the index, find the same as a way through the rows."""
    page = caller.ok("GET", path, search=search, page_size=100, **more)
    assert page["total"] == len(page["data"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "SAMPLE", 1)
        patch.setattr(searching, "WORTH_WALKING", 2)
        by_ids = caller.ok("GET", path, search=search, page_size=100, **more)
    assert [each["id"] for each in by_ids["data"]] == [each["id"] for each in page["data"]]
    assert by_ids["total"] == page["total"]
    return {each[key] for each in page["data"]}


@pytest.mark.parametrize(
    ("name", "search"),
    [
        ("Müller", "Muller"),
        ("Müller", "MÜLLER"),
        ("Müller", "mu\u0308ll"),
        ("Mu\u0308ller", "müller"),
        ("Strauß", "STRAUSS"),
        ("Strauss", "strauß"),
        ("ΣΟΦΟΣ", "σοφος"),
        ("σοφός", "ΣΟΦΟΣ"),
        ("İstanbul", "istanbul"),
        ("İstanbul", "i\u0307stan"),
        ("Y\u0131ld\u0131z", "yildiz"),
        ("ÇAĞRI", "çağri"),
        ("Łódź", "lodz"),
        ("Smørrebrød", "smorrebrod"),
        ("Đặng Thị", "dang thi"),
        ("Ёлкин", "елкин"),
        ("O\u2019Brien", "O'Brien"),
        ("O'Brien", "o\u2019brien"),
        ("Jean\u2013Luc", "jean-luc"),
        ("zero\u200bwidth", "zerowidth"),
        ("\uff21\uff24\uff21", "ada"),
        ("Cœur", "coeur"),
        ("ﬁnance", "finance"),
        ("한국", "한"),
        ("שלום", "לום"),
        ("👩\u200d👧 family", "👩"),
        ("100% off_\\", "% off_\\"),
        ("Ada\xa0Lovelace", "ada lovelace"),
        ("Popescu Ștefan", "stefan"),
        ("Nguyễn Văn", "nguyen van"),
        ("ﾊﾝｶｸ", "ハンカク"),
        ("a\u0323\u0301", "a\u0301\u0323"),
        ("Robert'); DROP TABLE", "'); drop"),
        ('say "hi"', '"hi"'),
        ('5" pipe', '5" p'),
        ("C++", "c++"),
        ("ab", "a"),
        ("ab", "ab"),
    ],
)
def test_what_is_alike_is_found(name: str, search: str, admin: Caller) -> None:
    admin.customer("Somebody else")
    kept = admin.customer(name)["name"]
    assert kept in names(admin, search)
    assert "Somebody else" not in names(admin, search) or search == "a"


@pytest.mark.parametrize(
    ("search", "is_found"),
    [
        ("Lovelace, Ada", True),
        ("ada  lovelace", True),
        ("acme ada", True),
        ("\tada example.com\n", True),
        ('"Ada Lovelace"', True),
        ('"Lovelace Ada"', False),
        ('"Ada Lovelace" acme', True),
        ('"e a"', False),
        ('Ada"', False),
        ("ada grace", False),
        ("_da", False),
        ("ada%lovelace", False),
        ("a\\da", False),
        (",", False),
    ],
)
def test_every_word_is_found_somewhere(search: str, is_found: bool, admin: Caller) -> None:
    admin.customer("Ada Lovelace", company="Acme", email="ada@example.com")
    assert bool(names(admin, search)) is is_found


PHONES = [
    ("+49 30 / 123-45", "030 123 45", True),
    ("030 12345", "+49 30 12345", True),
    ("030 12345", "0049 30 12345", True),
    ("+49 (0)30 12345", "030/12345", True),
    ("+49 (0)30 12345", "+49 30 12345", True),
    ("+493012345", "3012345", True),
    ("+493012345", "12345", True),
    ("+493012345", "1234", True),
    ("0171-2345678", "+49 171 2345678", True),
    ("+1 (415) 555-2671", "415.555.2671", True),
    ("+49 (0711) 1234567", "+497111234567", True),
    ("0049 (0711) 1234567", "0711 1234567", True),
    ("(0711) 1234567", "+49 711 1234567", True),
    ("0711/1234567", "+49 (0711) 1234567", True),
    ("+49 4333 633333 ext. 543", "04333 633333", True),
    ("12345", "+49 30 12345", False),
    ("030 12345", "+49 30 123456", False),
    ("030 12345", "543210", False),
    ("\u0660\u0663\u0660 \u0661\u0662\u0663\u0664\u0665", "030 12345", True),
]


@pytest.mark.parametrize(("phone", "search", "is_found"), PHONES)
def test_a_phone_number_is_found_however_it_is_written(phone: str, search: str, is_found: bool, admin: Caller) -> None:
    customer = admin.customer("Ada", phone=phone)
    contact = admin.ok("POST", f"/admin/customers/{customer['id']}/contacts", {"first_name": "Bob", "phone": phone})
    admin.customer("Cleo", phone="+44 20 7946 0000")
    assert bool(names(admin, search)) is is_found
    assert names(admin, search, "/admin/contacts", "id") == ({contact["id"]} if is_found else set())


@pytest.mark.parametrize("search", ["=", "=4", "930", "01", "ada 930", "49301"])
def test_what_is_kept_of_a_phone_number_is_found_by_numbers_only(search: str, admin: Caller) -> None:
    customer = admin.customer("Ada", phone="+49 30 12345")
    admin.ok("POST", f"/admin/customers/{customer['id']}/contacts", {"first_name": "Ada", "phone": "+49 30 12345"})
    found = search == "49301"  # at least four digits
    assert (bool(names(admin, search)), bool(names(admin, search, "/admin/contacts", "id"))) == (found, found)


def test_a_part_of_a_coded_domain_is_found_while_it_is_typed(admin: Caller) -> None:
    admin.customer("B", email="b@xn--mnchen-3ya.de")
    whole = "b@xn--mnchen-3ya.de"
    assert [names(admin, whole[:end]) for end in range(2, len(whole) + 1)] == [{"B"}] * (len(whole) - 1)


def test_a_note_of_letters_that_become_many_is_found_by_its_beginning(admin: Caller) -> None:
    customer = admin.customer()["id"]
    note = admin.ok("POST", "/admin/notes", {"content": "Ada" + "\ufdfa" * 19_000, "customer_id": customer})
    assert names(admin, "ada", "/admin/notes", "id") == {note["id"]}
    assert names(admin, "zzz", "/admin/notes", "id") == set()


def test_an_email_is_found_by_either_form_of_its_domain(admin: Caller) -> None:
    admin.customer("A", email="a@müller.de")
    admin.customer("B", email="b@xn--mller-kva.de")
    for search in ("müller.de", "MULLER.DE", "xn--mller-kva.de", "@xn--mller-kva.de"):
        assert names(admin, search) == {"A", "B"}


def test_a_deal_is_found_by_its_title_and_its_customer(admin: Caller) -> None:
    ada, bob = admin.customer("Ada Lovelace", company="Acme"), admin.customer("Bob")
    for customer, title in ((ada, "Engine"), (ada, "Loom"), (bob, "Engine for Ada")):
        admin.ok("POST", "/admin/deals", {"title": title, "customer_id": customer["id"]})
    assert names(admin, "ada", "/admin/deals", "title") == {"Engine", "Loom", "Engine for Ada"}
    assert names(admin, "lovelace engine", "/admin/deals", "title") == {"Engine"}
    assert names(admin, "engine", "/admin/deals", "title") == {"Engine", "Engine for Ada"}
    assert names(admin, "acme", "/admin/deals", "title") == set()


def test_many_are_counted_to_the_limit_and_few_exactly_though_the_index_leaves_some_out(
    admin: Caller, callers: Callers, settings: Settings
) -> None:
    other = callers.person("admin", f"{admin.tenant}-many")
    admin.customer()
    other.customer()
    with psycopg.connect(settings.database_url) as connection:
        for tenant, named, others in ((admin.tenant, 10, 2000), (other.tenant, 500, 0)):
            enter_tenant(connection, tenant, {})
            connection.execute(
                "INSERT INTO customers (tenant_id, name) SELECT %s, CASE WHEN n > %s THEN 'Bob' ELSE 'Xqver' END"
                " FROM generate_series(1, %s) AS n",
                [tenant, named, named + others],
            )
    with psycopg.connect(settings.migration_dsn, autocommit=True) as owner:
        owner.execute("SELECT gin_clean_pending_list('customers_search_idx')")
        owner.execute("ANALYZE customers")
    with psycopg.connect(settings.database_url) as connection:
        for caller, most, share, expected in (
            (admin, 5, 1.0, 5),
            (admin, 20, 1.0, 10),
            (admin, 20, 0.1, 10),
            (other, 20, 1.0, 20),
            (other, 1000, 1.0, 500),
        ):
            enter_tenant(connection, caller.tenant, {})
            # As with a million rows.
            connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
            count = "SELECT crm_count_found('customers', '{xq}', true, %s, %s)"
            assert connection.execute(count, [most, share]).fetchone() == (expected,)
            assert connection.execute("SHOW gin_fuzzy_search_limit").fetchone() == ("0",)
            connection.rollback()


def test_an_agent_finds_its_deal_by_a_customer_that_it_does_not_see(
    admin: Caller, callers: Callers, own_scope: TestClient[Litestar]
) -> None:
    agent = callers.person("agent", admin.tenant, client=own_scope)
    customer = admin.customer("Ada Lovelace")
    admin.ok("POST", "/admin/deals", {"title": "Mine", "customer_id": customer["id"], "owner_id": agent.user_id})
    admin.ok("POST", "/admin/deals", {"title": "Another's", "customer_id": customer["id"], "owner_id": "x"})
    assert names(agent, "lovelace", "/admin/deals", "title") == {"Mine"}
    assert names(agent, "lo", "/admin/deals", "title") == {"Mine"}


def test_activities_notes_and_people_are_searched_alike(admin: Caller) -> None:
    customer = admin.customer("Ada")["id"]
    admin.ok("POST", "/admin/activities", {"title": "Angebot für Müller", "type": "call", "customer_id": customer})
    admin.ok("POST", "/admin/notes", {"content": "Größe\nund Gewicht", "customer_id": customer})
    assert names(admin, "muller angebot", "/admin/activities", "title") == {"Angebot für Müller"}
    assert names(admin, "gewicht GRÖSSE", "/admin/notes", "content") == {"Größe\nund Gewicht"}
    assert admin.ok("GET", "/admin/users", search=f"{admin.user_id}")["total"] == 0


def test_a_short_search_counts_to_ten_thousand_and_says_so(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MOST_COUNTED", 3)
    monkeypatch.setattr(searching, "SAMPLE", 2)
    for number in range(6):
        admin.customer(f"Xaver {number}", status="active" if number else "lead")
    for search, total in (("x", 3), ("xa", 3), ("x a", 3), ("xav", 6), ("z", 0), ("4", 1)):
        for more in ({}, {"status": "active,lead"}, {"sort_by": "company"}, {"deleted": "include"}):
            page = admin.ok("GET", "/admin/customers", search=search, page_size="2", **more)
            assert page["total"] == total
            assert page.get("total_capped") == (True if total == 3 else None), (search, more)
    walked, page = [], admin.ok("GET", "/admin/customers", search="x", page_size="2")
    while True:
        walked += [each["id"] for each in page["data"]]
        if page["next_cursor"] is None:
            break
        page = admin.ok("GET", "/admin/customers", cursor=page["next_cursor"], page_size="2")
    assert len(set(walked)) == len(walked) == 6
