"""The paths of the conversations that the daemon keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.responses import Response

from ...errors import InvalidRequest, code_of
from ...serving.chats.answers import Writing
from ...serving.chats.events import Event
from ...serving.services import Services
from .. import sse
from ..call import Call, Dialect, Path, Reply, describe, encode_coded_error, json_answer
from ..page.html_events import html_of, with_html
from ..stream import Lines
from . import files, wire


async def _list(services: Services, call: Call) -> Reply:
    found = await services.chats.page(call.caller.owner, **wire.parse_list(call.query))
    return json_answer(wire.encode_list(found))


async def _create(services: Services, call: Call) -> Reply:
    new = await call.parse(wire.parse_new_chat)
    chat = await services.chats.create(call.caller.owner, new.given, temporary=new.temporary)
    return json_answer(wire.encode(chat), 201)


async def _show(services: Services, call: Call) -> Reply:
    chat, messages = await services.chats.get(call.caller.owner, call.path["id"])
    return json_answer(wire.encode_chat(chat, messages))


async def _change(services: Services, call: Call) -> Reply:
    changes = await call.parse(wire.parse_changes)
    chat = await services.chats.update(call.caller.owner, call.path["id"], changes)
    return json_answer(wire.encode(chat))


async def _delete(services: Services, call: Call) -> Reply:
    await services.chats.delete(call.caller.owner, call.path["id"])
    return Response(status_code=204)


async def _delete_all(services: Services, call: Call) -> Reply:
    if call.query.get("confirm") != "all":
        raise InvalidRequest("this deletes all chats: add ?confirm=all to the path")
    await services.chats.delete_all(call.caller.owner)
    return Response(status_code=204)


async def _ask(services: Services, call: Call) -> Reply:
    asked = await call.parse(wire.parse_message)
    made = await services.chats.ask(call.caller, call.path["id"], asked)
    if not isinstance(made, Writing):
        return json_answer(wire.encode(made), 201)
    events = made.follow_new()
    return _streamed(with_html(events, before=made.text_before) if _wants_html(call) else events)


async def _prefill(services: Services, call: Call) -> Reply:
    asked = await call.parse(wire.parse_message)
    await services.chats.preread(call.caller, call.path["id"], asked)
    return Response(status_code=202)


async def _events(services: Services, call: Call) -> Reply:
    given = {"after": call.headers.get("last-event-id", "") or call.query.get("after", "")}
    after = wire.number(given, "after")
    id, message = call.path["id"], call.path["message"]
    if _wants_html(call):  # made of the text from its beginning
        events = services.chats.events(call.caller.owner, id, message, 0)
        return _streamed(with_html(events, after=after))
    return _streamed(services.chats.events(call.caller.owner, id, message, after))


def _wants_html(call: Call) -> bool:
    return call.query.get("html") == "true"


async def _html(services: Services, call: Call) -> Reply:
    ids = await call.parse(wire.parse_html)
    texts = await services.chats.texts(call.caller.owner, call.path["id"], ids)
    found = {id: await html_of(text) for id, text in texts.items()}
    return json_answer(await asyncio.to_thread(wire.encode, found))


def _streamed(events: AsyncGenerator[Event, None]) -> Reply:
    """The events as they come; the answer goes on when the client leaves."""
    return Lines(
        events,
        wire.write_event,
        failed=_failed,
        media_type=sse.MEDIA_TYPE,
        idle=lambda: b": ping\n",
    )


def _failed(error: Exception) -> bytes:
    _, message, _ = describe(error)
    return wire.write_event(
        Event("error", {"code": code_of(error), "message": message, "status": "failed"})
    )


async def _stop(services: Services, call: Call) -> Reply:
    message = await services.chats.stop(call.caller.owner, call.path["id"], call.path["message"])
    return json_answer(wire.encode(message))


async def _delete_message(services: Services, call: Call) -> Reply:
    await services.chats.delete_message(call.caller.owner, call.path["id"], call.path["message"])
    return Response(status_code=204)


_MESSAGE = "/api/chats/{id}/messages/{message}"

PATHS = (
    *files.PATHS,  # before those with {id}, which would match, too
    Path("/api/chats", "GET", _list, "infer"),
    Path("/api/chats", "POST", _create, "infer"),
    Path("/api/chats", "DELETE", _delete_all, "infer"),
    Path("/api/chats/{id}", "GET", _show, "infer"),
    Path("/api/chats/{id}", "PATCH", _change, "infer"),
    Path("/api/chats/{id}", "DELETE", _delete, "infer"),
    Path("/api/chats/{id}/messages", "POST", _ask, "infer"),
    Path("/api/chats/{id}/html", "POST", _html, "infer"),
    Path("/api/chats/{id}/prefill", "POST", _prefill, "infer"),
    Path(f"{_MESSAGE}/events", "GET", _events, "infer"),
    Path(f"{_MESSAGE}/stop", "POST", _stop, "infer"),
    Path(_MESSAGE, "DELETE", _delete_message, "infer"),
)

DIALECT = Dialect(PATHS, encode_coded_error, has_codes=True)
