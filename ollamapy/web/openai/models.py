"""/v1/models: the stored models as OpenAI lists its own. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ...models.listing import ListedModel
from ...models.spec import ModelSpec
from ...names import Name
from ..ollama.wire import encode


def encode_list(models: Iterable[ListedModel]) -> bytes:
    """The answer of /v1/models."""
    data = [
        _model(each.name, datetime.fromisoformat(each.modified_at).timestamp(), each.name)
        for each in models
    ]
    return encode({"object": "list", "data": data})


def encode_anthropic_list(models: Iterable[ListedModel]) -> bytes:
    """The answer of /v1/models in Anthropic's shape: all models on one page."""
    data = [
        {
            "type": "model",
            "id": each.name,
            "display_name": each.name,
            "created_at": each.modified_at,
        }
        for each in models
    ]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return encode({"data": data, "has_more": False, "first_id": None, "last_id": None, **ends})


def encode_model(name: str, spec: ModelSpec) -> bytes:
    """The answer of /v1/models/NAME; the id is the name as the request has it."""
    return encode(_model(name, spec.modified_at, spec.name.display))


def _model(id: str, created: float, name: str) -> dict[str, Any]:
    """``created`` in seconds; a model's owner is its namespace."""
    owner = Name.parse(name).namespace
    return {"id": id, "object": "model", "created": int(created), "owned_by": owner}
