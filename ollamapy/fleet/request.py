"""A request for a lease: which model must be loaded, with which options, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from msgspec import UNSET, UnsetType

from ..formats.gguf import Header
from ..loading import Files
from ..names import Name
from ..request import Caller
from ..types import Options


@dataclass(frozen=True, eq=False)
class LeaseRequest:
    """A request for a loaded model.

    ``digest`` is the manifest's, ``header`` that of all weights; ``options`` holds only what the request and the model's
    parameters gave; ``embeds``: it is for embeddings. ``keep_alive`` (seconds; None, infinite or negative: for ever) changes
    how long the model stays after this request and later ones; UNSET leaves it. ``caller`` is for the log. ``progress``: report
    what it waits for.
    """

    name: Name
    digest: str
    files: Files
    header: Header
    options: Options = Options()
    embeds: bool = False
    keep_alive: float | None | UnsetType = UNSET
    caller: Caller = Caller()
    progress: bool = False

    @property
    def key(self) -> str:
        """What the loaded model is known by: requests for the same files share a runner."""
        return self.files.key

    @cached_property
    def load_options(self) -> Options:
        """The options of loading that were really given: numbers that mean "automatic" left out, the context as the model
        can have it."""
        given = self.options

        def at_least(least: int, value: int | None) -> int | None:
            return value if value is not None and value >= least else None

        return Options(
            num_ctx=clamp_context(self.header, given.num_ctx) if given.num_ctx else None,
            num_batch=at_least(1, given.num_batch),
            num_gpu=at_least(0, given.num_gpu),
            main_gpu=at_least(0, given.main_gpu),
            use_mmap=given.use_mmap,
            num_thread=at_least(1, given.num_thread),
            deterministic=given.deterministic or None,
        )


def clamp_context(header: Header, num_ctx: int) -> int:
    """A context that the model can have: from 4 tokens to those it was trained for."""
    return max(min(num_ctx, header.context_length or num_ctx), 4)
