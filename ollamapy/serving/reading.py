"""The documents and links of a request, read and fetched before the request becomes a turn: texts and media files take their places.

A document's text is bounded by the context: first CHARACTERS_PER_TOKEN characters for each of SHARE of its tokens, and where the
prompt then has too many tokens, less (answer.py). What was left out is noted in the prompt and in the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ..errors import InvalidRequest
from ..formats.documents.excerpt import Excerpt, excerpt, shown_name
from ..formats.documents.kinds import media_type
from ..models.spec import ModelSpec
from ..request import Conversation, Input, Question, Request
from ..runner.documents import Documents
from ..types import Document, Link, Message

Fetch = Callable[[str], bytes]
"""The content at an address, in a thread. Raises InvalidRequest."""

CHARACTERS_PER_TOKEN = 3
"""Fewer than a text of any language that models are trained on has, but for those that they know badly."""

SHARE = 0.75
"""Of the context, for one document: the rest is for the question and the answer."""

DEFAULT_CONTEXT = 4096
"""Tokens, where the model does not say what it was trained for."""

MOST_CONTEXT = 32_768
"""Tokens, where no context is set: no longer one is loaded for a request that names none."""

MOST_DOCUMENTS = 100
"""Documents and links of a request."""

MOST_FETCHED = 64 * 2**20
"""Bytes of all files that are fetched for a request, as many as a request may have itself."""

MOST_FETCHING = 4
"""Files that are fetched at the same time, of all requests."""


@dataclass(frozen=True, slots=True)
class Read:
    """A request whose documents and links were read: ``notes`` say what was left out, ``text`` is that of all documents."""

    request: Request
    notes: tuple[str, ...] = ()
    text: str = ""


class Files:
    """Reads and fetches what requests bring along. ``fetch`` is None where nothing may be fetched."""

    def __init__(self, documents: Documents | None = None, fetch: Fetch | None = None) -> None:
        self._documents = documents or Documents()
        self._fetch = fetch
        self._fetching = asyncio.Semaphore(MOST_FETCHING)

    async def read(self, document: Document, *, images: bool = False, most: int) -> Excerpt:
        """The first ``most`` characters of a document. Raises InvalidRequest that names it, ServerBusy, RunnerError."""
        try:
            found = await self._documents.read(document.content, images=images)
            return await asyncio.to_thread(excerpt, document.name, found, most)
        except InvalidRequest as error:
            raise InvalidRequest(f'the document "{shown_name(document.name)}" {error}') from None

    async def check(self, document: Document) -> None:
        """Raise why no model could read a file: InvalidRequest, ServerBusy, RunnerError. What was read is kept for its message."""
        if not media_type(document.content):
            await self.read(document, most=0)

    async def read_request(
        self, request: Request, spec: ModelSpec, context: int | None, share: float = 1.0
    ) -> Read:
        """A request without documents and links. ``context``: the tokens that are set for the daemon, None if none are;
        ``share``: of the characters that may then fit. Raises as :meth:`read`."""
        given, messages = request.input, _unread(request.input)
        if not messages:
            return Read(request)
        _check_number(messages)
        wanted = request.options.over(spec.options).num_ctx or context
        most = int(share * most_characters(wanted, spec.header.context_length))
        reader = _Reader(self, most, sees="vision" in spec.capabilities)
        read = [each.read(await reader.parts(each)) for each in messages]
        whole = replace(request, input=_with_read(given, read))
        return Read(whole, tuple(dict.fromkeys(reader.notes)), "".join(reader.texts))

    async def fetched(self, link: Link) -> bytes | Document:
        """The file at an address. Raises InvalidRequest."""
        if self._fetch is None:
            raise InvalidRequest(_REFUSED if link.is_image else _REFUSED_FILE)
        async with self._fetching:
            content = await asyncio.to_thread(self._fetch, link.url)
        if not link.is_image:
            return Document(content, link.url.partition("?")[0].rpartition("/")[2])
        if not media_type(content).startswith("image/"):
            raise InvalidRequest("an image URL leads to what is no image")
        return content


class _Reader:
    """Reads the parts of one request's messages: of each document ``most`` characters, and images of pages for a model that
    ``sees``; ``notes`` collects what was left out, ``texts`` what was not."""

    def __init__(self, files: Files, most: int, *, sees: bool) -> None:
        self._files, self._most, self._sees = files, most, sees
        self._n_fetched = 0  # bytes
        self.notes: list[str] = []
        self.texts: list[str] = []

    async def parts(self, message: Message) -> Sequence[str | bytes]:
        """The parts of a message, in order. Raises as Files.read."""
        found: list[str | bytes] = []
        for part in message.unread:
            if isinstance(part, Link):
                part = self._counted(await self._files.fetched(part))
            if isinstance(part, Document):
                found += await self._of_document(part)
            else:
                found.append(part)
        return found

    def _counted(self, part: bytes | Document) -> bytes | Document:
        """What was fetched. Raises InvalidRequest where it is too much for one request."""
        self._n_fetched += len(part if isinstance(part, bytes) else part.content)
        if self._n_fetched > MOST_FETCHED:
            raise InvalidRequest(
                f"the files that the request links to have more than {MOST_FETCHED // 2**20} MiB together"
            )
        return part

    async def _of_document(self, document: Document) -> Sequence[str | bytes]:
        """The text of a document, and images of its pages; of an image or a sound the file itself."""
        if media_type(document.content):
            return [document.content]
        read = await self._files.read(document, images=self._sees, most=self._most)
        self.notes += [read.note] if read.note else []
        self.texts += [part for part in read.parts if isinstance(part, str)]
        return read.parts


def _unread(given: Input) -> list[Message]:
    """The messages that have something to be read."""
    match given:
        case Conversation(messages):
            return [each for each in messages if each.unread]
        case Question(prompt, files=files) if files:
            return [Message("user", unread=(*files, prompt))]
    return []


def _with_read(given: Input, read: Sequence[Message]) -> Input:
    """An input in whose messages those of :func:`_unread` were read."""
    if isinstance(given, Question):
        [whole] = read
        images = (*whole.images, *given.images)
        return replace(given, prompt=whole.content, images=images, files=())
    assert isinstance(given, Conversation)
    following = iter(read)
    messages = [next(following) if each.unread else each for each in given.messages]
    return replace(given, messages=tuple(messages))


def most_characters(wanted: int | None, trained: int | None) -> int:
    """The characters of a document that fit into the context beside the question and the answer, about. ``wanted``: the tokens of
    context that are set, ``trained``: those that the model knows; None where that is not so."""
    tokens = min(wanted or MOST_CONTEXT, trained or DEFAULT_CONTEXT)
    return int(tokens * SHARE * CHARACTERS_PER_TOKEN)


def _check_number(messages: Sequence[Message]) -> None:
    parts = (part for message in messages for part in message.unread)
    if sum(isinstance(part, Document | Link) for part in parts) > MOST_DOCUMENTS:
        raise InvalidRequest(f"a request can have {MOST_DOCUMENTS} documents and links, send fewer")


_REFUSED = "image URLs are not currently supported, please use base64 encoded data instead"
"""Ollama's words, which its clients may know."""
_REFUSED_FILE = "file URLs are not fetched here, send the file's data instead"
