"""Read a prompt ahead, so that the answer to what comes after it begins at once. It yields to everything else.

Only for a model that is loaded, and while no request is answered; it ends when one comes. What it has computed stays in the
runner as a prefix.
"""

from __future__ import annotations

from contextlib import aclosing

import msgspec

from ..fleet.state import Status
from ..request import Caller, Request
from .answer import answer
from .services import Services


async def preread(services: Services, request: Request, caller: Caller) -> None:
    """Compute the prompt of a request. Raises as :func:`answer`."""
    spec = await services.models.load(request.model)
    loaded = {each.digest for each in services.scheduler.loaded() if each.status is Status.READY}
    if services.scheduler.busy or spec.digest not in loaded:
        return
    options = msgspec.structs.replace(request.options, num_predict=1)
    least = msgspec.structs.replace(
        request,
        options=options,
        constraint=None,
        progress=True,
        explain_cache=False,
        is_private=True,
    )
    async with aclosing(answer(services, least, caller)) as chunks:
        async for _ in chunks:
            if services.scheduler.busy > 1:
                return
