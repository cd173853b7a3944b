"""llama.cpp's parameters for a context, from a plan. The library comes in as an argument."""

from __future__ import annotations

from typing import Any

from ..loading import LoadPlan
from .cores import threads_for

_GGML_BF16 = 30


def context_params(lib: Any, plan: LoadPlan) -> Any:
    """The parameters of a context for ``plan.n_slots`` sequences."""
    context = lib.llama_context_default_params()
    context.n_ctx = plan.held * plan.n_slots
    context.n_seq_max = plan.n_slots
    context.n_batch = context.n_ubatch = plan.n_batch
    context.n_threads = context.n_threads_batch = threads_for(plan.threads)
    context.kv_unified = False
    context.swa_full = False
    context.flash_attn_type = {
        None: lib.LLAMA_FLASH_ATTN_TYPE_AUTO,
        False: lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        True: lib.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    }[plan.flash_attention]
    context.type_k = context.type_v = (
        _GGML_BF16 if plan.kv_type == "bf16" else getattr(lib, f"GGML_TYPE_{plan.kv_type.upper()}")
    )
    context.no_perf = True
    return context
