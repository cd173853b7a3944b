"""Whether a model's folder can be converted to GGUF, without reading or writing a weight: for the sender of its files."""

from __future__ import annotations

from . import seeing
from .convert import planned
from .folder import Folder


def check_folder(files: Folder) -> None:
    """Raise InvalidModel for a folder that `convert` would refuse."""
    planned(files)
    if seeing.sees(files):
        seeing.planned(files)
