"""Which projector (`mmproj`) of a repository belongs to a model, by the files' names. Pure.

    mmproj-F16.gguf                               fits every model of its folder and of the folders below
    mmproj-gemma-3-4b-it-F16.gguf                 fits gemma-3-4b-it-Q4_K_M.gguf
    llava-v1.5-7b-mmproj-Q8_0.gguf                fits llava-v1.5-7b-Q4_K.gguf

None is better than a wrong one, with which a model answers nonsense. Several precisions of one projector: the first of
PREFERRED, whatever the model's is, for a projector is small and images are sensitive to rounding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .labels import label, stem
from .remote import RemoteFile

PREFERRED = ("F16", "BF16", "F32", "Q8_0")

_SAY_NOTHING = frozenset(
    {
        "mmproj",
        "mm",
        "proj",
        "model",
        "text",
        "gguf",
        "ggml",
        "clip",
        "vision",
        "encoder",
        "projector",
    }
)

_DATE = re.compile(r"[0-9]{6,}")
_NO_FIT = (0, 0)

_Name = tuple[str, ...]
"""The words of a file's name that tell models apart."""


def is_mmproj(path: str) -> bool:
    """Whether a file is named as a projector."""
    base = path.rpartition("/")[2].lower()
    return base.endswith(".gguf") and "mmproj" in base


def projector(files: Sequence[RemoteFile], model: str, models: Sequence[str]) -> RemoteFile | None:
    """The projector for a model (the path of its first file) among the files of a repository; ``models`` are the paths of all."""
    found = [each for each in files if is_mmproj(each.path) and _is_above(each.path, model)]
    mine = _name(model)
    fits = {each.path: _fit(_name(each.path), mine) for each in found}
    best = max(fits.values(), default=_NO_FIT)
    if best == _NO_FIT:
        one_of_each = len({*map(_name, fits)}) == 1 == len({*map(_name, models)})
        return min(found, key=_order, default=None) if one_of_each else None
    fitting = [each for each in found if fits[each.path] == best]
    folder = max(len(_folder(each.path)) for each in fitting)
    nearest = [each for each in fitting if len(_folder(each.path)) == folder]
    is_clear = len({_name(each.path) for each in nearest}) == 1
    return min(nearest, key=_order) if is_clear else None


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _is_above(path: str, model: str) -> bool:
    """Whether a file is in the model's folder, or in one above it."""
    above = _folder(path)
    return not above or f"{_folder(model)}/".startswith(f"{above}/")


def _order(file: RemoteFile) -> tuple[int, str]:
    """Of several precisions, which comes first."""
    found = label(file.path.rpartition("/")[2])
    return PREFERRED.index(found) if found in PREFERRED else len(PREFERRED), file.path


def _name(path: str) -> _Name:
    base = stem(path)
    kind = label(f"{base}.gguf")
    text = re.sub(re.escape(kind), " ", base, flags=re.IGNORECASE) if kind else base
    words = re.findall(r"[a-z0-9]+", text.lower())
    return tuple(word for word in words if word not in _SAY_NOTHING and not _DATE.fullmatch(word))


def _fit(projector: _Name, model: _Name) -> tuple[int, int]:
    """How well the names fit, greater is better; _NO_FIT if they do not.

    A projector that names all or a part of the model's name comes before one that names more than it, and this before one
    without a name.
    """
    if not projector:
        return 1, 0
    if _is_part(projector, model):
        return 3, len("".join(projector))
    if model and _is_part(model, projector):
        return 2, -len("".join(projector))
    return _NO_FIT


def _is_part(part: _Name, whole: _Name) -> bool:
    """Whether a name is a part of another: vicuna7b of vicuna-7b, but not 1b of 11b."""
    if set(part) <= set(whole):
        return True
    text = re.escape("".join(part))
    return re.search(rf"(?<![0-9]){text}(?![0-9])", "".join(whole)) is not None
