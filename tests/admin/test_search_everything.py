"""The search over everything."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.admin.search import routes
from app.records import finding
from tests.callers import Caller, Callers, refused

# How records are found: all are looked at, or the index is asked, or recent ones and names are looked at.
WAYS = {"all": {}, "index": {"SAMPLE": 1, "FREQUENT": 2}, "recent": {"FREQUENT": 0}}


# A statement is made and compiled once for all tests of a way.
BEST = {way: cache(finding.best.__wrapped__) for way in WAYS}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in WAYS[request.param].items():
        monkeypatch.setattr(finding, name, value)
    monkeypatch.setattr(routes, "best", BEST[request.param])
    return str(request.param)


def search(caller: Caller, q: str, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = caller.ok("GET", "/admin/search", q=q, **more)["data"]
    return found


def titles(caller: Caller, q: str, **more: Any) -> list[str]:
    return [each["title"] for each in search(caller, q, **more)]


def make(caller: Caller, collection: str, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = caller.ok("POST", f"/admin/{collection}", body)
    return made


def of(caller: Caller, customer: int, word: str, **more: Any) -> dict[str, int]:
    """A deal, an activity and a note of a customer, by kind, with a word in each."""
    return {
        "deal": make(caller, "deals", title=f"Deal {word}", customer_id=customer)["id"],
        "activity": make(caller, "activities", title=f"Call {word}", type="call", customer_id=customer, **more)["id"],
        "note": make(caller, "notes", content=f"Note {word}", customer_id=customer)["id"],
    }


@pytest.mark.usefixtures("way")
def test_one_search_finds_records_of_every_kind_and_tells_them_apart(admin: Caller) -> None:
    customer = admin.customer("Ada Lovelace", company="Engines Ltd", email="ada@example.com")
    contact = make(admin, f"customers/{customer['id']}/contacts", first_name="Mary", last_name="Lovelace")
    made = of(admin, customer["id"], "Lovelace", due_date="2031-02-03")
    admin.customer("Somebody else")
    found = {each["type"]: each for each in search(admin, "LOVELACE")}
    made |= {"customer": customer["id"], "contact": contact["id"]}
    assert {kind: each["id"] for kind, each in found.items()} == made
    assert {kind: (each["title"], each["subtitle"], each["matched"]) for kind, each in found.items()} == {
        "customer": ("Ada Lovelace", "Engines Ltd", "name"),
        "contact": ("Mary Lovelace", "Ada Lovelace", "name"),
        "deal": ("Deal Lovelace", "Ada Lovelace · Prospecting", "title"),
        "activity": ("Call Lovelace", "call · 2031-02-03", "title"),
        "note": ("Note Lovelace", "Ada Lovelace", "content"),
    }
    assert found["customer"]["updated_at"] == customer["updated_at"]


@pytest.mark.usefixtures("way")
def test_an_answer_names_the_field_that_matched(admin: Caller) -> None:
    email = "ada@acme-mail.xn--mller-kva.example"
    admin.customer("Ada Lovelace", company="Acme", email=email, phone="+49 711 1234567")
    for q, matched in (
        ("lovelace", "name"),
        ("acme", "company"),
        ("ada@acme-mail", "email"),
        ("müller.example", "email"),
        ("0711 1234567", "phone"),
        ("ada acme", "email"),
        ("lovelace acme", "name"),
        ("acme 711", "company"),
    ):
        assert [each["matched"] for each in search(admin, q)] == [matched], q


@pytest.mark.usefixtures("way")
def test_a_deal_is_found_by_words_of_its_title_and_of_its_customer(admin: Caller) -> None:
    ada, bob = admin.customer("Ada Lovelace")["id"], admin.customer("Bob")["id"]
    for customer, title in ((ada, "Engine"), (ada, "Loom"), (bob, "Engine")):
        make(admin, "deals", title=title, customer_id=customer)
    found = search(admin, "engine lovelace", types="deal")
    assert [(each["title"], each["subtitle"], each["matched"]) for each in found] == [
        ("Engine", "Ada Lovelace · Prospecting", "title")
    ]
    found = search(admin, "Lovelace, Ada", types="deal")
    assert {(each["title"], each["matched"]) for each in found} == {("Engine", "customer"), ("Loom", "customer")}


@pytest.mark.usefixtures("way")
def test_whole_words_come_before_beginnings_and_these_before_other_parts(admin: Caller) -> None:
    for name in ("Jens Son", "Sondra", "Ben Sonnen", "Anderson", "(son)", "Person-Sonar", "Олсон Sona"):
        admin.customer(name)
    admin.customer("Newest", company="Son & Sons")
    assert titles(admin, "son") == [
        *("(son)", "Jens Son", "Newest"),
        *("Олсон Sona", "Person-Sonar", "Ben Sonnen", "Sondra"),
        "Anderson",
    ]


@pytest.mark.usefixtures("way")
def test_every_word_counts_for_the_order(admin: Caller) -> None:
    for name in ("Ada Lovelace", "Adam Lovelace", "Sada Lovelace"):
        admin.customer(name)
    admin.customer("Adam Loveless")
    assert titles(admin, "ada lovelace") == ["Ada Lovelace", "Adam Lovelace", "Sada Lovelace"]
    assert titles(admin, "love ada") == ["Adam Loveless", "Adam Lovelace", "Ada Lovelace", "Sada Lovelace"]


@pytest.mark.usefixtures("way")
def test_open_comes_before_closed_and_recent_before_old(admin: Caller) -> None:
    customer = admin.customer("Bob")["id"]
    first = make(admin, "deals", title="Loom 1", customer_id=customer)["id"]
    make(admin, "deals", title="Loom 2", customer_id=customer, stage="closed_lost", lost_reason="price")
    make(admin, "activities", title="Loom 3", type="call", customer_id=customer, status="completed")
    make(admin, "activities", title="Loom 4", type="call", customer_id=customer)
    admin.customer("Loom 5", status="churned")
    admin.customer("Loom 6")
    assert titles(admin, "loom") == ["Loom 6", "Loom 4", "Loom 1", "Loom 5", "Loom 3", "Loom 2"]
    admin.ok("PATCH", f"/admin/deals/{first}", {"amount": 5})
    assert titles(admin, "loom", limit=2) == ["Loom 1", "Loom 6"]


@pytest.mark.usefixtures("way")
def test_types_and_limit_narrow_the_search(admin: Caller) -> None:
    made = of(admin, admin.customer("Ada Loom")["id"], "Loom")
    assert len(search(admin, "loom")) == 4
    assert {each["id"] for each in search(admin, "loom", types="deal,note")} == {made["deal"], made["note"]}
    assert [each["type"] for each in search(admin, "loom", types="customer")] == ["customer"]
    assert len(search(admin, "loom", limit=3)) == 3
    assert len(search(admin, "loom", limit=1_000, types="")) == 4


def test_at_most_a_hundred_are_answered_and_twenty_at_first(admin: Caller) -> None:
    for number in range(103):
        admin.customer(f"Loom {number}")
    assert (len(search(admin, "loom")), len(search(admin, "loom", limit=1_000))) == (20, 100)


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("", "q", "is required"),
        ("q=", "q", "is required"),
        ("q=%20%20", "q", "is required"),
        ("q=" + "a" * 256, "q", "must be text of length <= 255"),
        ("q=%00", "q", "must be UTF-8 without NUL"),
        ("q=a&q=b", "q", "is given more than once"),
        ("q=a&types=person", "types", "must be one of customer, contact, deal, project, activity, note"),
        ("q=a&limit=0", "limit", "must be an integer >= 1"),
        ("q=a&limit=x", "limit", "must be an integer"),
        ("q=a&page=2", "page", "is not a parameter of this address"),
    ],
)
def test_a_bad_parameter_is_named_once(query: str, field: str, message: str, admin: Caller) -> None:
    data = refused(admin.call("GET", f"/admin/search?{query}"), 400, "INVALID_REQUEST")
    assert data["fields"] == [{"field": field, "message": message}]


@pytest.mark.usefixtures("way")
def test_no_character_means_anything_but_itself(admin: Caller) -> None:
    admin.customer("Ada")
    # None is a part of one before it.
    for q in ("%", "_", ",", "''", '"', "\\", "(?i)ada", "a.a", "x " * 127, "***:x", "[", "a" * 255):
        assert search(admin, q) == [], q
        kept = admin.customer(f"{q.strip()}")["name"]
        assert titles(admin, q) == [kept], q


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("before", ["word ", "Straße ", "\ufdfa "])
def test_a_long_note_is_shown_around_the_match(before: str, admin: Caller) -> None:
    customer = admin.customer("Ada")["id"]
    content = f"{before * 300}\n  the  needle\tis here {'after ' * 300}"
    make(admin, "notes", content=content, customer_id=customer)
    (note,) = search(admin, "needle")
    assert "the needle is here" in note["title"]
    assert note["title"][0] == note["title"][-1] == "…"
    assert 60 < len(note["title"]) <= 100
    (note,) = search(admin, before.strip(), types="note")
    assert note["title"].startswith(before * 3)
    assert note["title"].endswith("…")


@pytest.mark.usefixtures("way")
def test_a_note_says_what_it_belongs_to(admin: Caller) -> None:
    customer = admin.customer("Ada")["id"]
    deal = make(admin, "deals", title="Engine", customer_id=customer)["id"]
    call = make(admin, "activities", title="Call back", type="call", deal_id=deal)["id"]
    for number, link in enumerate(
        ({"customer_id": customer, "deal_id": deal}, {"deal_id": deal}, {"activity_id": call})
    ):
        make(admin, "notes", content=f"needle {number}", **link)
    assert [each["subtitle"] for each in search(admin, "needle")] == ["Call back", "Engine", "Ada · Engine"]
    assert [each["subtitle"] for each in search(admin, "call back")] == ["call · Engine"]


def test_the_due_day_is_that_of_the_organization(admin: Caller) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": "Asia/Tokyo"})
    customer = admin.customer("Ada")["id"]
    for due in ("2031-01-31T20:00:00Z", "2031-01-31"):
        make(admin, "activities", title="Call", type="task", due_date=due, customer_id=customer)
    assert [each["subtitle"] for each in search(admin, "call")] == ["task · 2031-01-31", "task · 2031-02-01"]


@pytest.mark.usefixtures("way")
def test_the_trash_and_other_organizations_are_never_found(admin: Caller, stranger: Caller) -> None:
    customer = admin.customer("Ada Loom")["id"]
    make(admin, f"customers/{customer}/contacts", first_name="Loom")
    made = of(admin, customer, "Loom")
    assert len(search(admin, "loom")) == 5
    assert search(stranger, "loom") == []
    admin.ok("DELETE", f"/admin/notes/{made['note']}")
    assert {each["type"] for each in search(admin, "loom")} == {"customer", "contact", "deal", "activity"}
    admin.ok("DELETE", f"/admin/customers/{customer}")
    assert search(admin, "loom") == []


@pytest.mark.usefixtures("way")
def test_an_agent_with_own_scope_finds_its_own_records_among_many(
    admin: Caller, callers: Callers, own_scope: TestClient[Litestar]
) -> None:
    agent = callers.person("agent", admin.tenant, client=own_scope)
    mine = admin.customer("Mine Loom", assigned_to=agent.user_id)["id"]
    hidden = admin.customer("Hidden Loom")["id"]
    deal = make(admin, "deals", title="Engine", customer_id=hidden, owner_id=agent.user_id)["id"]
    of(admin, hidden, "Loom")
    for number in range(5):
        admin.customer(f"Loom {number}")
    assert {(each["type"], each["id"]) for each in search(agent, "loom")} == {("customer", mine), ("deal", deal)}
    (found,) = search(agent, "loom", types="deal")
    assert (found["subtitle"], found["matched"]) == ("Hidden Loom · Prospecting", "customer")


def test_of_frequent_words_recent_records_and_names_that_begin_with_them_are_found(
    admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SAMPLE": 2, "FREQUENT": 1, "RECENT": 3, "MOST_NAMED": 2}.items():
        monkeypatch.setattr(finding, name, value)
    finding.best.cache_clear()
    for name in ("Loom", "Loomis", "Looms", "The Loom", "A Loom", "Old Loom", "New Loom", "Newest Loom"):
        admin.customer(name)
    assert titles(admin, "loom") == ["Newest Loom", "New Loom", "Old Loom", "Loom", "Loomis"]
    finding.best.cache_clear()


def test_rare_words_are_found_in_as_many_records_as_the_index_may_give(
    admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SAMPLE": 1, "FREQUENT": 2, "MOST_INDEXED": 3}.items():
        monkeypatch.setattr(finding, name, value)
    finding.best.cache_clear()
    for number in range(9):
        admin.customer(f"Loom {number}")
    assert 3 <= len(titles(admin, "loom")) <= 4
    finding.best.cache_clear()
