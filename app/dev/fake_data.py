"""Made-up customers and what hangs on them: believable, skewed as real ones are, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

FIRST_NAMES = """
    Ada Alan Amara Anna Aylin Björn Chen Chiara David Elif Emma Farid Grace Hedy Igor Ines Jonas Kofi Lena Luca
    Maria Mei Nadia Noah Olga Omar Paul Priya Ravi Rosa Sana Sofia Tariq Tomás Uma Viktor Wanjiru Yara Yusuf Zoë
""".split()
LAST_NAMES = """
    Abebe Andersson Bauer Bianchi Chen Costa Dubois Eriksen Fischer García Haddad Hopper Ivanov Jensen Kaya Khan
    Kim Kowalski Lovelace Mensah Meyer Müller Nakamura Novák Okafor O'Brien Özil Patel Petrov Rossi Sato Schmidt
    Silva Singh Smith Tanaka Turing Wagner Yilmaz Zhang
""".split()
TRADES = """
    Analytics Bakery Consulting Design Energy Foods Freight Health Labs Logistics Media Partners Robotics Software
    Studio Systems Textiles Tools Travel Works
""".split()
ROLES = "CEO CFO CTO Buyer Founder Engineer Manager Owner Designer Accountant".split()
GOODS = "Licences Consulting Support Training Hardware Migration Audit Campaign Prototype Subscription".split()
TASKS = "Call back;Send the offer;Demo;Contract review;Kick-off;Check in;Ask for a reference;Renewal talk".split(";")
REMARKS = "Prefers short messages.;Budget decided in spring.;Met at the fair.;Asks for a discount.;Very happy.".split(
    ";"
)
STATUSES = {"lead": 40, "prospect": 20, "active": 25, "inactive": 10, "churned": 5}
TAGS = {"VIP": "#f59e0b", "Newsletter": "#6366f1", "Partner": "#22c55e", "Trade fair": "#a855f7", "Referral": "#64748b"}
AGENTS = 40
TWO_YEARS = 730.0
# Of a hundred deals: lost, won, and the rest still open somewhere.
LOST, WON = 25, 35


class Person(NamedTuple):
    """Somebody who sells."""

    id: str
    name: str
    email: str


def _sellers() -> list[Person]:
    names = [
        (FIRST_NAMES[number * 7 % len(FIRST_NAMES)], LAST_NAMES[number * 11 % len(LAST_NAMES)])
        for number in range(AGENTS)
    ]
    return [
        Person(f"agent-{number}", f"{first} {last}", f"agent-{number}@example.com")
        for number, (first, last) in enumerate(names, 1)
    ]


SELLERS = _sellers()
NAMES = {person.id: person.name for person in SELLERS}


class Stage(NamedTuple):
    """A stage of the tenant's pipeline."""

    id: int
    kind: str
    probability: int


class Batch(NamedTuple):
    """Rows by table; ids are places in the batch, to be replaced."""

    customers: list[dict[str, Any]]
    contacts: list[dict[str, Any]]
    deals: list[dict[str, Any]]
    stage_history: list[dict[str, Any]]
    activities: list[dict[str, Any]]
    notes: list[dict[str, Any]]


class World:
    """Draws everything from one source of chance, in one order."""

    def __init__(self, seed: int, today: datetime, stages: list[Stage], tag_ids: list[int], currency: str) -> None:
        self._chance = random.Random(seed)  # noqa: S311 -- data, not secrets
        self._seed = seed
        self._today = today
        self._open = [stage for stage in stages if stage.kind == "open"]
        self._closed = {stage.kind: stage for stage in reversed(stages) if stage.kind != "open"}
        self._tag_ids = tag_ids
        self._currency = currency
        self._agents = [person.id for person in SELLERS]
        self._weights = [1 / number for number in range(1, AGENTS + 1)]
        self._count = 0

    def batch(self, size: int) -> Batch:
        """The next customers, with two deals, three activities, one and a half contacts and a note each, on average."""
        batch = Batch([], [], [], [], [], [])
        for _ in range(size):
            self._customer(batch)
        return batch

    def _customer(self, batch: Batch) -> None:
        chance = self._chance
        first, last = chance.choice(FIRST_NAMES), chance.choice(LAST_NAMES)
        number, self._count = self._count, self._count + 1
        place = len(batch.customers)
        created = self._today - timedelta(days=TWO_YEARS * (1 - chance.random() ** 0.5))
        status = chance.choices(list(STATUSES), list(STATUSES.values()))[0]
        agent = self._agent() if chance.random() < 0.9 else None
        address = f"{first}.{last}.{self._seed}.{number}@example.com".lower().replace("'", "")
        batch.customers.append(
            {
                "name": f"{first} {last}",
                "email": address if chance.random() < 0.95 else None,
                "phone": self._phone() if chance.random() < 0.7 else None,
                "company": f"{chance.choice(LAST_NAMES)} {chance.choice(TRADES)}" if chance.random() < 0.8 else None,
                "role": chance.choice(ROLES) if chance.random() < 0.6 else None,
                "status": status,
                "assigned_to": agent,
                "contacted": status != "lead",
                "next_follow_up_at": self._soon() if chance.random() < 0.3 else None,
                "tags": sorted(chance.sample(self._tag_ids, chance.choices((0, 1, 2, 3), (40, 35, 20, 5))[0])),
                "created_at": created,
            }
        )
        for order in range(chance.choices((0, 1, 2, 3), (15, 40, 25, 20))[0]):
            batch.contacts.append(self._contact(place, created, is_primary=order == 0))
        deals = [
            self._deal(batch, place, created, agent)
            for _ in range(chance.choices((0, 1, 2, 3, 8), (30, 25, 20, 15, 10))[0])
        ]
        for _ in range(chance.choices((0, 2, 4, 8), (25, 35, 25, 15))[0]):
            batch.activities.append(self._activity(place, deals, created, agent))
        for _ in range(chance.choices((0, 1, 3), (45, 37, 18))[0]):
            batch.notes.append(self._note(place, created, agent))

    def _contact(self, customer: int, created: datetime, *, is_primary: bool) -> dict[str, Any]:
        first, last = self._chance.choice(FIRST_NAMES), self._chance.choice(LAST_NAMES)
        return {
            "customer_id": customer,
            "first_name": first,
            "last_name": last,
            "email": f"{first}.{last}@example.com".lower().replace("'", ""),
            "phone": self._phone() if self._chance.random() < 0.5 else None,
            "position": self._chance.choice(ROLES),
            "is_primary": is_primary,
            "created_at": self._after(created, 30),
        }

    def _deal(self, batch: Batch, customer: int, customer_created: datetime, agent: str | None) -> int:
        chance = self._chance
        place = len(batch.deals)
        created = self._after(customer_created, 200)
        fate = chance.random() * 100
        steps = self._open[: chance.randint(1, len(self._open))]
        path = [*steps, self._closed["lost"]] if fate < LOST else steps
        path = [*self._open, self._closed["won"]] if LOST <= fate < LOST + WON else path
        moves = [(path[0], created)]
        for stage in path[1:]:
            moment = moves[-1][1] + timedelta(days=chance.expovariate(1 / 12))
            if moment >= self._today:
                break
            moves.append((stage, moment))
        for order, (stage, entered) in enumerate(moves):
            batch.stage_history.append(
                {
                    "deal_id": place,
                    "from_stage_id": moves[order - 1][0].id if order else None,
                    "to_stage_id": stage.id,
                    "user_id": agent,
                    "user_name": NAMES.get(agent or ""),
                    "entered_at": entered,
                    "left_at": moves[order + 1][1] if order + 1 < len(moves) else None,
                    "reason": "Price" if stage.kind == "lost" else None,
                }
            )
        stage, entered = moves[-1]
        batch.deals.append(
            {
                "title": f"{chance.choice(GOODS)} {created.year}",
                "customer_id": customer,
                "stage_id": stage.id,
                "amount": round(min(chance.paretovariate(1.2) * 800, 5_000_000), 2),
                "currency": self._currency if chance.random() < 0.95 else chance.choice(("EUR", "GBP")),
                "probability": stage.probability,
                "expected_close_date": created + timedelta(days=chance.randint(20, 120)),
                "actual_close_date": None if stage.kind == "open" else entered,
                "owner_id": agent or self._agent(),
                "lost_reason": "Price" if stage.kind == "lost" else None,
                "stage_entered_at": entered,
                "created_at": created,
            }
        )
        return place

    def _activity(self, customer: int, deals: list[int], created: datetime, agent: str | None) -> dict[str, Any]:
        chance = self._chance
        begun = self._after(created, 300)
        due = begun + timedelta(days=chance.uniform(0, 40)) if chance.random() < 0.9 else None
        fate = chance.random()
        late = due is not None and due < self._today
        status = "cancelled" if fate < 0.08 else "completed" if late and fate < 0.93 else "scheduled"
        return {
            "title": chance.choice(TASKS),
            "type": chance.choices(("call", "email", "meeting", "task", "note"), (35, 25, 15, 20, 5))[0],
            "status": status,
            "customer_id": customer,
            "deal_id": chance.choice(deals) if deals and chance.random() < 0.5 else None,
            "assigned_to": agent or self._agent(),
            "due_date": due,
            "completed_at": due if status == "completed" else None,
            "duration": chance.choice((15, 30, 60)) if chance.random() < 0.5 else None,
            "priority": chance.choices(("low", "normal", "high"), (15, 70, 15))[0],
            "created_at": begun,
        }

    def _note(self, customer: int, created: datetime, agent: str | None) -> dict[str, Any]:
        author = agent or self._agent()
        return {
            "content": self._chance.choice(REMARKS),
            "customer_id": customer,
            "author_id": author,
            "author_name": NAMES[author],
            "created_at": self._after(created, 300),
        }

    def _agent(self) -> str:
        return self._chance.choices(self._agents, self._weights)[0]

    def _phone(self) -> str:
        return f"+1 555 {self._chance.randrange(10**7):07}"

    def _soon(self) -> datetime:
        return self._today + timedelta(days=self._chance.randrange(-30, 60))

    def _after(self, moment: datetime, days: float) -> datetime:
        """Some time after, but not after today."""
        until = min(days, (self._today - moment) / timedelta(days=1))
        return moment + timedelta(days=self._chance.uniform(0, until))


def with_ids(rows: list[dict[str, Any]], ids: Iterator[int], **places: list[int]) -> list[dict[str, Any]]:
    """The rows with their ids, and with those of the rows that they refer to."""
    made = []
    for row in rows:
        real = {"id": next(ids), **row}
        for column, referred in places.items():
            if real.get(column) is not None:
                real[column] = referred[real[column]]
        made.append(real)
    return made
