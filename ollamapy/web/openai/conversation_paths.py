"""The paths of /v1/conversations: conversations of items that the daemon keeps until they are deleted."""

from __future__ import annotations

import msgspec

from ...serving.responses.values import ItemPage
from ...serving.services import Services
from ..call import Call, Path, Reply, plain_json_answer
from . import conversations, item_lists, wire


async def _create(services: Services, call: Call) -> Reply:
    new = await call.parse(conversations.parse_new)
    made = await services.responses.create_conversation(call.caller.owner, new.metadata, new.items)
    return plain_json_answer(conversations.encode(made))


async def _retrieve(services: Services, call: Call) -> Reply:
    found = await services.responses.conversation(call.caller.owner, call.path["id"])
    return plain_json_answer(conversations.encode(found))


async def _update(services: Services, call: Call) -> Reply:
    metadata = await call.parse(conversations.parse_update)
    owner, id = call.caller.owner, call.path["id"]
    found = await services.responses.update_conversation(owner, id, metadata)
    return plain_json_answer(conversations.encode(found))


async def _delete(services: Services, call: Call) -> Reply:
    id = call.path["id"]
    await services.responses.delete_conversation(call.caller.owner, id)
    found = {"id": id, "object": "conversation.deleted", "deleted": True}
    return plain_json_answer(wire.encode(found))


async def _items(services: Services, call: Call) -> Reply:
    listing = item_lists.parse(call.query)
    page = await services.responses.items(call.caller.owner, call.path["id"], listing)
    return plain_json_answer(item_lists.encode(page))


async def _add_items(services: Services, call: Call) -> Reply:
    items = await call.parse(conversations.parse_items)
    await services.responses.add_items(call.caller.owner, call.path["id"], items)
    return plain_json_answer(item_lists.encode(ItemPage(items, False)))


async def _item(services: Services, call: Call) -> Reply:
    owner, id = call.caller.owner, call.path["id"]
    found = await services.responses.conversation_item(owner, id, call.path["item"])
    return plain_json_answer(wire.encode(msgspec.Raw(found.json)))


async def _delete_item(services: Services, call: Call) -> Reply:
    owner, id = call.caller.owner, call.path["id"]
    found = await services.responses.delete_item(owner, id, call.path["item"])
    return plain_json_answer(conversations.encode(found))


_CONVERSATION = "/v1/conversations/{id}"

PATHS = (
    Path("/v1/conversations", "POST", _create, "infer"),
    Path(_CONVERSATION, "GET", _retrieve, "infer"),
    Path(_CONVERSATION, "POST", _update, "infer"),
    Path(_CONVERSATION, "DELETE", _delete, "infer"),
    Path(f"{_CONVERSATION}/items", "GET", _items, "infer"),
    Path(f"{_CONVERSATION}/items", "POST", _add_items, "infer"),
    Path(f"{_CONVERSATION}/items/{{item}}", "GET", _item, "infer"),
    Path(f"{_CONVERSATION}/items/{{item}}", "DELETE", _delete_item, "infer"),
)
