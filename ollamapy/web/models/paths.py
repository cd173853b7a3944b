"""All of our own paths about models, as one dialect."""

from __future__ import annotations

from ..call import Dialect, encode_coded_error
from . import cache, jobs, modelfiles, offers, options, presets

DIALECT = Dialect(
    (*offers.PATHS, *cache.PATHS, *jobs.PATHS, *modelfiles.PATHS, *options.PATHS, *presets.PATHS),
    encode_coded_error,
)
