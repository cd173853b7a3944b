"""What ``ps`` shows of a resident."""

from __future__ import annotations

from dataclasses import dataclass

from ..names import Name
from ..types import LoadStage
from .request import LeaseRequest
from .state import Resident, Status


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is loaded, loading or stopping. Sizes in bytes, estimated, without what saved prefixes may come
    to take; ``n_ctx`` tokens for each request.

    ``stage`` and ``fraction`` (of the weights) are how far the load is. ``expires_in`` is seconds: None for never, the whole keep-alive while it is used or loading, 0 while it stops.
    """

    request: LeaseRequest
    status: Status
    size: int
    size_vram: int
    n_ctx: int
    expires_in: float | None
    in_flight: int
    stage: LoadStage = "warm-up"
    fraction: float = 1.0

    @property
    def name(self) -> Name:
        """The name by which it was used last: models with the same weights share a resident."""
        return self.request.name

    @property
    def digest(self) -> str:
        """The digest of that name's manifest."""
        return self.request.digest


def loaded_model(resident: Resident, now: float) -> LoadedModel:
    """A resident as ``ps`` shows it at a time of the monotonic clock."""
    expires_in = resident.keep_alive
    if resident.status is Status.STOPPING:
        expires_in = 0.0
    elif resident.expires_at is not None:
        expires_in = max(resident.expires_at - now, 0.0)
    ready = resident.ready
    on_gpu = min(ready.gpu_layers / ready.n_layers, 1.0) if ready and ready.n_layers else 0.0
    return LoadedModel(
        request=resident.latest,
        status=resident.status,
        size=resident.taken,
        size_vram=round(resident.taken * on_gpu),
        n_ctx=resident.n_ctx,
        expires_in=expires_in,
        in_flight=resident.in_flight,
        stage=resident.stage,
        fraction=resident.fraction if resident.status is Status.STARTING else 1.0,
    )
