"""Parent of the render children: a template that takes longer than a second is killed, and holds up
no other.

Chat templates are programs that came with a model. Whatever a template does, its request gets a
prompt or a TemplateError, and the next request finds a fresh child. Templates that are no programs
(ChatML, plain text) are rendered here, without a child.

    A A A A --+
        B B --+--> the place --> a child        slow: beside the place, each with its own child
          C --+

1. Each template has one request at work at a time, so one that many requests use does not slow
   down the others.
2. Requests take turns at one place (turns.py), templates of installed models first, those that ran
   out of time recently last; usually one child does all the work. A request that renders for longer than SLOW_SECONDS leaves the place and continues beside it, in
   its child; at most MAX_CHILDREN - 1 do so at a time, and none for longer than RENDER_SECONDS.
3. When a template runs out of time, the requests that waited for it meanwhile get the same error:
   one after the other, each would wait a second for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Literal

from ..chat import prompt
from ..chat.template import Marks, Template
from ..config import child_command
from ..errors import RefusedByTemplate, TemplateError, TemplateTooSlow, reason
from ..machine import processor_seconds
from ..types import Message
from .child import Child, Ending, State
from .frames import Frame, FrameTooLong, encode
from .protocol import (
    MAX_RENDER_FRAME,
    FromRenderer,
    Refused,
    Render,
    Rendered,
    RendererReady,
)
from .turns import Place, Rank

_NO_MARKS = Marks()
_STOPPING = "nothing is rendered any more: the daemon is stopping"

log = logging.getLogger(__name__)

RENDER_SECONDS = 1.0
"""Of the processor, where the system tells it: on a busy machine a template may take PATIENCE times as long."""

PATIENCE = 5

SLOW_SECONDS = 0.1
"""Few templates take more than 0.02 s."""

MAX_CHILDREN = 3
"""Two templates may loop and the others still take turns; see render_child.py for the memory of
each."""

MOST_TIMED_OUT = 64
"""Templates that are remembered because they ran out of time, until they are rendered in time."""

START_SECONDS = 30.0
"""For Python and jinja2 to come up: 0.15 s on an idle machine, and this one may be loading a
model."""


class Renderer:
    """Renders prompts; owns at most MAX_CHILDREN children, the first started when it is needed or by
    :meth:`warm`.

    ``command`` starts a child and ``timeout`` is the time of one render, in seconds: for tests.
    """

    def __init__(
        self, command: Sequence[str] | None = None, timeout: float = RENDER_SECONDS
    ) -> None:
        self._command = list(command or child_command("ollamapy.runner.render_child"))
        self._timeout = timeout
        self._lines: dict[str, _Line] = {}  # by the template's source
        self._place = Place(MAX_CHILDREN - 1)
        self._timed_out: dict[str, None] = {}  # the templates that did so last, as an ordered set
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="render")  # for long messages
        self._children: set[_RenderChild] = set()
        self._idle: list[_RenderChild] = []  # of the children
        self._dying: set[_RenderChild] = set()
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the children that there are."""
        return tuple(child.pid for child in self._children if child.pid is not None)

    def warm(self) -> None:
        """Start a child now, so that it comes up while the model loads."""
        if not self._children and not self._closed:
            self._idle.append(self._start())

    async def render(
        self,
        template: Template,
        messages: Sequence[Message],
        *,
        marks: Marks = _NO_MARKS,
        tools: Sequence[Mapping[str, Any]] = (),
        think: bool | str | None = None,
        variables: Mapping[str, Any] = {},
        of_request: bool = False,
    ) -> str:
        """The prompt for ``messages``, without the marks that tokenizing adds.

        ``tools`` and ``think`` (None: not given, else a bool or a level) reach templates that are
        programs only, ``variables`` Jinja templates only. ``of_request``: the template is not an installed model's; those go first.
        Raises :class:`TemplateError`, :class:`RefusedByTemplate`.
        """
        request: dict[str, Any]
        match template.kind:
            case "go":
                request = {
                    "think": None if think is None else bool(think),
                    "think_level": think if isinstance(think, str) else "medium" if think else "",
                }
            case "jinja":
                request = {
                    "bos_token": marks.bos,
                    "eos_token": marks.eos,
                    "variables": {**variables, **_thinking(think)},
                }
            case _:
                return prompt.compose(template, messages)
        request["tools"] = list(tools) or None
        return marks.without_added(await self._rendered(template, request, of_request, messages))

    async def render_gap(
        self,
        template: Template,
        before: str,
        after: str,
        *,
        marks: Marks = _NO_MARKS,
        of_request: bool = False,
    ) -> str:
        """The prompt for what is missing between two texts, neither of them empty, by a Go template
        that can do it. Raises :class:`TemplateError`, also for templates of other kinds."""
        if template.kind != "go":
            raise TemplateError("the model has no Go template, and others cannot fill a gap")
        request = {"prompt": before, "suffix": after}
        return marks.without_added(await self._rendered(template, request, of_request))

    async def _rendered(
        self,
        template: Template,
        arguments: dict[str, Any],
        of_request: bool,
        messages: Sequence[Message] | None = None,
    ) -> str:
        """A child's text for a foreign template; ``messages`` are an argument, too, encoded apart from the others. Raises
        :class:`TemplateError`, :class:`RefusedByTemplate`."""
        if self._closed:
            raise TemplateError(_STOPPING)
        arguments["source"] = template.source
        language: Literal["go", "jinja"] = "go" if template.kind == "go" else "jinja"
        loop = asyncio.get_running_loop()
        request = await loop.run_in_executor(self._threads, _encoded, language, arguments, messages)
        async with self._turn(template.source):
            answer = await self._ask(request, self._rank(template.source, of_request))
        if isinstance(answer, Refused):
            raise (RefusedByTemplate if answer.by_template else TemplateError)(answer.reason)
        return answer.text

    @asynccontextmanager
    async def _turn(self, source: str) -> AsyncIterator[None]:
        """Wait for the requests with the same template. Raises the error of one that ran out of
        time meanwhile."""
        line = self._lines.setdefault(source, _Line())
        line.length += 1
        try:
            timeouts = line.timeouts
            async with line.front:
                if line.timeouts != timeouts:
                    raise self._took_too_long()
                try:
                    yield
                    self._timed_out.pop(source, None)
                except TimeoutError:
                    line.timeouts += 1
                    self._note_timeout(source)
                    raise self._took_too_long() from None
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[source]

    def _rank(self, source: str, of_request: bool) -> Rank:
        if source in self._timed_out:
            return Rank.TIMED_OUT
        return Rank.REQUEST if of_request else Rank.MODEL

    def _note_timeout(self, source: str) -> None:
        self._timed_out.pop(source, None)
        self._timed_out[source] = None
        if len(self._timed_out) > MOST_TIMED_OUT:
            del self._timed_out[next(iter(self._timed_out))]

    def _took_too_long(self) -> TemplateTooSlow:
        return TemplateTooSlow(f"the model's chat template took longer than {self._timeout:g} s")

    async def _ask(self, request: bytes, rank: Rank) -> Rendered | Refused:
        """One exchange. A child that died is replaced and asked once more: something else may have killed it.

        Raises TimeoutError and TemplateError.
        """
        what = ""
        for _ in range(2):
            async with self._place.turn(rank) as give_away:
                child = self._take()
                if not await self._came_up(child):
                    what = child.why_not
                elif (answer := await self._exchange(child, request, give_away)) is not None:
                    self._idle.append(child)
                    return answer
                else:
                    what = "was killed by the model's chat template"
                self._discard(child)
        log.warning("the template renderer %s", what)
        raise TemplateError(f"the template renderer {what}")

    async def _exchange(
        self, child: _RenderChild, request: bytes, slow: Callable[[], None]
    ) -> Rendered | Refused | None:
        """The child's answer, None if it died; ``slow`` is called when it takes long. Raises
        TimeoutError."""
        if self._closed:
            raise TemplateError(_STOPPING)
        timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, slow)
        try:
            return await child.exchange(request, self._timeout)
        except BaseException:  # out of time, or cancelled: the answer would come, but too late
            self._discard(child)
            self.warm()
            raise
        finally:
            timer.cancel()

    def _start(self) -> _RenderChild:
        child = _RenderChild(self._command)
        self._children.add(child)
        return child

    def _take(self) -> _RenderChild:
        """A child that has no work, started if need be."""
        if self._closed:
            raise TemplateError(_STOPPING)
        while self._idle:
            child = self._idle.pop()
            if child.lives:
                return child
            self._discard(child)
        return self._start()

    async def _came_up(self, child: _RenderChild) -> bool:
        """Wait until it is ready. A caller that stops waiting leaves it to the next one."""
        try:
            async with asyncio.timeout(START_SECONDS):
                return await asyncio.shield(child.came_up)
        except TimeoutError:
            return False
        except asyncio.CancelledError:
            self._idle.append(child)
            raise

    def _discard(self, child: _RenderChild) -> None:
        """Kill it, once."""
        if child in self._children:
            self._children.remove(child)
            self._dying.add(child)
            child.process.when_ended(lambda _: self._dying.discard(child))
            child.process.kill()

    async def close(self) -> None:
        """Kill the children and wait until they are gone; what is being rendered fails, and nothing
        is rendered any more."""
        self._closed = True
        for child in tuple(self._children):
            self._discard(child)
        for child in tuple(self._dying):
            await child.process.wait()
        self._threads.shutdown(wait=False)


def _encoded(
    language: Literal["go", "jinja"],
    arguments: Mapping[str, Any],
    messages: Sequence[Message] | None,
) -> bytes:
    """A request as bytes: work for a thread, messages may be long. Lone surrogates pass, in JSON."""
    parts = [] if messages is None else [b'"messages": [', *_messages_as_json(messages), b"], "]
    try:
        text = b"".join((b"{", *parts, _as_json(arguments)[1:]))
        return encode(Render(language, text), MAX_RENDER_FRAME)
    except FrameTooLong:
        raise TemplateError("the messages are too long for the model's chat template") from None


_PIECE = 1024 * 1024
"""Characters of a text that are encoded at a time: JSON's encoder holds the interpreter lock until it is done."""


def _messages_as_json(messages: Sequence[Message]) -> Iterator[bytes]:
    """The messages as templates see them, one after the other, as parts of JSON."""
    for n, message in enumerate(messages):
        seen = prompt.template_message(message)
        yield b", {" if n else b"{"
        for at, (key, value) in enumerate(seen.items()):
            yield b'%s"%s": ' % (b", " if at else b"", key.encode())
            yield from _text_as_json(value) if isinstance(value, str) else (_as_json(value),)
        yield b"}"


def _text_as_json(text: str) -> Iterator[bytes]:
    yield b'"'
    for at in range(0, len(text), _PIECE):
        yield _as_json(text[at : at + _PIECE])[1:-1]
    yield b'"'


def _as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


class _Line:
    """The requests that wait for one template, and how often it ran out of time meanwhile."""

    def __init__(self) -> None:
        self.front = asyncio.Lock()
        self.length = 0
        self.timeouts = 0


class _RenderChild:
    """One child, and the one request that it has at a time.

    ``came_up`` becomes True when it is ready, False when it ends before that; then ``why_not`` has the reason.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self.came_up: asyncio.Future[bool] = self._loop.create_future()
        self.why_not = "does not start"
        self._answer: asyncio.Future[Rendered | Refused | None] | None = None
        self.process = Child(
            command,
            FromRenderer,
            self._arrived,
            name="template renderer",
            limit=MAX_RENDER_FRAME,
            log_level=logging.DEBUG,
        )
        self.process.when_ended(self._ended)

    @property
    def pid(self) -> int | None:
        return self.process.pid

    @property
    def lives(self) -> bool:
        return self.process.state in (State.STARTING, State.RUNNING)

    async def exchange(self, request: bytes, seconds: float) -> Rendered | Refused | None:
        """Ask and wait for the answer; None when the child dies before it has given one. Raises TimeoutError."""
        self._answer = self._loop.create_future()
        if not self.lives:
            return None
        self.process.send_encoded(request)
        began, before = self._loop.time(), processor_seconds(self.pid)
        left = seconds
        while left > 0:
            await asyncio.wait((self._answer,), timeout=left)
            for _ in range(3):  # an answer that came while the event loop was held up is in time
                if self._answer.done():
                    return self._answer.result()
                await asyncio.sleep(0)
            now = processor_seconds(self.pid)
            if before is None or now is None:
                break
            left = min(seconds - (now - before), began + PATIENCE * seconds - self._loop.time())
        raise TimeoutError

    def _arrived(self, frame: Frame) -> None:
        if isinstance(frame, RendererReady) and not self.came_up.done():
            self.came_up.set_result(True)
        elif isinstance(frame, Rendered | Refused) and self._waits:
            assert self._answer is not None
            self._answer.set_result(frame)
        else:
            raise ValueError("an answer without a request")

    @property
    def _waits(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def _ended(self, ending: Ending) -> None:
        if not ending.spawned and ending.error is not None:
            log.warning("cannot start the template renderer: %s", reason(ending.error))
            self.why_not = "cannot be started: see the daemon's log"
        if not self.came_up.done():
            self.came_up.set_result(False)
        if self._waits:
            assert self._answer is not None
            self._answer.set_result(None)


def _thinking(think: bool | str | None) -> dict[str, Any]:
    """The variables that Jinja templates know thinking by."""
    if think is None:
        return {}
    level = {"reasoning_effort": "high" if think == "max" else think}  # no template knows max
    wanted = {"enable_thinking": bool(think), "thinking": bool(think)}  # Granite, DeepSeek-V3.1
    return {**wanted, **(level if isinstance(think, str) else {})}
