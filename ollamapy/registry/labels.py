"""What the name of a GGUF file says: its quantisation, and which part of a model in several files it is. Pure."""

from __future__ import annotations

import re

KNOWN = (
    "F32 BF16 F16 Q8_K_XL Q8_0 Q6_K_XL Q6_K Q5_K_XL Q5_K_L Q5_K_M Q5_K_S Q5_0 Q5_1 Q4_K_XL Q4_K_L"
    " Q4_K_M Q4_K_S IQ4_NL IQ4_XS Q4_0_4_4 Q4_0_4_8 Q4_0_8_8 Q4_1_SOME_F16 Q4_0 Q4_1 Q4_2 Q4_3"
    " MXFP4_MOE MXFP4 NVFP4 Q3_K_XL Q3_K_L Q3_K_M Q3_K_S IQ3_M IQ3_S IQ3_XS IQ3_XXS Q2_K_XL Q2_K_L"
    " Q2_K Q2_K_S IQ2_M IQ2_S IQ2_XS IQ2_XXS Q2_0 IQ1_S IQ1_M TQ1_0 TQ2_0 Q1_0"
).split()
"""Quantisations, big to small: the hub's list and the _L that some publishers make."""

_LABEL = re.compile(
    rf"(?<![QW]\d)(UD-)?({'|'.join(sorted(KNOWN, key=len, reverse=True))})(_[A-Z]+)?"
)
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_PLAIN_LABEL = re.compile(
    r"(?<![A-Z0-9])(?:(?:I?Q|NF|INT|W)(?P<bits>[1-8])(?:_[K01]|[AF](?:8|16))?|[BF]?F?(?P<float>8|16|32)"
    r"|(?P<named>[1-8])(?:\.[0-9]+)?[-_ ]?(?:BITS?|BPW))(?![A-Z0-9])"
)
"""What publishers without llama.cpp's names call a quantisation: Q4, Q4_K, INT8, W4A16, FP16, 4bit, 4.25bpw."""


def label(path: str) -> str:
    """The quantisation in a file's name, else in its folder's, in upper case; "" if there is none."""
    folder, _, base = path.upper().rpartition("/")
    for text in (base.removesuffix(".GGUF"), folder.rpartition("/")[2]):
        for pattern in (_LABEL, _PLAIN_LABEL):
            if found := list(pattern.finditer(text)):
                return found[-1][0]
    return ""


def stem(path: str, *, whole: bool = False) -> str:
    """A file's name without its ending and its number as a shard; ``whole``: with its folders."""
    base = path if whole else path.rpartition("/")[2]
    found = SHARD.fullmatch(base)
    return found[1] if found else re.sub(r"\.gguf$", "", base, flags=re.IGNORECASE)
