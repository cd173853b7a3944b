"""The files of a creation, looked at before they are sent: what the server would refuse of them is refused here.

Their headers and configurations are read, their weights are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InvalidModel, OllamapyError, reason
from ..formats.architecture import UnknownArchitecture
from ..formats.gguf import Header, joined, read_checked
from ..formats.parts import check_adapter, checkpoint_of, in_folder, parts
from ..formats.safetensors import read_tensors
from ..formats.supported import check_folder


def check_files(body: Mapping[str, Any], families: Sequence[str] = ()) -> None:
    """Raise OllamapyError for files of a request (create.py) that the server would refuse.

    ``families`` are the catalogue's: one of them may be the model that cannot be converted.
    """
    files: Mapping[str, Path] = body.get("files", {})
    adapters: Mapping[str, Path] = body.get("adapters", {})
    try:
        if body.get("from"):
            model = {}
            parts(_headers(files), only="projector")
        else:
            model = _model(files)
        added = _adapters(adapters)
        if model:
            base = joined(list(model.values()))
            for adapter in added.values():
                check_adapter(adapter, base)
    except UnknownArchitecture as error:
        raise OllamapyError(f"{error}{_like_it(error.model_type, families)}") from None
    except InvalidModel as error:
        raise OllamapyError(str(error)) from None


def _model(files: Mapping[str, Path]) -> dict[str, Header]:
    """The headers of the GGUF files that are the model; empty where it is to be converted. Raises InvalidModel."""
    if any(name.endswith(".safetensors") for name in files):
        _check_tensors(files)
        check_folder(in_folder(files))
        return {}
    if not files or checkpoint_of(files):
        return {}
    headers = _headers(files)
    return {part.name: headers[part.name] for part in parts(headers) if part.kind == "model"}


def _adapters(files: Mapping[str, Path]) -> dict[str, Header]:
    """The headers of adapters in GGUF files; of safetensors only the form is looked at. Raises InvalidModel."""
    if any(name.endswith(".safetensors") for name in files):
        _check_tensors(files)
        return {}
    headers = _headers(files)
    if headers:
        parts(headers, only="adapter")
    return headers


def _check_tensors(files: Mapping[str, Path]) -> None:
    for name, path in files.items():
        if name.endswith(".safetensors"):
            with _named(name):
                read_tensors(path)


def _headers(files: Mapping[str, Path]) -> dict[str, Header]:
    found = {}
    for name, path in files.items():
        with _named(name):
            found[name] = _header(path)
    return found


def _header(path: Path) -> Header:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"vers":
        raise InvalidModel("it is a Git LFS pointer: fetch the file itself (git lfs pull)")
    if magic != b"GGUF":
        raise InvalidModel("supplied file was not in GGUF format, convert it or get it again")
    return read_checked(path)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the name of a file before what is wrong with it."""
    try:
        yield
    except InvalidModel as error:
        raise InvalidModel(f"{name!r}: {error}") from None
    except OSError as error:
        raise InvalidModel(f"cannot read {name!r} ({reason(error)})") from None


def _like_it(model_type: str, families: Sequence[str]) -> str:
    """The way to the catalogue's model of a family, "" if there is none of that name."""
    names = {re.sub(r"[^a-z0-9]", "", each.lower()): each for each in families}
    wanted = re.sub(r"[^a-z0-9]|_?moe$", "", model_type.lower())
    found = names.get(wanted) or next(
        (each for name, each in sorted(names.items()) if wanted and name.startswith(wanted)), None
    )
    return f"; in the catalogue: ollamapy pull {found}" if found else ""
