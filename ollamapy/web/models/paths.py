"""All of our own paths about models, as one dialect."""

from __future__ import annotations

from ..call import Dialect, encode_coded_error
from . import offers

DIALECT = Dialect(offers.PATHS, encode_coded_error)
