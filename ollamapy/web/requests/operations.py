"""The paths of recent requests as the OpenAPI document describes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ... import errors
from ..schema import JSON, Operation, array, record, ref
from .wire import RecentRequest

STRUCTS = (RecentRequest,)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/api/requests"): Operation(
        "The requests that were answered lately, the latest first",
        {JSON: record({"requests": array(ref(RecentRequest))})},
    ),
    ("GET", "/api/requests/{id}"): Operation(
        "One of them, and why not more of its prompt was reused",
        {JSON: ref(RecentRequest)},
        raises=(errors.RequestNotFound,),
    ),
}
