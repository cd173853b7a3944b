"""The types that weights can be quantized to: their names, and llama.cpp's numbers for them. Writes nothing."""

from __future__ import annotations

from ..errors import InvalidRequest

TYPES = {
    **{"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q6_K": 18},
    **{"Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8},
    **{"Q4_K_M": 15, "Q4_K_S": 14, "Q4_1": 3, "Q4_0": 2, "IQ4_NL": 25, "IQ4_XS": 30, "MXFP4": 38},
    **{"Q3_K_L": 13, "Q3_K_M": 12, "Q3_K_S": 11, "IQ3_M": 27, "IQ3_S": 26},
    **{"Q2_K": 10, "TQ2_0": 37, "TQ1_0": 36, "Q2_0": 41, "Q1_0": 40},
}
"""What llama.cpp can write without further data: names and its numbers (enum llama_ftype), largest first."""

NEED_MATRIX = frozenset(
    {"IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "Q2_K_S", "IQ1_M", "IQ1_S"}
)
"""Types that need an importance matrix, measured on texts, which there is no way to give."""

_ALIASES = {"FP32": "F32", "FP16": "F16", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q3_K": "Q3_K_M"}


def type_name(given: str) -> str:
    """The type's name in GGUF files: "q4_K_M" -> "Q4_K_M". Raises InvalidRequest for an unknown type."""
    name = _ALIASES.get(given.strip().upper(), given.strip().upper())
    if name in NEED_MATRIX:
        raise InvalidRequest(
            f"quantization type {name} needs an importance matrix, which cannot be given;"
            " take Q2_K, Q3_K_S or IQ3_S, or a GGUF of that type"
        )
    if name not in TYPES:
        raise InvalidRequest(
            f"unknown quantization type {given[:40]!r}, one of: {', '.join(TYPES)}"
        )
    return name
