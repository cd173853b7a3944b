"""Parent of the render child: one template at a time; after a second the child is killed, replaced.

Chat templates are programs that came with a model. Whatever one does, the request that used it
gets a prompt or a TemplateError, and the next request finds a fresh child. Templates that are no
programs (ChatML, plain text) are rendered here, without a child.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..chat import prompt
from ..chat.__main__ import read_frame, write_frame
from ..chat.template import Marks, Template
from ..config import child_command
from ..errors import TemplateError
from ..types import Message

_NO_MARKS = Marks()
_STOPPING = "nothing is rendered any more: the daemon is stopping"

log = logging.getLogger(__name__)

RENDER_SECONDS = 1.0
START_SECONDS = 30.0
"""For Python and jinja2 to come up: 0.1 s on an idle machine, and this one may be loading a
model."""


class Renderer:
    """Renders prompts; owns at most one child, started when first needed or by :meth:`warm`.

    ``command`` starts the child and ``timeout`` is the time of one render, in seconds: for tests.
    """

    def __init__(
        self, command: Sequence[str] | None = None, timeout: float = RENDER_SECONDS
    ) -> None:
        self._command = list(command or child_command("ollamapy.chat"))
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._threads = ThreadPoolExecutor(thread_name_prefix="render")
        self._child: _Child | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return None if self._child is None else self._child.pid

    def warm(self) -> None:
        """Start the child now, so that it comes up while the model loads; needs no event loop."""
        if self._child is None and not self._closed:
            try:
                self._child = _Child(self._command, self._threads)
            except OSError as error:
                log.warning("cannot start the template renderer: %s", error)

    async def render(
        self,
        template: Template,
        messages: Sequence[Message],
        *,
        marks: Marks = _NO_MARKS,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for ``messages``, without the marks that tokenizing adds.

        ``tools`` and ``variables`` (say, enable_thinking) reach Jinja templates only. Raises
        :class:`TemplateError`.
        """
        if not template.is_foreign:
            return prompt.compose(template, messages)
        request = {
            "source": template.source,
            "messages": [prompt.turn(message) for message in messages],
            "bos_token": marks.bos,
            "eos_token": marks.eos,
            "tools": list(tools),
            "variables": dict(variables or {}),
        }
        async with self._turn:
            reply = await self._ask(request)
        if not isinstance(text := reply.get("text"), str):
            raise TemplateError(str(reply.get("error")))
        return marks.without_added(text)

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One exchange. A child that died is replaced and asked once more: who knows who killed it."""
        loop = asyncio.get_running_loop()
        what = ""
        for _ in range(2):
            child = self._running()
            if not await self._came_up(child):
                self._discard(child)
                what = "does not start"
                continue
            if self._closed:
                raise TemplateError(_STOPPING)
            try:
                async with asyncio.timeout(self._timeout):
                    reply = await loop.run_in_executor(self._threads, child.exchange, request)
            except TimeoutError:
                self._discard(child)
                self.warm()
                raise TemplateError(
                    f"the model's chat template took longer than {self._timeout:g} s"
                ) from None
            except BaseException:  # cancelled: the answer will come, but to nobody
                self._discard(child)
                raise
            if reply is not None:
                return reply
            self._discard(child)
            what = "was killed by the model's chat template"
        log.warning("the template renderer %s", what)
        raise TemplateError(f"the template renderer {what}")

    def _running(self) -> _Child:
        """The child, started if need be."""
        if self._closed:
            raise TemplateError(_STOPPING)
        self.warm()
        if self._child is None:
            raise TemplateError("the template renderer cannot be started: see the daemon's log")
        return self._child

    async def _came_up(self, child: _Child) -> bool:
        """Wait until it is ready. Shielded: who stops waiting must not stop what others wait for."""
        try:
            async with asyncio.timeout(START_SECONDS):
                return await asyncio.shield(asyncio.wrap_future(child.came_up))
        except TimeoutError:
            return False

    def _discard(self, child: _Child) -> None:
        """Kill it, and reap it in a thread; once."""
        if self._child is child:
            self._child = None
            child.kill()
            self._threads.submit(child.bury)

    async def close(self) -> None:
        """Kill the child and wait until it is gone; what is being rendered fails, and nothing is
        rendered any more."""
        self._closed = True
        if self._child is not None:
            self._discard(self._child)
        await asyncio.to_thread(self._threads.shutdown)


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
