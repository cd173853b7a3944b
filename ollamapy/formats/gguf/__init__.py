"""GGUF files: :func:`read_header` gives the :class:`Header` of one. Tensor data is never read.

header    the header as a value, and what follows from it
refusal   how a file is refused
window    the bytes of the file, moved forward as they are read
values    metadata values
reader    the whole header
sound     values on which llama.cpp aborts
"""

from __future__ import annotations

from pathlib import Path

from .header import SHOWN_ARRAY, ArrayInfo, Header, Tensor, joined
from .reader import read_header
from .sound import check, check_tokens
from .values import SHORT_ARRAY

__all__ = [
    "SHORT_ARRAY",
    "SHOWN_ARRAY",
    "ArrayInfo",
    "Header",
    "Tensor",
    "check",
    "check_tokens",
    "joined",
    "read_checked",
    "read_header",
]


def read_checked(path: Path) -> Header:
    """The header of a file that llama.cpp can load, as far as its header tells; of a vocabulary every token is compared.

    Raises InvalidModel, as `read_header`.
    """
    header = read_header(path, checks_tokens=True)
    check(header)
    check_tokens(header.metadata.get("tokenizer.ggml.tokens"))
    return header
