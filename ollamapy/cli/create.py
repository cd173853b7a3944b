"""`create`: read a Modelfile, send the files that it names to the server, and let the server create the model.

The server takes no paths of this machine: files go up by their digest, unless it has them, and the request names them. What the
model becomes is decided there (``models/create``); here it is only found out which files are meant:

    a file          itself; of a model in shards all of them; with a llama2.c checkpoint its tokenizer
    a folder        its safetensors and what belongs to them, else its GGUF files, else a llama2.c checkpoint
    a pattern       the files that match it (`*`, `?`, `[...]`), when there is no file of that name

Beside a model's name, FROM may name a projector.

Links that lead out of their folder are refused: the author of a folder must not choose other files of the user.
"""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..digests import Sha256
from ..errors import OllamapyError
from ..formats import recipe
from ..formats.folder import folder_files
from ..formats.modelfile import LIMIT, Instruction, Modelfile, local_path, parse
from ..formats.quantization import type_name
from ..names import Name
from .client import Client
from .inspection import check_files
from .progress import Steps
from .terminal import remark

_PIECE = 4 * 2**20
_MAGIC = 4
_MOST_FILES = 1024
_PATHS, _WEIGHTS = ("/", "./", "../", "~"), (".gguf", ".safetensors", ".bin")


def run(
    client: Client,
    name: str,
    modelfile: Path | None,
    quantize: str,
    families: Sequence[str] = (),
) -> None:
    """Make the model ``name`` from a Modelfile (None: ./Modelfile, and without one from the weights in the working folder; "-":
    what stdin holds).

    Raises OllamapyError: InvalidName, InvalidModelfile with the place, and the server's errors.
    """
    Name.parse(name)
    if quantize:
        type_name(quantize)  # before anything large is sent
    with Steps() as steps:
        steps.show({"status": "gathering model components"})
        parsed, folder = _read(modelfile)
        body = request(parsed, folder)
        client.version()  # a server that is not there is an error before anything large is read, and so are wrong files
        check_files(body, families)
        for warning in _warnings(parsed):
            steps.end()
            remark(f"warning: {warning}")
        if quantize:
            body["quantize"] = quantize
        make(client, name, body, steps)


def make(client: Client, name: str, body: dict[str, Any], steps: Steps) -> None:
    """Send the files that a `request` names, and have the model made."""
    absent: dict[str, Path] = {}
    for field in ("files", "adapters"):
        if paths := body.get(field):
            digests = {each: _digest(path, steps) for each, path in paths.items()}
            absent |= {digests[each]: path for each, path in paths.items()}
            body[field] = digests
    absent = {digest: path for digest, path in absent.items() if not client.has_blob(digest)}
    sizes = [path.stat().st_size for path in absent.values()]
    for number, (digest, path) in enumerate(absent.items()):
        # The server learns the size of all that follows, and refuses the first file if the disk is too small for all
        with path.open("rb") as file:
            pieces = _pieces(file, sizes[number], steps, f"copying file {digest}", digest)
            client.send_blob(digest, sizes[number], pieces, to_come=sum(sizes[number:]))
    for step in client.create({**body, "model": name}):
        steps.show(step)


def _read(path: Path | None) -> tuple[Modelfile, Path]:
    """The Modelfile, and the folder that paths in it begin at."""
    given = path or Path("Modelfile")
    if str(path) == "-":
        return parse(sys.stdin.buffer.read(LIMIT + 1)), Path()
    if not os.path.lexists(given):
        if path is not None:
            raise OllamapyError(
                f"no Modelfile or safetensors files found: there is no {path}, see: ollamapy create --help"
            )
        return Modelfile((Instruction("FROM", "."),)), Path()
    mode = given.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise OllamapyError(f"{given} is not a file: name a Modelfile")
    with given.open("rb") as file:
        return parse(file.read(LIMIT + 1)), given.parent if stat.S_ISREG(mode) else Path()


def _warnings(modelfile: Modelfile) -> Iterator[str]:
    for name in modelfile.parameters()[1]:
        yield f"parameter {name} is deprecated"


def request(modelfile: Modelfile, folder: Path) -> dict[str, Any]:
    """The body of /api/create, but for the model's name; "files" and "adapters" have paths where digests belong.

    Raises InvalidModelfile, and OllamapyError for files that are missing or cannot be sent.
    """
    body = recipe.texts(modelfile)
    files: dict[str, Path] = {}
    for each in (one for one in modelfile.instructions if one.word == "FROM"):
        if found := _local(each, folder):
            files = _together([*files.values(), *found])
        else:
            body["from"] = each.value
    if files:
        body["files"] = files
    adapters = [each for each in modelfile.instructions if each.word == "ADAPTER"]
    if adapters:
        body["adapters"] = _together(
            path for each in adapters for path in _adapter(each, folder, alone=len(adapters) == 1)
        )
    return body


def _adapter(instruction: Instruction, folder: Path, *, alone: bool) -> list[Path]:
    """The files of one ADAPTER. Several add up, which Ollama's CLI does not know: all of them must be GGUF files."""
    found = _local(instruction, folder)
    if not found:
        raise instruction.error(_missing(instruction.value))
    if not alone and any(path.suffix == ".safetensors" for path in found):
        raise instruction.error(
            "several adapters must be GGUF files, name one of safetensors alone"
        )
    return found


def _local(instruction: Instruction, folder: Path) -> list[Path]:
    """The files that FROM or ADAPTER names; none, if it is no path of this machine."""
    value = instruction.value
    if not value:
        raise instruction.error(f"{instruction.word} needs a model, a file or a folder")
    path = local_path(value, folder)
    try:
        status = path.stat()
    except (OSError, ValueError):  # no such file; too long, or with a character that no path has
        return _matching(instruction, path)
    if stat.S_ISDIR(status.st_mode):
        return _of_folder(path)
    if not stat.S_ISREG(status.st_mode):
        raise instruction.error(f"{_shown(value)} is not a regular file")
    return _with_companions(path)


def _matching(instruction: Instruction, pattern: Path) -> list[Path]:
    value = instruction.value
    if not glob.has_magic(str(pattern)) or "\0" in str(pattern):
        if value.startswith(_PATHS) or value.endswith(_WEIGHTS):  # no model is called so
            raise instruction.error(_missing(value))
        return []
    found = sorted(Path(each) for each in glob.iglob(str(pattern)))
    if not found:
        raise instruction.error(f"no file matches {_shown(instruction.value)}")
    for path in found:
        _check_inside(path, pattern.parent)
    return found


def _of_folder(folder: Path) -> list[Path]:
    """The files of a folder that make a model or an adapter."""
    read = folder_files(folder)
    if any(name.endswith(".safetensors") for name in read):
        return list(read.values())
    for ending in (".gguf", ".bin"):
        found = sorted(path for path in folder.iterdir() if path.name.endswith(ending))
        for path in found:
            _check_inside(path, folder)
        if found and found[0].name.startswith("pytorch_model"):
            raise OllamapyError(
                f"{found[0].name} is a PyTorch checkpoint: use the model's safetensors or GGUF files"
            )
        if found:
            return found
    raise OllamapyError("no Modelfile or safetensors files found")


def _check_inside(path: Path, folder: Path) -> None:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise OllamapyError(f"{path.name!r} is a broken link: remove it") from None
    if path.is_symlink() and not target.is_relative_to(folder.resolve()):
        raise OllamapyError(
            f"insecure path: {path.name!r} is a link out of its folder: copy the file itself there (cp -rL)"
        )
    if not target.is_file():
        raise OllamapyError(f"{path.name!r} is not a regular file")


def _with_companions(path: Path) -> list[Path]:
    """A file and the files beside it that it needs."""
    head, mark, tail = path.name.rpartition("-of-")
    if mark and tail.endswith(".gguf") and head[-5:].isdigit():
        beside = sorted(path.parent.glob(f"{glob.escape(head[:-5])}?????-of-{glob.escape(tail)}"))
        return beside or [path]
    if path.suffix == ".safetensors":
        return list(folder_files(path.parent).values())
    if path.suffix == ".bin" and not path.name.startswith("tok"):
        tokenizers = [*sorted(path.parent.glob("tok[0-9]*.bin")), path.with_name("tokenizer.bin")]
        return [path, *(each for each in tokenizers if each.is_file())]
    return [path]


def _together(paths: Iterable[Path]) -> dict[str, Path]:
    """The files by their names below the folder that holds them all."""
    found = list(dict.fromkeys(Path(os.path.abspath(path)) for path in paths))
    if len(found) > _MOST_FILES:
        raise OllamapyError(f"{len(found)} files are too many for a model, at most {_MOST_FILES}")
    common = os.path.commonpath([path.parent for path in found])
    return {path.relative_to(common).as_posix(): path for path in found}


def _missing(value: str) -> str:
    return f"there is no {_shown(value)}, paths begin at the folder of the Modelfile"


def _shown(value: str) -> str:
    return ascii(value if len(value) <= 80 else value[:77] + "...")


# Sending


def _digest(path: Path, steps: Steps) -> str:
    """The digest of a file, by which the server knows it."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(_MAGIC) == b"vers":
            raise OllamapyError(
                f"{path.name!r} is a Git LFS pointer: fetch the file itself (git lfs pull)"
            )
        file.seek(0)
        total = Sha256()
        for piece in _pieces(file, size, steps, f"hashing {path.name}", ""):
            total.update(piece)
    return total.digest


_SHOWN_HASHING = 256 * 2**20
"""Bytes of a file that takes long enough to hash for its progress to be shown."""


def _pieces(file: Any, size: int, steps: Steps, status: str, digest: str) -> Iterator[bytes]:
    done = 0
    while piece := file.read(_PIECE):
        done += len(piece)
        if done > size:
            break
        if digest or size >= _SHOWN_HASHING:
            steps.show({"status": status, "digest": digest, "total": size, "completed": done})
        yield piece
    if done != size:
        raise OllamapyError(f"{Path(file.name).name!r} has changed while it was read, try again")
