"""How a model's positions become angles: rope scaling from config.json to GGUF.

linear and yarn are numbers in GGUF, llama3 and longrope tensors of factors. Others are refused: llama.cpp would compute
another model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .architecture import (
    GEMMA_3,
    MAX_SIZE,
    Config,
    Family,
    Sizes,
    given_or,
    positive,
    refuse,
    rope_settings,
)
from .writer import Value


def rope_scaling(
    config: Config, family: Family, sizes: Sizes
) -> tuple[dict[str, Value], dict[str, list[float]]]:
    """The keys below `rope.` (how positions become angles), and the tensors of factors."""
    given = rope_settings(config)
    default_base = 1_000_000.0 if family is GEMMA_3 else 10_000.0
    base = given_or(config.rope_theta, given.get("rope_theta"))
    values: dict[str, Value] = {"freq_base": positive(given_or(base, default_base), "rope_theta")}
    if family is GEMMA_3:
        local = (config.rope_parameters or {}).get("sliding_attention")
        inner = local.get("rope_theta") if isinstance(local, dict) else None
        windowed = positive(
            given_or(config.rope_local_base_freq, given_or(inner, 10_000.0)), "base"
        )
        values["freq_base_swa"] = windowed
    kind = given.get("rope_type", given.get("type", "default"))
    if family.name == "qwen2vl":
        values["dimension_sections"] = _sections(given, sizes)
        kind = "default" if kind == "mrope" else kind
    if kind == "default":
        if family.fused:
            values["scaling.original_context_length"] = _original_context(config, given, sizes)
        return values, {}
    if kind == "linear":
        values["scaling.type"] = "linear"
        values["scaling.factor"] = positive(given.get("factor"), "factor")
        return values, {}
    original = _original_context(config, given, sizes)
    if kind == "yarn" and family is not GEMMA_3:
        return values | _yarn(given, original, sizes), {}
    if kind == "llama3" and family.name == "llama":
        return values, {"rope_freqs.weight": _llama3_factors(given, original, values, sizes)}
    if kind in ("longrope", "su") and family.fused:
        keys, factors = _longrope(given, original, sizes)
        return values | keys, factors
    refuse(f"llama.cpp has no {family.name} with the rope scaling {str(kind)[:40]!r}")


def _sections(given: Mapping[str, Any], sizes: Sizes) -> list[int]:
    """How many pairs of a head turn with the time, the row and the column of an image's patch (M-RoPE); the fourth is llama.cpp's."""
    sections = given.get("mrope_section")
    if not isinstance(sections, list) or len(sections) != 3 or not all(map(_is_count, sections)):
        refuse("its rope scaling has no mrope_section of three numbers")
    if sum(sections) != sizes.rotated // 2:
        refuse(f"its mrope_section has not {sizes.rotated // 2} pairs")
    return [*sections, 0]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SIZE


def _yarn(given: Mapping[str, Any], original: int, sizes: Sizes) -> dict[str, Value]:
    """https://arxiv.org/abs/2309.00071. llama.cpp puts in the magnitude 0.1 ln(factor) + 1 itself."""
    factor = positive(given_or(given.get("factor"), sizes.context / original), "factor")
    if any(given.get(key) for key in ("mscale", "mscale_all_dim")):
        refuse("llama.cpp has no such model with an mscale in its rope scaling")
    values: dict[str, Value] = {
        "scaling.type": "yarn",
        "scaling.factor": factor,
        "scaling.original_context_length": original,
    }
    magnitude = given.get("attention_factor")
    if magnitude is not None:
        own = 0.1 * math.log(factor) + 1.0
        values["scaling.attn_factor"] = positive(magnitude, "attention_factor") / own
    for key in ("beta_fast", "beta_slow"):
        if given.get(key) is not None:
            values[f"scaling.yarn_{key}"] = positive(given[key], key)
    return values


def _llama3_factors(
    given: Mapping[str, Any], original: int, values: Mapping[str, Value], sizes: Sizes
) -> list[float]:
    """What each frequency is divided by: Llama 3.1's, after transformers' modeling_rope_utils.py."""
    factor = positive(given.get("factor"), "factor")
    low = positive(given.get("low_freq_factor"), "low_freq_factor")
    high = positive(given.get("high_freq_factor"), "high_freq_factor")
    base = values["freq_base"]
    assert isinstance(base, float)
    if high <= low:
        refuse("its rope scaling's high_freq_factor is not above the low one")
    factors = []
    for i in range(sizes.rotated // 2):
        wavelength = 2 * math.pi * base ** (2 * i / sizes.rotated)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def _longrope(
    given: Mapping[str, Any], original: int, sizes: Sizes
) -> tuple[dict[str, Value], dict[str, list[float]]]:
    """https://arxiv.org/abs/2402.13753: factors for contexts up to the original length and others for longer ones."""
    factors = {}
    for key in ("long", "short"):
        listed = given.get(f"{key}_factor")
        if not isinstance(listed, list) or len(listed) != sizes.rotated // 2:
            refuse(f"its rope scaling's {key}_factor has not {sizes.rotated // 2} numbers")
        numbers = [positive(each, f"{key}_factor") for each in listed]
        factors[f"rope_factors_{key}.weight"] = numbers
    scale = sizes.context / original
    magnitude = given.get("attention_factor")
    if magnitude is None:
        magnitude = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    return {
        "scaling.type": "longrope",
        "scaling.original_context_length": original,
        "scaling.attn_factor": positive(magnitude, "attention_factor"),
    }, factors


def _original_context(config: Config, given: Mapping[str, Any], sizes: Sizes) -> int:
    length = given_or(
        config.original_max_position_embeddings,
        given_or(given.get("original_max_position_embeddings"), sizes.context),
    )
    if not isinstance(length, int) or not 1 < length <= MAX_SIZE:
        refuse("its original_max_position_embeddings is no length")
    return length
