"""Whether a model's folder can be converted to GGUF, by its configuration alone: for the sender of its files."""

from __future__ import annotations

from .architecture import family_of, read_config, sizes_of
from .encoder import is_encoder, read_encoder
from .folder import Folder


def check_folder(files: Folder) -> None:
    """Raise InvalidModel for a folder that `convert` would refuse before it looks at the weights."""
    config = read_config(files)
    if is_encoder(config.architectures):
        read_encoder(files)
    else:
        sizes_of(config, family_of(config))
