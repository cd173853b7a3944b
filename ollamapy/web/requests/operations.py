"""The paths of recent requests as the OpenAPI document describes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ... import errors
from ...serving.replay import Replay
from ..schema import JSON, RUN, Operation, array, record, ref
from .wire import RecentRequest

STRUCTS = (RecentRequest, Replay)

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
    ("POST", "/api/replay/{id}"): Operation(
        "Answer one of them again, and compare the tokens",
        {JSON: ref(Replay)},
        raises=(errors.RequestNotFound, *RUN),
    ),
}
