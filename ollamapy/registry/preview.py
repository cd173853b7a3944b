"""Look at a remote model without downloading it: its header, and whether the installed one is current.

A GGUF header is read in a few growing ranges, over the same routes as a download (route.py). Nothing is
written. The digest cannot be checked, because it covers the whole file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidModel, TransferError
from ..formats.configuration import source_of
from ..formats.gguf import Header, joined, read_header
from .http import Access, BrokenConnection, Session
from .manifest import Manifest
from .patience import Patience, backoff
from .refusal import unreachable
from .remote import RemoteFile
from .route import Busy, Odd, Refused, Route, Rung
from .source import Source
from .store import Store

_TRIES = 4
_FIRST = 512 * 1024
_MOST = 8 * 2**20
"""Bytes of a request: a header without a vocabulary is small, one with a large one has 20 MB."""

MAX_READ = 256 * 2**20
"""Bytes of one file that are read before it is taken for something else."""


def header(source: Source, patience: Patience | None = None) -> Header:
    """The header of the model that a name stands for, all its shards together.

    Raises InvalidModel if it has no GGUF (a checkpoint, the built-in model), TransferError and its
    children.
    """
    weights = [(part.file, part.access) for part in source.parts if part.kind == "model"]
    if source.published is not None:
        layers = [each for each in source.published.manifest.layers if each.kind == "model"]
        weights = [(source.published.file(each), source.published.access) for each in layers]
    if not weights:
        raise InvalidModel(
            f"'{source.name.display}' is not a remote GGUF file, there is no header to read"
        )
    return joined([_header(file, access, patience or Patience()) for file, access in weights])


def _header(file: RemoteFile, access: Access, patience: Patience) -> Header:
    with Session(access) as session:
        try:
            return read_header(io.BufferedReader(_Remote(file, access, session, patience)))
        except InvalidModel as error:
            raise InvalidModel(f"{file.path} on {access.host}: {error}") from None


class _Remote(io.RawIOBase):
    """A remote file, read forward: keeps one window in memory, and doubles the size of each request."""

    def __init__(
        self, file: RemoteFile, access: Access, session: Session, patience: Patience
    ) -> None:
        self._file, self._access, self._session, self._patience = file, access, session, patience
        self._route = Route(file, access, patience.now, Rung.SHARED)
        self._data, self._start, self._position = b"", 0, 0
        self._size = _FIRST
        self._left = MAX_READ

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._file.size:
            return 0
        at = self._position - self._start
        if not 0 <= at < len(self._data):
            self._start, at = self._position, 0
            end = min(self._start + self._size, self._file.size)
            self._data = self._get(self._start, end)
            self._size = min(self._size * 2, _MOST)
        chunk = self._data[at : at + len(buffer)]
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def _get(self, start: int, end: int) -> bytes:
        """The bytes of a range, by any route that the server allows."""
        self._left -= end - start
        if self._left < 0:
            raise InvalidModel("its header is larger than that of any model")
        reason = ""
        for number in range(_TRIES):
            try:
                return self._ask(start, end)
            except Refused as refused:
                self._route.refused(
                    refused, number + 1
                )  # raises the error if there is no other way
                reason = str(refused.error)
            except Odd as odd:
                reason = str(odd)
                if odd.ranged:
                    self._route.ignored_range()
            except Busy as busy:
                reason = str(busy)
                seconds = backoff(number) if busy.seconds is None else busy.seconds
                self._patience.pause(
                    seconds, f"{self._access.host} is busy, waiting {seconds:.0f} s"
                )
            except BrokenConnection as error:
                if error.hopeless:
                    raise unreachable(self._access.host, str(error)) from None
                reason = str(error)
                self._patience.pause(backoff(number), f"{reason}, trying again")
        raise TransferError(
            f"cannot read the beginning of {self._file.path} on {self._access.host}: {reason}"
        )

    def _ask(self, start: int, end: int) -> bytes:
        response, skip, generation = self._route.open(self._session, start, end)
        data = bytearray()
        wanted = skip + end - start
        try:
            while len(data) < wanted:
                chunk = response.read(min(wanted - len(data), 2**18))
                if not chunk:
                    raise BrokenConnection("the connection broke off")
                data += chunk
        finally:
            response.close()
        self._route.brought(generation)
        return bytes(data[skip:wanted])


# Whether the installed model is current


def recorded_source(store: Store, manifest: Manifest) -> Mapping[str, Any]:
    """The source that an installed model records in its configuration; {} if it records none.

    Raises StoreError, InvalidModel.
    """
    return source_of(store.read_small(manifest.config))


def is_current(manifest: Manifest, recorded: Mapping[str, Any], found: Source) -> bool:
    """Whether an installed model, with its recorded source, is what a pull of its name would install.

    Another commit with the same files is the same model.
    """
    if found.published is not None:
        return manifest.digest == found.published.manifest.digest
    now = json.loads(json.dumps(found.record))
    return {**recorded, "revision": ""} == {**now, "revision": ""}
