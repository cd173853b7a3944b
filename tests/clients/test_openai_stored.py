"""OpenAI's own Python client: responses that are stored, continued, and written in the background; conversations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.served import Daemon, until

from .conftest import ANSWER, HELLO, WEATHER

FUNCTION: Any = WEATHER["function"]
TOOL: Any = {"type": "function", "strict": False, **FUNCTION}


@pytest.fixture(scope="module")
def client(judged: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{judged.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def texts(items: Any) -> list[str]:
    """The texts of the messages among items."""
    return [part.text for item in items if item.type == "message" for part in item.content]


# ---- stored responses ------------------------------------------------------------------------------------------------


def test_a_response_is_read_again_and_deleted(client: openai.OpenAI) -> None:
    made = client.responses.create(
        model="hello", input="Hi", metadata={"a": "b"}, instructions="Be kind."
    )
    assert made.to_dict()["store"] is True
    assert client.responses.retrieve(made.id) == made
    client.responses.delete(made.id)
    for gone in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match=made.id):
            gone(made.id)


def test_a_stream_is_stored_before_it_ends(client: openai.OpenAI) -> None:
    with client.responses.stream(model="think", input="Hi") as stream:
        for event in stream:
            if event.type == "response.completed":
                assert client.responses.retrieve(event.response.id).output_text == ANSWER
        assert (
            client.responses.retrieve(stream.get_final_response().id).output[0].type == "reasoning"
        )


def test_what_is_not_to_be_stored_is_not(client: openai.OpenAI) -> None:
    made = client.responses.create(model="hello", input="Hi", store=False)
    assert made.output_text == HELLO and made.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="not found") as error:
        client.responses.create(model="hello", input="And?", previous_response_id=made.id)
    assert error.value.code == "previous_response_not_found"
    assert error.value.param == "previous_response_id"


def test_the_items_of_a_request(client: openai.OpenAI) -> None:
    given: Any = [{"role": "user", "content": f"{n}"} for n in range(5)]
    given[1]["role"] = "assistant"
    made = client.responses.create(model="hello", input=given)
    listed = client.responses.input_items.list(made.id)
    assert texts(listed) == ["4", "3", "2", "1", "0"] and listed.has_more is False
    assert [item.content[0].type for item in listed.data if item.type == "message"][
        3
    ] == "output_text"
    paged = client.responses.input_items.list(made.id, order="asc", limit=2)
    assert texts(paged.data) == ["0", "1"] and paged.has_more
    assert texts(paged) == ["0", "1", "2", "3", "4"]
    after = client.responses.input_items.list(made.id, after=listed.data[1].id, limit=1)
    assert texts(after.data) == ["2"]
    for bad in ({"limit": 0}, {"limit": 101}, {"order": "up"}):
        with pytest.raises(openai.BadRequestError):
            client.responses.input_items.list(made.id, extra_query=bad)
    with pytest.raises(openai.NotFoundError, match="msg_unknown"):
        client.responses.input_items.list(made.id, after="msg_unknown")


def test_a_response_is_continued_as_if_all_had_been_sent(client: openai.OpenAI) -> None:
    common: Any = {"model": "tool", "tools": [TOOL], "instructions": "Help."}
    first = client.responses.create(input="Hi", **common)
    [call] = [item for item in first.output if item.type == "function_call"]
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "11"}
    second = client.responses.create(input=[result], previous_response_id=first.id, **common)
    assert (
        second.previous_response_id == first.id and second.usage and second.usage.input_tokens > 0
    )
    whole: Any = [{"role": "user", "content": "Hi"}, *first.output, result]
    alone = client.responses.create(input=whole, **common)
    assert alone.usage and second.usage.input_tokens == alone.usage.input_tokens
    third = client.responses.create(input="And?", previous_response_id=second.id, **common)
    cached = third.usage.input_tokens_details.cached_tokens if third.usage else 0
    assert second.usage and cached >= second.usage.input_tokens - 1  # nothing of it changed
    whole += [*second.output, {"role": "user", "content": "And?"}]
    alone = client.responses.create(input=whole, **common)
    assert alone.usage and third.usage and third.usage.input_tokens == alone.usage.input_tokens


def test_an_input_refers_to_stored_items(client: openai.OpenAI) -> None:
    first = client.responses.create(model="hello", input="Hi")
    [asked] = client.responses.input_items.list(first.id).data
    refer: Any = [{"type": "item_reference", "id": id} for id in (asked.id, first.output[0].id)]
    question: Any = {"role": "user", "content": "And?"}
    second = client.responses.create(model="hello", input=[*refer, question])
    chained = client.responses.create(model="hello", input="And?", previous_response_id=first.id)
    assert second.usage and chained.usage
    assert second.usage.input_tokens == chained.usage.input_tokens
    for id in ("msg_unknown", f"msg_{'0' * 32}_0", f"{first.output[0].id}9"):
        unknown: Any = [{"type": "item_reference", "id": id}]
        with pytest.raises(openai.NotFoundError):
            client.responses.create(model="hello", input=unknown)


def test_tokens_are_counted(client: openai.OpenAI) -> None:
    made = client.responses.create(model="hello", input="Hi", instructions="Be kind.")
    counted = client.responses.input_tokens.count(
        model="hello", input="Hi", instructions="Be kind."
    )
    assert made.usage and counted.input_tokens == made.usage.input_tokens
    more = client.responses.input_tokens.count(
        model="hello", input="And?", previous_response_id=made.id
    )
    assert more.input_tokens > counted.input_tokens


# ---- in the background -----------------------------------------------------------------------------------------------


def test_a_response_in_the_background(client: openai.OpenAI) -> None:
    made = client.responses.create(model="think", input="Hi", background=True)
    assert made.status in ("queued", "in_progress") and made.background and made.output == []

    def ended() -> Any:
        found = client.responses.retrieve(made.id)
        return found if found.status not in ("queued", "in_progress") else None

    found = until(ended, "the response is complete")
    assert found.status == "completed" and found.output_text == ANSWER and found.usage
    assert client.responses.cancel(made.id) == found
    events = list(client.responses.retrieve(made.id, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:3]] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    assert events[-1].type == "response.completed" and events[-1].response == found
    for after in range(-1, len(events)):
        query: Any = {} if after < 0 else {"starting_after": after}
        rest = client.responses.retrieve(made.id, stream=True, **query)
        assert list(rest) == events[after + 1 :], after


def test_a_stream_goes_on_without_its_client_and_is_taken_up(client: openai.OpenAI) -> None:
    stream = client.responses.create(
        model="rand", input="Hi", background=True, stream=True, max_output_tokens=300
    )
    seen = [event for event, _ in zip(stream, range(9), strict=False)]
    stream.close()
    id = seen[0].response.id  # type: ignore[union-attr]
    last = seen[-1].sequence_number
    rest = list(client.responses.retrieve(id, stream=True, starting_after=last))
    assert [e.sequence_number for e in rest] == list(range(last + 1, last + 1 + len(rest)))
    assert list(client.responses.retrieve(id, stream=True)) == [*seen, *rest]
    deltas = [e.delta for e in [*seen, *rest] if e.type == "response.output_text.delta"]
    found = client.responses.retrieve(id)
    assert found.status == "incomplete" and found.output_text == "".join(deltas)


def test_a_response_in_the_background_is_cancelled(client: openai.OpenAI, judged: Daemon) -> None:
    made = client.responses.create(
        model="rand", input="Hi", background=True, max_output_tokens=100_000, stream=True
    )
    events = iter(made)
    first: Any = next(event for event in events if event.type == "response.created")
    next(event for event in events if event.type == "response.output_text.delta")
    id = first.response.id
    with pytest.raises(openai.BadRequestError, match="still being written"):
        client.responses.create(model="hello", input="And?", previous_response_id=id)
    found = client.responses.cancel(id)
    assert found.status == "cancelled" and found.output_text and found.error is None
    last: Any = list(events)[-1]
    assert last.type == "response.cancelled" and last.response["status"] == "cancelled"
    assert client.responses.retrieve(id) == found
    until(lambda: judged.busy() == 0, "the lease is released")
    again = client.responses.create(
        model="rand", input="Hi", background=True, max_output_tokens=100_000
    )
    client.responses.delete(again.id)
    until(lambda: judged.busy() == 0, "deletion ends it, too")


def test_what_cannot_be_in_the_background(client: openai.OpenAI) -> None:
    made = client.responses.create(model="hello", input="Hi")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(made.id)
    with pytest.raises(openai.BadRequestError, match="background needs store"):
        client.responses.create(model="hello", input="Hi", background=True, store=False)
    with pytest.raises(openai.NotFoundError, match="'nosuch' not found"):
        client.responses.create(model="nosuch", input="Hi", background=True)


# ---- conversations ---------------------------------------------------------------------------------------------------


def test_a_conversation(client: openai.OpenAI) -> None:
    made = client.conversations.create(
        items=[{"role": "user", "content": "a"}], metadata={"topic": "x"}
    )
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "y"})
    assert changed.metadata == {"topic": "y"} and changed.created_at == made.created_at

    added = client.conversations.items.create(made.id, items=[{"role": "user", "content": "b"}])
    [item] = added.data
    assert texts(client.conversations.items.list(made.id, order="asc", limit=1)) == ["a", "b"]
    assert client.conversations.items.retrieve(item.id, conversation_id=made.id) == item  # type: ignore[arg-type]
    client.conversations.items.delete(item.id, conversation_id=made.id)  # type: ignore[arg-type]
    assert texts(client.conversations.items.list(made.id)) == ["a"]

    assert client.conversations.delete(made.id).deleted
    for gone in (client.conversations.retrieve, client.conversations.delete):
        with pytest.raises(openai.NotFoundError, match=made.id):
            gone(made.id)
    with pytest.raises(openai.NotFoundError, match=made.id):
        client.responses.create(model="hello", input="Hi", conversation=made.id)


@pytest.mark.parametrize("background", [False, True])
def test_a_response_belongs_to_a_conversation(client: openai.OpenAI, background: bool) -> None:
    talk = client.conversations.create()
    common: Any = {"model": "think", "conversation": talk.id, "background": background}
    counts = []
    for question in ("a", "b"):
        made = client.responses.create(input=question, **common)
        found = until(
            lambda: (it := client.responses.retrieve(made.id)).status == "completed" and it,  # noqa: B023
            "it is complete",
        )
        assert found.conversation.id == talk.id and found.output_text == ANSWER
        counts.append(found.usage.input_tokens)
    listed = list(client.conversations.items.list(talk.id, order="asc"))
    assert [item.type for item in listed] == ["message", "reasoning", "message"] * 2
    assert texts(listed) == ["a", ANSWER, "b", ANSWER]
    assert counts[1] > counts[0]
    # A response knows its conversation as it was
    after = client.responses.create(
        model="think", input="b", previous_response_id=first_of(client, talk.id)
    )
    assert after.usage


def first_of(client: openai.OpenAI, conversation: str) -> str:
    """The id of the response that wrote the first answer of a conversation."""
    for item in client.conversations.items.list(conversation, order="asc"):
        if item.type == "reasoning":
            return f"resp_{item.id.split('_')[1]}"
    raise AssertionError("no answer")


def test_bad_conversations(client: openai.OpenAI) -> None:
    talk = client.conversations.create()
    many = [{"role": "user", "content": "a"}] * 21
    bad: Any
    for bad in (
        many,
        [{"role": "robot", "content": "a"}],
        [{"type": "item_reference", "id": "x"}],
        [],
    ):
        with pytest.raises(openai.BadRequestError):
            client.conversations.items.create(talk.id, items=bad)
    with pytest.raises(openai.BadRequestError, match="metadata"):
        client.conversations.update(talk.id, metadata={"a": "x" * 513})
    with pytest.raises(openai.BadRequestError, match="cannot be used together"):
        client.responses.create(
            model="hello", input="Hi", conversation=talk.id, previous_response_id="resp_1"
        )
    with pytest.raises(openai.NotFoundError, match="msg_unknown"):
        client.conversations.items.retrieve("msg_unknown", conversation_id=talk.id)
