"""The path of a model's options: what a form of settings needs to know."""

from __future__ import annotations

from ...serving import options
from ...serving.answer import lease_request
from ...serving.services import Services
from ...types import THINK_LEVELS
from .. import query
from ..call import Call, Path, Reply, json_answer
from ..ollama.wire import encode


async def _options(services: Services, call: Call) -> Reply:
    spec = await services.models.load(query.required(call.query, "model"))
    n_ctx = services.scheduler.context_of(lease_request(spec, spec.options))
    n_trained = spec.header.context_length
    can_think = "thinking" in spec.capabilities
    answer = {
        "model": spec.name.display,
        "capabilities": spec.capabilities,
        "system": spec.system or "",
        "context_length": n_trained,
        "think_levels": THINK_LEVELS if can_think else (),
        "options": options.describe(spec.options, n_ctx, n_trained),
    }
    return json_answer(encode(answer))


PATHS = (Path("/api/options", "GET", _options, "infer"),)
