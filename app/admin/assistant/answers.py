"""All answers that a worker gives."""

from __future__ import annotations

import asyncio
from collections import Counter

from litestar import Litestar

from app.access.actor import Actor
from app.admin.assistant.answering import Answer, Asked
from app.assistant.windows import Windows
from app.web.draining import is_draining
from app.web.errors import AppError, Code

# In one worker: of a person, and of all.
MOST_OF_PERSON = 3
MOST_ANSWERS = 200


class Answers:
    """The answers of one worker."""

    def __init__(self) -> None:
        self._windows = Windows()
        self._answers: dict[tuple[str, int], Answer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._of_person: Counter[tuple[str, str]] = Counter()

    def require_room(self, actor: Actor) -> None:
        """Raise AppError RATE_LIMITED, or SERVICE_UNAVAILABLE while the service stops or gives too many answers."""
        if is_draining() or len(self._answers) >= MOST_ANSWERS:
            raise AppError(Code.SERVICE_UNAVAILABLE)
        if self._of_person[actor.tenant_id, actor.user_id] >= MOST_OF_PERSON:
            raise AppError(
                Code.RATE_LIMITED,
                f"The assistant gives you {MOST_OF_PERSON} answers already: wait for one of them, or cancel it",
                headers={"Retry-After": "5"},
            )

    def start(self, app: Litestar, asked: Asked) -> Answer:
        """Begin an answer that was asked for and is stored as such."""
        answer = Answer(app, asked, self._windows)
        self._answers[_place(asked)] = answer
        self._of_person[_person(asked)] += 1
        task = asyncio.create_task(self._give(answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    def find(self, tenant_id: str, conversation_id: int) -> Answer | None:
        """The answer that this worker gives in a conversation."""
        return self._answers.get((tenant_id, conversation_id))

    async def stop(self) -> None:
        """End all answers. What there is of them is stored."""
        for answer in list(self._answers.values()):
            answer.interrupt()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _give(self, answer: Answer) -> None:
        place, person = _place(answer.asked), _person(answer.asked)
        try:
            await answer.run()
        finally:
            if self._answers.get(place) is answer:
                del self._answers[place]
            self._of_person[person] -= 1
            if not self._of_person[person]:
                del self._of_person[person]


def _place(asked: Asked) -> tuple[str, int]:
    return asked.actor.tenant_id, asked.conversation_id


def _person(asked: Asked) -> tuple[str, str]:
    return asked.actor.tenant_id, asked.actor.user_id
