"""The paths of OpenAI's newer API, /v1/responses: making responses, and those that are stored."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from ...request import Request
from ...serving import answer
from ...serving.responses.responses import failure_of, status_of
from ...serving.responses.values import Item, Link, Response, ResponseNotFound, new_id
from ...serving.services import Services
from ...types import Chunk
from .. import query, sse
from ..body import Misread
from ..call import PLAIN_JSON, Call, Dialect, Path, Reply, plain_json_answer
from ..pauses import Pauses
from ..stream import Lines
from . import conversation_paths, item_lists, response_items, responses, wire
from .response_events import Event, ResponseWriter, output_items, written

_OUTPUT_ID = re.compile(r"[a-z]{2,3}_([0-9a-f]{24,32})_[0-9]{1,6}")
"""The id of an item of a response's output: it has the response's id in it."""


@dataclass(frozen=True, slots=True)
class _New:
    """A response that is to be written: its request, with all that comes before it, and its own items."""

    response: Response
    items: Sequence[Item]
    request: Request
    stream: bool


async def _create(services: Services, call: Call) -> Reply:
    new = await _new(services, call, responses.parse)
    if new.response.background:
        return await _in_background(services, call, new)
    chunks = answer.answer(services, replace(new.request, progress=new.stream), call.caller)
    writer = ResponseWriter(new.response)
    if new.stream:
        pauses = Pauses()
        kept = pauses.without_waits(chunks, lambda chunk: chunk)
        return _streamed(_written(services, call.caller.owner, new, writer, kept), pauses.comment)
    last = await answer.collect(chunks)
    await _keep(services, call.caller.owner, new, writer, [last], last)
    writer.events(last)
    return plain_json_answer(wire.encode(writer.whole()))


async def _in_background(services: Services, call: Call, new: _New) -> Reply:
    request = replace(new.request, progress=True, by_token=True)
    running = await services.responses.start(
        call.caller, new.response, new.items, request, _added_by(new)
    )
    if not new.stream:
        return plain_json_answer(wire.encode(written(running.response, ())))
    return _streamed(_followed(lambda: running.response, running.follow(), -1))


# ---- from a body to a response that is to be written -----------------------------------------------------------------


async def _new(
    services: Services, call: Call, parse: Callable[[bytes], responses.ParsedResponse]
) -> _New:
    """What a request wants, with what comes before it. Raises ResponseNotFound, InvalidRequest."""
    encoding = call.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Misread(f"a body with content-encoding {encoding[:40]!r} is not read, send it plain")
    parsed = await call.parse(parse)
    head, owner = parsed.head, call.caller.owner
    context = await services.responses.context(owner, head.previous, head.conversation)
    found = await _referred(services, owner, response_items.references(parsed.items))
    items, request = parsed.items, parsed.request
    if context.links or found:
        items = response_items.resolved(items, found)
        earlier = await asyncio.to_thread(_earlier, context.links)
        request = await asyncio.to_thread(parsed.after, earlier, items)
    response = Response(
        id=new_id("resp"),
        status="queued" if head.background else "in_progress",
        created_at=int(time.time()),
        head=wire.encode(head),
        background=head.background,
        previous=head.previous,
        conversation=head.conversation,
        base=context.base,
    )
    request = replace(request, is_kept=head.store)
    return _New(response, response_items.stored(items, keeps_ids=True), request, parsed.stream)


def _earlier(links: Sequence[Link]) -> list[dict[str, Any]]:
    """All items that come before a request, each as it was sent and written."""
    found = []
    for items, response, chunks in links:
        found += [msgspec.json.decode(item) for item in items]
        if response is not None:
            found += written(response, chunks)["output"]
    return found


async def _referred(
    services: Services, owner: str, ids: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The stored items with these ids. Raises ResponseNotFound."""
    return {id: await _item(services, owner, id) for id in ids}


async def _item(services: Services, owner: str, id: str) -> dict[str, Any]:
    found: dict[str, Any]
    if match := _OUTPUT_ID.fullmatch(id):
        response, chunks = await services.responses.get(owner, f"resp_{match[1]}")
        for found in written(response, chunks)["output"]:
            if found["id"] == id:
                return found
        raise ResponseNotFound(f"Item with id '{id}' not found.")
    found = msgspec.json.decode(await services.responses.item(owner, id))
    return found


# ---- a response whose client waits -----------------------------------------------------------------------------------


async def _written(
    services: Services,
    owner: str,
    new: _New,
    writer: ResponseWriter,
    chunks: AsyncGenerator[Chunk, None],
) -> AsyncGenerator[list[Event], None]:
    """The events of a response. It is stored before its last event; also if it fails once it has begun."""
    taken: list[Chunk] = []
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                taken.append(chunk)
                if chunk.finish_reason:
                    await _keep(services, owner, new, writer, taken, chunk)
                yield writer.events(chunk)
    except Exception as error:
        if not taken:
            raise
        failure = failure_of(error)
        writer.response = replace(writer.response, status="failed", error=failure)
        await _keep(services, owner, new, writer, taken, None)
        yield writer.ending()


async def _keep(
    services: Services,
    owner: str,
    new: _New,
    writer: ResponseWriter,
    chunks: Sequence[Chunk],
    last: Chunk | None,
) -> None:
    """Store a response that has ended, if it is to be stored; ``last`` is the chunk that ended it."""
    ended = replace(writer.response, ended_at=int(time.time()))
    if last is not None:
        ended = replace(ended, status=status_of(last))
    writer.response = ended
    if not writer.head.store:
        return
    added: Sequence[Item] = ()
    if ended.conversation is not None and last is not None:
        added = await asyncio.to_thread(_added_by(new), ended, chunks)
    if not await services.responses.keep(owner, ended, new.items, chunks, added):
        writer.is_stored = False


def _added_by(new: _New) -> Callable[[Response, Sequence[Chunk]], Sequence[Item]]:
    """What a response adds to its conversation: its input and its output."""
    return lambda response, chunks: [*new.items, *output_items(response, chunks)]


# ---- responses that are stored ---------------------------------------------------------------------------------------


async def _retrieve(services: Services, call: Call) -> Reply:
    owner, id = call.caller.owner, call.path["id"]
    if query.flag(call.query, "stream"):
        after = query.count(call.query, "starting_after", -1, 10**9, least=0)
        response, chunks = await services.responses.follow(owner, id)
        return _streamed(_followed(response, chunks, after))
    return await _whole(*await services.responses.get(owner, id))


async def _cancel(services: Services, call: Call) -> Reply:
    return await _whole(*await services.responses.cancel(call.caller.owner, call.path["id"]))


async def _whole(response: Response, chunks: Sequence[Chunk]) -> Reply:
    found = await asyncio.to_thread(written, response, chunks)
    return plain_json_answer(wire.encode(found))


async def _followed(
    response: Callable[[], Response], chunks: AsyncGenerator[Chunk, None], after: int
) -> AsyncGenerator[list[Event], None]:
    """The events of a response after a number: those that it had, and those to come while it is written."""
    writer = ResponseWriter(response())
    if found := _after(writer.opening(), after):
        yield found
    has_ended = False
    async with aclosing(chunks):
        async for chunk in chunks:
            writer.response = response()
            has_ended = bool(chunk.finish_reason)
            if found := _after(writer.events(chunk), after):
                yield found
            else:
                await asyncio.sleep(0)  # others' work goes on while old events are skipped
    writer.response = response()
    if not has_ended and (found := _after(writer.ending(), after)):
        yield found


def _after(events: list[Event], number: int) -> list[Event]:
    return [event for event in events if event["sequence_number"] > number]


def _streamed(
    events: AsyncGenerator[list[Event], None], idle: Callable[[], bytes] = lambda: b": ping\n"
) -> Reply:
    """Events as they come; a response in the background goes on when the client leaves."""
    return Lines(events, sse.write, failed=_failed, media_type=sse.MEDIA_TYPE, idle=idle)


def _failed(error: Exception) -> bytes:
    """The event of a stream that ends without its response: reading it failed."""
    failure = failure_of(error)
    return sse.write(
        [{"type": "error", "code": failure.code or None, "message": failure.message, "param": None}]
    )


async def _delete(services: Services, call: Call) -> Reply:
    id = call.path["id"]
    await services.responses.delete(call.caller.owner, id)
    return plain_json_answer(wire.encode({"id": id, "object": "response", "deleted": True}))


async def _input_items(services: Services, call: Call) -> Reply:
    listing = item_lists.parse(call.query)
    page = await services.responses.input_items(call.caller.owner, call.path["id"], listing)
    return plain_json_answer(item_lists.encode(page))


async def _input_tokens(services: Services, call: Call) -> Reply:
    new = await _new(services, call, responses.parse)
    rendered = await answer.render(services, new.request, call.caller)
    found = {"object": "response.input_tokens", "input_tokens": rendered.tokens}
    return plain_json_answer(wire.encode(found))


_RESPONSE = "/v1/responses/{id}"

DIALECT = Dialect(
    (
        Path("/v1/responses", "POST", _create, "infer"),
        Path("/v1/responses/input_tokens", "POST", _input_tokens, "infer"),
        Path(_RESPONSE, "GET", _retrieve, "infer"),
        Path(_RESPONSE, "DELETE", _delete, "infer"),
        Path(f"{_RESPONSE}/cancel", "POST", _cancel, "infer"),
        Path(f"{_RESPONSE}/input_items", "GET", _input_items, "infer"),
        *conversation_paths.PATHS,
    ),
    wire.encode_error,
    error_type=PLAIN_JSON,
)
