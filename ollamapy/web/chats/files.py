"""The paths of files: exports and imports of conversations, and attachments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from starlette.responses import Response

from ...digests import parse_digest
from ...errors import InvalidRequest
from ...serving.chats import exchange
from ...serving.services import Services
from ...types import Document
from .. import query as parameters
from ..body import AnnouncedTooLarge, BodyTooLarge
from ..call import PLAIN_JSON, Call, Path, Reply, json_answer
from ..stream import Lines, drop_rest
from . import wire


async def _export(services: Services, call: Call) -> Reply:
    form, owner, id = call.query.get("format") or "json", call.caller.owner, call.path["id"]
    if form == "markdown":
        chat, text = await services.chats.markdown(owner, id)
        return Response(text, headers=_as_file(chat.title, "md"), media_type="text/markdown")
    if form != "json":
        raise InvalidRequest("format must be json or markdown")
    chat, found = await services.chats.export(owner, id)
    content = exchange.HEAD + found + exchange.TAIL
    return Response(content, headers=_as_file(chat.title, "json"), media_type=PLAIN_JSON)


async def _export_all(services: Services, call: Call) -> Reply:
    return Lines(
        services.chats.export_all(call.caller.owner),
        lambda piece: piece,
        failed=lambda error: b"",  # the file is left without its end
        media_type=PLAIN_JSON.encode(),
        headers=_as_file("chats", "json"),
    )


def _as_file(title: str, ending: str) -> dict[str, str]:
    """The headers of an answer that is to be stored as a file."""
    name = quote(f"{title[:60] or 'chat'}.{ending}", safe="")
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}


async def _import(services: Services, call: Call) -> Reply:
    length = call.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:18]) > wire.MOST_IMPORTED:
        raise AnnouncedTooLarge(_TOO_LARGE)
    chats, skipped = await services.chats.take_in(call.caller.owner, _bounded(call.parts))
    return json_answer(wire.encode({"chats": chats, "skipped": skipped}))


_PIECE = 2**20  # bytes of a file that are read at a time in a thread
_TOO_LARGE = (
    f"the file is larger than {wire.MOST_IMPORTED // 2**20} MiB: split it into several ones"
)


async def _bounded(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The parts of a file of at most MOST_IMPORTED bytes, joined to larger ones. Raises BodyTooLarge."""
    size, joined = 0, bytearray()
    async for part in parts:
        size += len(part)
        if size > wire.MOST_IMPORTED:
            await drop_rest(parts)
            raise BodyTooLarge(_TOO_LARGE)
        joined += part
        if len(joined) >= _PIECE:
            yield bytes(joined)
            joined.clear()
    yield bytes(joined)


async def _attach(services: Services, call: Call) -> Reply:
    name = parameters.text(call.query, "name")
    wire.check_name(name)
    content = await call.parse(wire.parse_attachment)
    temporary = parameters.flag(call.query, "temporary")
    await services.files.check(Document(content, name))
    stored = await services.chats.attach(call.caller.owner, content, name, temporary=temporary)
    return json_answer(wire.encode(stored), 201)


async def _attachment(services: Services, call: Call) -> Reply:
    digest = parse_digest(call.path["digest"])
    found, content = await services.chats.attachment(call.caller.owner, digest)
    return Response(content, headers=_SAFE, media_type=found.media_type)


_SAFE = {
    "Content-Disposition": "attachment",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=86400",
}
"""Of an attachment: whatever it is, a browser only shows it as an image or stores it."""


PATHS = (
    Path("/api/chats/export", "GET", _export_all, "infer"),
    Path("/api/chats/import", "POST", _import, "infer", in_parts=True),
    Path("/api/chats/{id}/export", "GET", _export, "infer"),
    Path("/api/attachments", "POST", _attach, "infer"),
    Path("/api/attachments/{digest}", "GET", _attachment, "infer"),
)
