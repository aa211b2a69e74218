"""What of a conversation goes to a model: all of it, as long as there is room."""

from __future__ import annotations

from app.assistant.provider import Message, Provider, Text, Thought, ToolCall, ToolResult
from app.assistant.turns import LEFT_OUT, Kept, Note, Offer, Turn, as_sent, plan, transcript, weight

LONG = "x" * 3000


def exchange(first: int, text: str = "short", result: str = LONG) -> list[Turn]:
    """A question, a call with its result, and an answer."""
    return [
        Turn(first, "user", [Text(f"question {first}")]),
        Turn(first + 1, "assistant", [ToolCall(f"c{first}", "search", {"q": "ada"})]),
        Turn(first + 2, "tool", [ToolResult(f"c{first}", result)]),
        Turn(first + 3, "assistant", [Text(text)]),
    ]


def test_what_fits_is_sent_whole() -> None:
    turns = [*exchange(1), *exchange(5)]
    planned = plan(turns, 10_000)
    assert (planned.ids, planned.shortened, planned.crowd) == ([*range(1, 9)], frozenset(), [])
    assert [message.role for message in planned.messages] == ["user", "assistant", "tool", "assistant"] * 2


def test_the_oldest_results_are_left_out_first_and_the_newest_never() -> None:
    turns = [*exchange(1), *exchange(5), *exchange(9)[:3]]
    planned = plan(turns, weight(as_sent(turns, ())) - 1)
    assert (planned.shortened, planned.crowd) == (frozenset({3}), [])
    assert planned.messages[2] == Message("tool", [ToolResult("c1", LEFT_OUT)])
    assert plan(turns, 1200).shortened == {3, 7}
    assert plan(turns, 10).shortened == {3, 7}


def test_then_the_oldest_exchanges_are_summed_up() -> None:
    turns = [*exchange(1, LONG), *exchange(5, LONG), *exchange(9, LONG), Turn(13, "user", [Text("And now?")])]
    planned = plan(turns, 2400)
    assert [turn.id for turn in planned.crowd] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert planned.ids == [9, 10, 11, 12, 13]
    summary = Turn(14, "summary", [Text("They spoke of Ada.")], until=8)
    again = plan([*turns, summary], 2400)
    assert (again.ids, again.crowd) == ([14, 9, 10, 11, 12, 13], [])
    (first, *_) = again.messages
    assert first.role == "user"
    told = [part.text for part in first.parts if isinstance(part, Text)]
    assert [text.splitlines()[-1] for text in told] == ['{"untrusted":"They spoke of Ada."}', "question 9"]


def test_what_is_asked_now_is_never_summed_up() -> None:
    turns = [*exchange(1), Turn(5, "user", [Text(LONG * 10)])]
    planned = plan(turns, 100)
    assert ([turn.id for turn in planned.crowd], planned.ids) == ([1, 2, 3, 4], [5])
    assert plan(turns[4:], 100).ids == [5]


def test_the_summary_is_sent_even_where_the_newest_exchange_has_no_room() -> None:
    summary = Turn(6, "summary", [Text("They spoke of Ada.")], until=4)
    turns = [*exchange(1), Turn(5, "user", [Text(LONG * 10)]), summary]
    planned = plan(turns, 100)
    assert (planned.ids, planned.crowd) == ([6, 5], [])
    assert "They spoke of Ada." in str(planned.messages)
    # With an exchange after it, it is summed up anew.
    later = [*turns, Turn(7, "assistant", [Text("Well")]), Turn(8, "user", [Text(LONG)])]
    assert [turn.id for turn in plan(later, 100).crowd] == [6, 5, 7]


def test_a_call_without_a_result_has_one_that_says_so() -> None:
    calls: list[Kept] = [ToolCall("a", "search", {}), ToolCall("b", "search", {})]
    kept: list[Kept] = [ToolResult("a", "{}"), Offer(1, "Create a customer")]
    turns = [Turn(1, "user", [Text("?")]), Turn(2, "assistant", calls), Turn(3, "tool", kept)]
    *_, results = as_sent([*turns, Turn(4, "user", [Text("Go on")])], ())[:3]
    assert [part.call_id for part in results.parts if isinstance(part, ToolResult)] == ["a", "b"]
    assert [part.is_error for part in results.parts if isinstance(part, ToolResult)] == [False, True]
    # Even where nothing of the results was stored.
    assert [message.role for message in as_sent(turns[:2], ())] == ["user", "assistant", "tool"]


def test_what_has_no_begin_and_what_was_erased_is_not_sent() -> None:
    begins = exchange(1)[1:]
    erased = [Turn(10, "user", []), Turn(11, "assistant", [])]
    assert [message.role for message in plan([*begins, *exchange(5)], 10_000).messages] == [
        *("user", "assistant", "tool", "assistant")
    ]
    assert as_sent([*erased, Turn(12, "user", [Text("Hello")])], ()) == [Message("user", [Text("Hello")])]


def test_the_model_is_told_what_the_service_says_apart_from_what_the_person_says() -> None:
    (message,) = as_sent([Turn(1, "user", [Note("Proposal 1 is done."), Text("Thanks")])], ())
    note, said = message.parts
    assert isinstance(note, Text)
    assert note.text.startswith("[Told by the service, not by the person]")
    assert said == Text("Thanks")


def test_what_is_summed_up_has_no_thoughts_and_its_end_stays() -> None:
    thought = Turn(1, "assistant", [Thought(Provider.ANTHROPIC, {"thinking": "secret"}), Text("Hello")])
    assert transcript([thought], 1000) == "assistant: Hello"
    assert transcript([thought, *exchange(2)], 20) == transcript(exchange(2), 20)
