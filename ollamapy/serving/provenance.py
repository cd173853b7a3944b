"""What an answer depends on beside its prompt, and whether two answers are the same. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec

from ..loading import LoadPlan
from ..models.spec import ModelSpec
from ..runner.protocol import Ready
from ..types import Generation, Provenance, Sampling

RANDOM = -1
"""The seed that stands for a new one each time."""


def seeded(sampling: Sampling) -> Sampling:
    """The settings with a seed: a new one where there is none, so that the answer can be made again."""
    if sampling.seed != RANDOM:
        return sampling
    return msgspec.structs.replace(sampling, seed=random.getrandbits(31))


def provenance(spec: ModelSpec, plan: LoadPlan, ready: Ready, generation: Generation) -> Provenance:
    """What the answer to a generation depends on, with a model that is loaded so."""
    sampling = msgspec.structs.asdict(generation.sampling)
    seed = sampling.pop("seed")
    settings = {
        "num_ctx": generation.n_ctx,
        "num_batch": plan.n_batch,
        "num_thread": ready.threads,
        "gpu_layers": ready.gpu_layers,
        "kv_cache_type": plan.kv_type,
        "flash_attention": plan.flash_attention,
        "repacked": plan.extra_bufts,
        "deterministic": plan.deterministic,
        **sampling,
    }
    return Provenance(spec.name.display, spec.files.key, ready.build, seed, settings)


class Change(msgspec.Struct, frozen=True):
    """Something that is not as it was when a request was answered."""

    name: str
    then: Any
    now: Any


def changes(then: Provenance, now: Provenance) -> tuple[Change, ...]:
    """What is not as it was; not the model's name, which may point to the same files."""
    pairs = [
        (name, getattr(then, name), getattr(now, name)) for name in ("digest", "build", "seed")
    ]
    names = dict.fromkeys([*then.settings, *now.settings])
    pairs += [(name, then.settings.get(name), now.settings.get(name)) for name in names]
    return tuple(Change(name, before, after) for name, before, after in pairs if before != after)


def first_difference(then: Sequence[int], now: Sequence[int]) -> int | None:
    """The index of the first token in which two answers differ, or at which one of them ends; None: they are equal."""
    for place, (before, after) in enumerate(zip(then, now, strict=False)):
        if before != after:
            return place
    return None if len(then) == len(now) else min(len(then), len(now))
