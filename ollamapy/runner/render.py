"""Parent of the render children: a template that takes longer than a second is killed, and holds up
nobody else.

Chat templates are programs that came with a model. Whatever one does, the request that used it
gets a prompt or a TemplateError, and the next request finds a fresh child. Templates that are no
programs (ChatML, plain text) are rendered here, without a child.

    A A A A --+
        B B --+--> the place --> a child        slow: beside the place, each with its own child
          C --+

1. Of each template one request at a time goes on, so a template that many ask for is no slower
   for the others than one that few ask for.
2. They take turns at one place, first come first served; usually one child does all the work.
   Whoever renders for longer than SLOW_SECONDS gives the place away and goes on beside it, with
   its child; at most MAX_CHILDREN - 1 do so at a time, and nobody for longer than RENDER_SECONDS.
3. When a template runs out of time, those who waited for it meanwhile get the same error: one
   after the other they would wait for seconds to hear it.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from ..chat import prompt
from ..chat.__main__ import read_frame, write_frame
from ..chat.template import Marks, Template
from ..config import child_command
from ..errors import TemplateError, TemplateTooSlow
from ..types import Message

_NO_MARKS = Marks()
_STOPPING = "nothing is rendered any more: the daemon is stopping"

log = logging.getLogger(__name__)

RENDER_SECONDS = 1.0
SLOW_SECONDS = 0.1
"""Few templates take more than 0.02 s."""

MAX_CHILDREN = 3
"""Two templates may loop and the others still take turns; see chat/__main__.py for the memory of
each."""

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
        self._command = list(command or child_command("ollamapy.chat"))
        self._timeout = timeout
        self._lines: dict[str, _Line] = {}  # by the template's source
        self._place = asyncio.Semaphore()
        self._beside = 0  # how many render without a place
        self._threads = ThreadPoolExecutor(thread_name_prefix="render")
        self._children: set[_Child] = set()
        self._idle: list[_Child] = []  # of the children
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the children that there are."""
        return tuple(child.pid for child in self._children)

    def warm(self) -> None:
        """Start a child now, so that it comes up while the model loads; needs no event loop."""
        if not self._children and not self._closed:
            try:
                self._idle.append(self._start())
            except OSError as error:
                log.warning("cannot start the template renderer: %s", error)

    async def render(
        self,
        template: Template,
        messages: Sequence[Message],
        *,
        marks: Marks = _NO_MARKS,
        tools: Sequence[Mapping[str, Any]] = (),
        think: bool | str | None = None,
    ) -> str:
        """The prompt for ``messages``, without the marks that tokenizing adds.

        ``tools`` and ``think`` (None: nobody said, else a bool or a level) reach templates that are
        programs only. Raises :class:`TemplateError`.
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
                    "variables": _thinking(think),
                }
            case _:
                return prompt.compose(template, messages)
        turns = [prompt.template_message(message) for message in messages]
        request |= {"messages": turns, "tools": list(tools) or None}
        return marks.without_added(await self._rendered(template, request))

    async def render_gap(
        self, template: Template, before: str, after: str, *, marks: Marks = _NO_MARKS
    ) -> str:
        """The prompt for what is missing between two texts, neither of them empty, by a Go template
        that can do it. Raises :class:`TemplateError`, also for templates of other kinds."""
        if template.kind != "go":
            raise TemplateError("the model has no Go template, and others cannot fill a gap")
        request = {"prompt": before, "suffix": after}
        return marks.without_added(await self._rendered(template, request))

    async def _rendered(self, template: Template, request: dict[str, Any]) -> str:
        """A child's text for a foreign template. Raises :class:`TemplateError`."""
        request |= {"kind": template.kind, "source": template.source}
        async with self._turn(template.source):
            reply = await self._ask(request)
        if not isinstance(text := reply.get("text"), str):
            raise TemplateError(str(reply.get("error")))
        return text

    @asynccontextmanager
    async def _turn(self, source: str) -> AsyncIterator[None]:
        """Wait for the others that have the same template. Raises the error of one that ran out of
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
                except TimeoutError:
                    line.timeouts += 1
                    raise self._took_too_long() from None
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[source]

    def _took_too_long(self) -> TemplateTooSlow:
        return TemplateTooSlow(f"the model's chat template took longer than {self._timeout:g} s")

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One exchange. A child that died is replaced and asked once more: who knows who killed it.

        Raises TimeoutError and TemplateError.
        """
        what = ""
        for _ in range(2):
            async with self._at_the_place() as give_away:
                child = self._take()
                if not await self._came_up(child):
                    what = "does not start"
                elif (reply := await self._exchange(child, request, give_away)) is not None:
                    self._idle.append(child)
                    return reply
                else:
                    what = "was killed by the model's chat template"
                self._discard(child)
        log.warning("the template renderer %s", what)
        raise TemplateError(f"the template renderer {what}")

    @asynccontextmanager
    async def _at_the_place(self) -> AsyncIterator[Callable[[], None]]:
        """Wait for the place and have it until the end, or until the function that this gives is
        called: it gives the place away, unless too many go on without one already."""
        await self._place.acquire()
        has_place = True

        def give_away() -> None:
            nonlocal has_place
            if self._beside < MAX_CHILDREN - 1:
                has_place = False
                self._beside += 1
                self._place.release()

        try:
            yield give_away
        finally:
            if has_place:
                self._place.release()
            else:
                self._beside -= 1

    async def _exchange(
        self, child: _Child, request: dict[str, Any], slow: Callable[[], None]
    ) -> dict[str, Any] | None:
        """The child's answer, None if it died; ``slow`` is called when it takes long. Raises
        TimeoutError."""
        if self._closed:
            raise TemplateError(_STOPPING)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(SLOW_SECONDS, slow)
        try:
            async with asyncio.timeout(self._timeout):
                return await loop.run_in_executor(self._threads, child.exchange, request)
        except BaseException:  # out of time, or cancelled: the answer will come, but to nobody
            self._discard(child)
            self.warm()
            raise
        finally:
            timer.cancel()

    def _start(self) -> _Child:
        child = _Child(self._command, self._threads)
        self._children.add(child)
        return child

    def _take(self) -> _Child:
        """A child that nobody uses, started if need be."""
        if self._closed:
            raise TemplateError(_STOPPING)
        while self._idle:
            child = self._idle.pop()
            if child.lives:
                return child
            self._discard(child)
        try:
            return self._start()
        except OSError as error:
            log.warning("cannot start the template renderer: %s", error)
        raise TemplateError("the template renderer cannot be started: see the daemon's log")

    async def _came_up(self, child: _Child) -> bool:
        """Wait until it is ready. Who stops waiting does not stop it: it is the next one's."""
        try:
            async with asyncio.timeout(START_SECONDS):
                return await asyncio.shield(asyncio.wrap_future(child.came_up))
        except TimeoutError:
            return False
        except asyncio.CancelledError:
            self._idle.append(child)
            raise

    def _discard(self, child: _Child) -> None:
        """Kill it, and reap it in a thread; once."""
        if child in self._children:
            self._children.remove(child)
            child.kill()
            self._threads.submit(child.bury)

    async def close(self) -> None:
        """Kill the children and wait until they are gone; what is being rendered fails, and nothing
        is rendered any more."""
        self._closed = True
        for child in tuple(self._children):
            self._discard(child)
        await asyncio.to_thread(self._threads.shutdown)


class _Line:
    """Those who wait with the same template, and how often it ran out of time meanwhile."""

    def __init__(self) -> None:
        self.front = asyncio.Lock()
        self.length = 0
        self.timeouts = 0


class _Child:
    """One process and its two pipes. The methods that wait are called in threads; killing it ends
    them all."""

    def __init__(self, command: Sequence[str], threads: ThreadPoolExecutor) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # the terminal's Ctrl+C is for the daemon alone
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self.came_up: Future[bool] = threads.submit(self._wait_ready)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def _wait_ready(self) -> bool:
        return self._read() == {"ready": True}

    def exchange(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Ask and wait for the answer; None when the child dies before it has given one."""
        try:
            write_frame(self._requests, request)
        except OSError:
            return None
        return self._read()

    def _read(self) -> dict[str, Any] | None:
        try:
            reply = read_frame(self._replies)
        except (OSError, ValueError, RecursionError):
            return None
        return reply if isinstance(reply, dict) else None

    def kill(self) -> None:
        self._process.kill()

    def bury(self) -> None:
        """Wait for the end of a killed process and free its pipes."""
        self._process.wait()
        for pipe in (self._requests, self._replies):
            try:
                pipe.close()
            except OSError:  # bytes that it did not read any more
                pass


def _thinking(think: bool | str | None) -> dict[str, Any]:
    """The variables that Jinja templates know thinking by."""
    if think is None:
        return {}
    level = {"reasoning_effort": "high" if think == "max" else think}  # no template knows max
    wanted = {"enable_thinking": bool(think), "thinking": bool(think)}  # Granite, DeepSeek-V3.1
    return {**wanted, **(level if isinstance(think, str) else {})}
