"""Sampler chains in C, from their stages (``sampling.py``). The library comes in as an argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InvalidRequest
from .sampling import Stage


def make_chain(lib: Any, n_vocab: int, stages: Sequence[Stage], history: Sequence[int]) -> Any:
    """A chain that has seen ``history``, for ``llama_sampler_free``. Raises InvalidRequest for a stage that llama.cpp refuses."""
    params = lib.llama_sampler_chain_default_params()
    params.no_perf = True
    chain = lib.llama_sampler_chain_init(params)
    for stage in stages:
        sampler = _made(lib, n_vocab, stage)
        if not sampler:
            lib.llama_sampler_free(chain)
            raise InvalidRequest(f"the sampler {stage.kind} refuses {stage.arguments}")
        lib.llama_sampler_chain_add(chain, sampler)
    for token in history:
        lib.llama_sampler_accept(chain, token)
    return chain


def _made(lib: Any, n_vocab: int, stage: Stage) -> Any:
    make = getattr(lib, f"llama_sampler_init_{stage.kind}")
    if stage.kind == "logit_bias":
        biases = (lib.llama_logit_bias * len(stage.biases))(*stage.biases)
        return make(n_vocab, len(stage.biases), biases)
    return make(*((n_vocab,) if stage.kind == "penalties" else ()), *stage.arguments)
