"""GGUF files: :func:`read_header` gives the :class:`Header` of one. Tensor data is never read.

header    the header as a value, and what follows from it
refusal   how a file is refused
window    the bytes of the file, moved forward as they are read
values    metadata values
reader    the whole header
"""

from .header import SHOWN_ARRAY, ArrayInfo, Header, Tensor, joined
from .reader import read_header
from .values import SHORT_ARRAY

__all__ = ["SHORT_ARRAY", "SHOWN_ARRAY", "ArrayInfo", "Header", "Tensor", "joined", "read_header"]
