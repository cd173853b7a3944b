"""OpenAI's own Python client: responses that are stored, continued, and written in the background; conversations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.served import Daemon

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
    whole += [*second.output, {"role": "user", "content": "And?"}]
    alone = client.responses.create(input=whole, **common)
    assert alone.usage and third.usage and third.usage.input_tokens == alone.usage.input_tokens
