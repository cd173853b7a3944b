"""The parts of the daemon that answer requests, made once and passed to every handler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..config import Settings
from ..fleet.scheduler import Scheduler
from ..models.models import Models
from ..runner.render import Renderer
from .presets import Presets
from .reading import Files
from .recent import RecentRequests
from .requests import Requests
from .sampled import SampledCalls

if TYPE_CHECKING:
    from ..models.jobs import Jobs
    from ..models.offers import Offers
    from .chats.chats import Chats
    from .responses.responses import Responses


@dataclass(frozen=True, slots=True)
class Services:
    """The daemon's parts, made and closed by ``daemon/serve.py``. ``requests`` are those in flight,
    ``recent`` those that were answered lately, ``sampled`` the calls that models made, as they wrote them, ``files`` reads what
    requests bring along."""

    settings: Settings
    models: Models
    scheduler: Scheduler
    renderer: Renderer
    jobs: Jobs
    offers: Offers
    chats: Chats
    responses: Responses
    presets: Presets = field(default_factory=Presets)
    requests: Requests = field(default_factory=Requests)
    recent: RecentRequests = field(default_factory=RecentRequests)
    sampled: SampledCalls = field(default_factory=SampledCalls)
    files: Files = field(default_factory=Files)
