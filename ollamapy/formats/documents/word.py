"""The text of a docx: the part word/document.xml of a zip archive (ECMA-376, WordprocessingML), read as it is unpacked.

Bounded whatever the archive claims: XML is parsed in pieces and the text ends at a limit, entities are refused (no billion
laughs), and a depth of 1,000 elements is the most. Headers, footnotes and comments are left out, and so is deleted text.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any
from xml.parsers import expat

from ...errors import InvalidRequest

_PART = "word/document.xml"
_MOST_ENTRIES = 10_000
_MOST_DEPTH = 1_000
_PIECE = 64 * 1024

MOST_UNPACKED = 256 * 2**20
"""Bytes of XML that are read in search of text."""

_NAMESPACES = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
)


def paragraphs(content: bytes, most: int) -> Iterator[str]:
    """The text in pieces, until it has ``most`` characters. Raises InvalidRequest."""
    with _part(content) as part:
        reader = _Reader()
        read = n_characters = 0
        while n_characters < most:
            piece = _next(part)
            read += len(piece)
            if read > MOST_UNPACKED:
                raise InvalidRequest("unpacks to too much")
            found = reader.feed(piece)
            n_characters += len(found)
            yield found
            if not piece:
                return


def _part(content: bytes) -> IO[bytes]:
    try:
        archive = zipfile.ZipFile(BytesIO(content))
        if len(archive.infolist()) > _MOST_ENTRIES:
            raise InvalidRequest("has too many parts")
        return archive.open(_PART)
    except KeyError:
        raise InvalidRequest("is a zip archive and no Word document (docx)") from None
    except RuntimeError:
        raise InvalidRequest("is encrypted: save it without a password") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError):
        raise InvalidRequest("is a damaged zip archive") from None


def _next(part: IO[bytes]) -> bytes:
    try:
        return part.read(_PIECE)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError):
        raise InvalidRequest("is a damaged zip archive") from None


class _Reader:
    """Collects the text of WordprocessingML while it is parsed."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._found: list[str] = []
        self._depth = 0
        self._in_text = False
        self._ends_line = False  # a paragraph has ended: what follows is on a line of its own

    def feed(self, piece: bytes) -> str:
        """The text of the next bytes; none mean the end. Raises InvalidRequest."""
        try:
            self._parser.Parse(piece, not piece)
        except expat.ExpatError as error:
            raise InvalidRequest(f"is a damaged Word document: {error}") from None
        text = "".join(self._found)
        self._found.clear()
        return text

    def _refuse(self, *_: Any) -> None:
        raise InvalidRequest("is no Word document: it declares entities of its own")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise InvalidRequest("is nested too deeply")
        match _local(name):
            case "t":
                self._in_text = True
            case "tab":
                self._put("\t")
            case "br" | "cr":
                self._put("\n")

    def _end(self, name: str) -> None:
        self._depth -= 1
        match _local(name):
            case "t":
                self._in_text = False
            case "p" if self._ends_line:
                self._put("")  # an empty paragraph
                self._ends_line = True
            case "p" | "tr":
                self._ends_line = True
            case "tc":
                self._ends_line = False  # a bar stands for the end of its last paragraph
                self._put(" | ")

    def _characters(self, data: str) -> None:
        if self._in_text:
            self._put(data)

    def _put(self, text: str) -> None:
        if self._ends_line:
            self._found.append("\n")
            self._ends_line = False
        self._found.append(text)


def _local(name: str) -> str:
    """The name of an element of WordprocessingML; "" for others."""
    namespace, _, local = name.rpartition(" ")
    return local if namespace in _NAMESPACES else ""
