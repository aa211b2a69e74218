"""Made-up customers and what belongs to them, distributed like real ones. The same seed gives the same data."""

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
# Of a hundred deals, so many are lost and won; the others are open.
LOST, WON = 25, 35


class Person(NamedTuple):
    """A seller."""

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
    """Rows by table. References between rows are indexes in the batch: see `with_ids`."""

    customers: list[dict[str, Any]]
    contacts: list[dict[str, Any]]
    deals: list[dict[str, Any]]
    stage_history: list[dict[str, Any]]
    projects: list[dict[str, Any]]
    activities: list[dict[str, Any]]
    notes: list[dict[str, Any]]


class FakeData:
    """Makes customers with one random number generator, so that the same seed gives the same data."""

    def __init__(self, seed: int, today: datetime, stages: list[Stage], tag_ids: list[int], currency: str) -> None:
        self._rng = random.Random(seed)  # noqa: S311 -- data, not secrets
        # For itself, so that the other records are those that they were before there were projects.
        self._project_rng = random.Random(f"{seed} projects")  # noqa: S311 -- the same
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
        """The next customers, with two deals, three activities, one and a half contacts and a note each, on average.
        One in ten has a project.
        """
        batch = Batch([], [], [], [], [], [], [])
        for _ in range(size):
            self._customer(batch)
        return batch

    def _customer(self, batch: Batch) -> None:
        rng = self._rng
        first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
        number, self._count = self._count, self._count + 1
        index = len(batch.customers)
        created = self._today - timedelta(days=TWO_YEARS * (1 - rng.random() ** 0.5))
        status = rng.choices(list(STATUSES), list(STATUSES.values()))[0]
        agent = self._agent() if rng.random() < 0.9 else None
        address = f"{first}.{last}.{self._seed}.{number}@example.com".lower().replace("'", "")
        batch.customers.append(
            {
                "name": f"{first} {last}",
                "email": address if rng.random() < 0.95 else None,
                "phone": self._phone() if rng.random() < 0.7 else None,
                "company": f"{rng.choice(LAST_NAMES)} {rng.choice(TRADES)}" if rng.random() < 0.8 else None,
                "role": rng.choice(ROLES) if rng.random() < 0.6 else None,
                "status": status,
                "assigned_to": agent,
                "contacted": status != "lead",
                "next_follow_up_at": self._soon() if rng.random() < 0.3 else None,
                "tags": sorted(rng.sample(self._tag_ids, rng.choices((0, 1, 2, 3), (40, 35, 20, 5))[0])),
                "created_at": created,
            }
        )
        for order in range(rng.choices((0, 1, 2, 3), (15, 40, 25, 20))[0]):
            batch.contacts.append(self._contact(index, created, is_primary=order == 0))
        deals = [
            self._deal(batch, index, created, agent)
            for _ in range(rng.choices((0, 1, 2, 3, 8), (30, 25, 20, 15, 10))[0])
        ]
        project = self._project(batch, index, created, agent) if self._project_rng.random() < 0.1 else None
        for _ in range(rng.choices((0, 2, 4, 8), (25, 35, 25, 15))[0]):
            batch.activities.append({**self._activity(index, deals, created, agent), "project_id": project})
        for _ in range(rng.choices((0, 1, 3), (45, 37, 18))[0]):
            batch.notes.append(self._note(index, created, agent))

    def _contact(self, customer: int, created: datetime, *, is_primary: bool) -> dict[str, Any]:
        first, last = self._rng.choice(FIRST_NAMES), self._rng.choice(LAST_NAMES)
        return {
            "customer_id": customer,
            "first_name": first,
            "last_name": last,
            "email": f"{first}.{last}@example.com".lower().replace("'", ""),
            "phone": self._phone() if self._rng.random() < 0.5 else None,
            "position": self._rng.choice(ROLES),
            "is_primary": is_primary,
            "created_at": self._after(created, 30),
        }

    def _deal(self, batch: Batch, customer: int, customer_created: datetime, agent: str | None) -> int:
        rng = self._rng
        index = len(batch.deals)
        created = self._after(customer_created, 200)
        draw = rng.random() * 100
        steps = self._open[: rng.randint(1, len(self._open))]
        path = [*steps, self._closed["lost"]] if draw < LOST else steps
        path = [*self._open, self._closed["won"]] if LOST <= draw < LOST + WON else path
        moves = [(path[0], created)]
        for stage in path[1:]:
            moment = moves[-1][1] + timedelta(days=rng.expovariate(1 / 12))
            if moment >= self._today:
                break
            moves.append((stage, moment))
        for order, (stage, entered) in enumerate(moves):
            batch.stage_history.append(
                {
                    "deal_id": index,
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
                "title": f"{rng.choice(GOODS)} {created.year}",
                "customer_id": customer,
                "stage_id": stage.id,
                "amount": round(min(rng.paretovariate(1.2) * 800, 5_000_000), 2),
                "currency": self._currency if rng.random() < 0.95 else rng.choice(("EUR", "GBP")),
                "probability": stage.probability,
                "expected_close_date": created + timedelta(days=rng.randint(20, 120)),
                "actual_close_date": None if stage.kind == "open" else entered,
                "owner_id": agent or self._agent(),
                "lost_reason": "Price" if stage.kind == "lost" else None,
                "stage_entered_at": entered,
                "created_at": created,
            }
        )
        return index

    def _project(self, batch: Batch, customer: int, customer_created: datetime, agent: str | None) -> int:
        rng = self._project_rng
        created = customer_created + (self._today - customer_created) * rng.random()
        start = created.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=rng.randint(0, 20))
        status = rng.choices(("planned", "in_progress", "on_hold", "completed", "cancelled"), (15, 30, 5, 40, 10))[0]
        batch.projects.append(
            {
                "name": f"{rng.choice(GOODS)}: {rng.choice(('launch', 'move', 'training', 'renewal'))}",
                "status": status,
                "customer_id": customer,
                "owner_id": agent or rng.choice(self._agents),
                "assignees": rng.sample(self._agents, rng.randint(0, 3)),
                "start_date": start,
                "due_date": start + timedelta(days=rng.randint(10, 120)),
                "completed_at": created + (self._today - created) * rng.random() if status == "completed" else None,
                "created_at": created,
            }
        )
        return len(batch.projects) - 1

    def _activity(self, customer: int, deals: list[int], created: datetime, agent: str | None) -> dict[str, Any]:
        rng = self._rng
        started = self._after(created, 300)
        due = started + timedelta(days=rng.uniform(0, 40)) if rng.random() < 0.9 else None
        draw = rng.random()
        late = due is not None and due < self._today
        status = "cancelled" if draw < 0.08 else "completed" if late and draw < 0.93 else "scheduled"
        return {
            "title": rng.choice(TASKS),
            "type": rng.choices(("call", "email", "meeting", "task", "note"), (35, 25, 15, 20, 5))[0],
            "status": status,
            "customer_id": customer,
            "deal_id": rng.choice(deals) if deals and rng.random() < 0.5 else None,
            "assigned_to": agent or self._agent(),
            "due_date": due,
            "completed_at": due if status == "completed" else None,
            "duration": rng.choice((15, 30, 60)) if rng.random() < 0.5 else None,
            "priority": rng.choices(("low", "normal", "high"), (15, 70, 15))[0],
            "created_at": started,
        }

    def _note(self, customer: int, created: datetime, agent: str | None) -> dict[str, Any]:
        author = agent or self._agent()
        return {
            "content": self._rng.choice(REMARKS),
            "customer_id": customer,
            "author_id": author,
            "author_name": NAMES[author],
            "created_at": self._after(created, 300),
        }

    def _agent(self) -> str:
        return self._rng.choices(self._agents, self._weights)[0]

    def _phone(self) -> str:
        return f"+1 555 {self._rng.randrange(10**7):07}"

    def _soon(self) -> datetime:
        return self._today + timedelta(days=self._rng.randrange(-30, 60))

    def _after(self, moment: datetime, days: float) -> datetime:
        """A random later time, not after today."""
        until = min(days, (self._today - moment) / timedelta(days=1))
        return moment + timedelta(days=self._rng.uniform(0, until))


def with_ids(rows: list[dict[str, Any]], ids: Iterator[int], **ids_by_column: list[int]) -> list[dict[str, Any]]:
    """The rows with their ids, and the real ids in place of indexes."""
    made = []
    for row in rows:
        real = {"id": next(ids), **row}
        for column, referred in ids_by_column.items():
            if real.get(column) is not None:
                real[column] = referred[real[column]]
        made.append(real)
    return made
