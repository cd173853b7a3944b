"""The options of a model as a form shows them: type, default and range of each. Pure."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from ..context import DEFAULT_BATCH
from ..types import CONTEXT_POLICIES, OPTION_KINDS, OPTION_RANGES, Options, Sampling
from .answer import DEFAULT_NUM_KEEP

LOADING = frozenset(
    (
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "use_mmap",
        "num_thread",
        "draft_num_predict",
        "deterministic",
    )
)
"""Options that are fixed when a model is loaded: another value may load it anew."""

_DEFAULTS: dict[str, Any] = {
    **msgspec.structs.asdict(Sampling()),
    "num_batch": DEFAULT_BATCH,
    "num_predict": -1,
    "num_keep": DEFAULT_NUM_KEEP,
    "stop": (),
    "context_policy": "drop-oldest",
    "deterministic": False,
}
"""What an option is where neither the request nor the model gives it; options that are missing are chosen at the load."""


class OptionInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One option. ``default`` is its value where a request gives none, null where it is chosen when the model is loaded;
    ``is_model_default``: the model's own parameters give it. ``minimum`` and ``maximum`` are the values that have a meaning; one
    that is missing has no bound. ``when``: whether it is fixed at the load or belongs to a request.
    """

    name: str
    type: str
    when: Literal["load", "request"]
    default: Any
    is_model_default: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


def describe(given: Options, n_ctx: int, n_trained: int | None) -> tuple[OptionInfo, ...]:
    """All options, for a model with these parameters, a context of ``n_ctx`` tokens and ``n_trained`` at most (None: unknown)."""
    defaults = {**_DEFAULTS, "num_ctx": n_ctx}

    def info(name: str, kind: str) -> OptionInfo:
        own = getattr(given, name)
        least, most = OPTION_RANGES.get(name, (-math.inf, math.inf))
        if name == "num_ctx" and n_trained:
            most = n_trained
        return OptionInfo(
            name=name,
            type="number" if kind == "float32" else kind,
            when="load" if name in LOADING else "request",
            default=defaults.get(name) if own is None or name == "num_ctx" else own,
            is_model_default=own is not None,
            minimum=None if math.isinf(least) else least,
            maximum=None if math.isinf(most) else most,
            choices=CONTEXT_POLICIES if name == "context_policy" else (),
        )

    return tuple(info(name, kind) for name, kind in OPTION_KINDS.items())
