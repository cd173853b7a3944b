"""A model's folder as Hugging Face's programs save it: which of its files a conversion reads, and its JSON.

Files are found by their names in the folder; uploaded ones are blobs elsewhere. Links that lead out of a folder are refused:
the folder's author may have no right to read the file behind the link.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ollamapy.errors import InvalidModel, reason

Folder = Mapping[str, Path]
"""The files of a folder by their names in it."""

MAX_JSON_BYTES = 64 * 2**20  # Gemma's tokenizer.json has 33 MB

READ = frozenset(
    {
        *("config.json", "generation_config.json", "adapter_config.json"),
        *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "added_tokens.json"),
        *("chat_template.json", "chat_template.jinja", "vocab.txt", "modules.json"),
        *("preprocessor_config.json", "processor_config.json"),
    }
)
"""The names that are read beside *.safetensors and *.safetensors.index.json."""

T = TypeVar("T")


POOLING = re.compile(r"[0-9]_Pooling/config\.json")
"""A file in a folder of a sentence-transformers model: how the vector of a text is made of its tokens'."""


def is_read(name: str) -> bool:
    """Does a conversion read a file of this name?"""
    return name in READ or name.endswith((".safetensors", ".safetensors.index.json"))


def folder_files(directory: Path) -> dict[str, Path]:
    """The files of a folder that a conversion reads; of the folders in it only one that tells of the pooling is looked into.

    Raises InvalidModel for a link that leads out of it, for what is no regular file, and when it cannot be read.
    """
    try:
        root = directory.resolve(strict=True)
        found = {path.name: path for path in sorted(root.iterdir()) if is_read(path.name)}
        nested = (path / "config.json" for path in root.glob("[0-9]_Pooling"))
        found |= {f"{path.parent.name}/config.json": path for path in nested if path.exists()}
        for name, path in found.items():
            if not path.resolve(strict=True).is_relative_to(root):
                raise InvalidModel(
                    f"{name!r} is a link out of its folder, put the file itself there: cp -rL"
                )
            if not stat.S_ISREG(path.stat().st_mode):
                raise InvalidModel(f"{name!r} is not a regular file, put the file itself there")
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        why = reason(error) if isinstance(error, OSError) else "a link leads nowhere"
        raise InvalidModel(f"cannot read the folder {directory.name!r} ({why})") from error
    return found


def read_bytes(files: Folder, name: str, most: int = MAX_JSON_BYTES) -> bytes:
    """A whole file of at most `most` bytes. Raises InvalidModel."""
    try:
        size = files[name].stat().st_size
        if size > most:
            raise InvalidModel(f"{name!r} has {size:,} bytes, which is no {name.split('.')[0]}")
        return files[name].read_bytes()
    except OSError as error:
        raise InvalidModel(f"cannot read {name!r} ({reason(error)}), get it again") from error


def read_json(files: Folder, name: str, kind: type[T], most: int = MAX_JSON_BYTES) -> T:
    """A JSON file as `kind` (a msgspec type). Raises InvalidModel, which names the place in the file."""
    data = read_bytes(files, name, most)
    if data.startswith(b"version https://git-lfs"):
        raise InvalidModel(f"{name!r} is a Git LFS pointer instead of the file, fetch the real one")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidModel(
            f"{name!r} cannot be used: {one_line(error)}; get the folder again"
        ) from error


def one_line(error: Exception) -> str:
    """An error's text on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
