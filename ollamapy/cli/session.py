"""The conversation of the REPL as a value: its messages, its settings, and the request that follows from them. Pure.

A model with a chat template is asked at /api/chat with the whole list of messages each time. A base model, which has none,
continues text: its conversation is one running text, to which every input adds. It goes to /api/chat as one message where
the server joins messages to a text (a key of the built-in model asks for that), else to /api/generate as it is: /api/chat would put it
into ChatML. From nothing, the first begins with the model's begin mark alone, the other with a line break, because an empty
prompt means "load" there.

What a model thought goes back to it with its answer; the server leaves out what its template does not want any more.

A part of an answer that was stopped, or that broke off, is kept. To a chat model it is sent with the ending behind it, so
that the model can know; a base model goes on with the bare text. An empty line makes a base model go on with such a part,
and with one that its limit cut off; else, for then nothing was begun or the text came to its end, it starts a new one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..human import joined

JOINS_MESSAGES = "ollamapy.join_messages"
"""The key of a GGUF, seen in /api/show, that makes the server join messages to a text."""

_CONTEXT_STEP = 256

Ending = Literal["", "cut off", "stopped", "broken off"]
"""How an answer ended early: at num_predict or the context, by the user, by an error. "" = it is whole."""
Role = Literal["user", "assistant", "system", "tool"]
SHOWN: Collection[Ending] = ("stopped", "broken off")
"""The endings that are shown: a limit is the user's own, and an answer that met it is like any other."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation; ``images`` are files in base64, ``files`` parts that the daemon has, by digest,
    ``documents`` files with a name and data. ``id`` is the daemon's, "" where it does not keep the message."""

    role: Role
    content: str
    ending: Ending = ""
    thinking: str = ""
    images: tuple[str, ...] = ()
    files: tuple[Mapping[str, Any], ...] = ()
    documents: tuple[Mapping[str, str], ...] = ()
    id: str = ""

    @property
    def message(self) -> dict[str, Any]:
        """As /api/chat takes it."""
        sent: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.thinking:
            sent["thinking"] = self.thinking
        if self.images:
            sent["images"] = list(self.images)
        if self.documents:
            sent["files"] = list(self.documents)
        return sent


@dataclass(frozen=True, slots=True)
class Post:
    """A request to the server: ``body`` for /api/chat if ``chat``, else for /api/generate."""

    chat: bool
    body: Mapping[str, Any]

    def text(self, chunk: Mapping[str, Any]) -> str:
        """The text in a chunk of the answer."""
        if self.chat:
            return str((chunk.get("message") or {}).get("content") or "")
        return str(chunk.get("response") or "")

    def thinking(self, chunk: Mapping[str, Any]) -> str:
        """The thinking in a chunk of the answer."""
        return str(((chunk.get("message") or {}) if self.chat else chunk).get("thinking") or "")


def is_base(show: Mapping[str, Any]) -> bool:
    """Whether a model, from its /api/show, has no chat template and so continues text."""
    return str(show.get("template") or "").strip() in ("", "{{ .Prompt }}")


def only_embeds(show: Mapping[str, Any]) -> bool:
    """Whether a model, from its /api/show, makes vectors and no text."""
    capabilities = show.get("capabilities") or ()
    return "embedding" in capabilities and "completion" not in capabilities


@dataclass(frozen=True, slots=True)
class Session:
    """A model with a conversation and the settings of its requests.

    ``show`` is /api/show's answer. ``system`` is the user's, "" = the model's own. ``parameters`` are options by name;
    ``keep_alive`` is as the user wrote it; ``format`` is "json" or a schema; ``think`` None leaves thinking to the model.
    """

    model: str
    show: Mapping[str, Any]
    messages: tuple[Message, ...] = ()
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    keep_alive: str | None = None
    format: Any = None
    think: bool | str | None = None

    @property
    def is_base(self) -> bool:
        """Whether the model continues text."""
        return is_base(self.show)

    @property
    def joins(self) -> bool:
        """Whether the model continues text, to which the server joins the messages of a chat."""
        return self.is_base and bool((self.show.get("model_info") or {}).get(JOINS_MESSAGES))

    @property
    def wanted_context(self) -> int | None:
        """The tokens of context that the session or the model asks for, as llama.cpp rounds them; None if neither does."""
        lines = str(self.show.get("parameters") or "").splitlines()
        words = (line.split() for line in lines)
        own = next((each[1] for each in words if len(each) == 2 and each[0] == "num_ctx"), "")
        wanted = self.parameters.get("num_ctx") or (
            int(own) if own.isascii() and own.isdigit() else 0
        )
        return -(-wanted // _CONTEXT_STEP) * _CONTEXT_STEP if wanted > 0 else None

    @property
    def is_open(self) -> bool:
        """Whether the last answer is only a part."""
        return bool(self.messages and self.messages[-1].ending)

    @property
    def text(self) -> str:
        """The conversation as one text; answers follow what is before them without a seam."""
        text = ""
        for message in self.messages:
            text = (
                joined(text, message.content) if message.role == "user" else text + message.content
            )
        return text

    def loading(self) -> Post:
        """The request that loads the model."""
        return Post(False, {**self._common(), "prompt": ""})

    def with_message(
        self,
        line: str,
        images: tuple[str, ...] = (),
        files: tuple[Mapping[str, Any], ...] = (),
        documents: tuple[Mapping[str, str], ...] = (),
    ) -> Session:
        """With a message of the user; an empty line (base models only) goes on with a part or begins a new text. The built-in
        model tells stories: what is typed begins the next one."""
        if line and self.joins:
            return replace(self, messages=(Message("user", line),))
        if line or images or files or documents:
            message = Message("user", line, images=images, files=files, documents=documents)
            return replace(self, messages=(*self.messages, message))
        return self if self.is_open else replace(self, messages=())

    def with_answer(
        self, text: str, ending: Ending = "", thinking: str = "", id: str = ""
    ) -> Session:
        """With an answer or a part of one, which goes on with the last one if no message came between."""
        if self.messages and self.messages[-1].role == "assistant":
            last = self.messages[-1]
            whole = replace(last, content=last.content + text, ending=ending)
            return replace(self, messages=(*self.messages[:-1], whole))
        answer = Message("assistant", text, ending, thinking, id=id)
        return replace(self, messages=(*self.messages, answer))

    def at_question(self) -> Session:
        """As it was when the user's last message was sent; without messages if there is none."""
        asked = [n for n, each in enumerate(self.messages) if each.role == "user"]
        return replace(self, messages=self.messages[: asked[-1] + 1 if asked else 0])

    def saved(self, model: str) -> dict[str, Any]:
        """The body of /api/create for a model that begins where this session stands."""
        body: dict[str, Any] = {"model": model, "from": self.model}
        if self.system:
            body["system"] = self.system
        if self.parameters:
            body["parameters"] = self.options()
        if self.messages:
            before = list(self.show.get("messages") or ())
            body["messages"] = before + [
                {"role": message.role, "content": message.content} for message in self.messages
            ]
        return body

    def request(self) -> Post:
        """Ask for the next answer."""
        if not self.is_base:
            messages = [message.message for message in self.messages]
            return Post(True, {**self._asked(), "messages": [*self._system(), *messages]})
        if self.joins:
            messages = [*self._system(), {"role": "user", "content": self.text}]
            return Post(True, {**self._asked(), **self._policy(), "messages": messages})
        prompt = joined(self.system or str(self.show.get("system") or ""), self.text)
        return Post(False, {**self._asked(), "prompt": prompt or "\n", "raw": True})

    def _system(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def _common(self) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model}
        if self.parameters:
            body["options"] = self.options()
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive
        if self.think is not None:
            body["think"] = self.think
        return body

    def _asked(self) -> dict[str, Any]:
        return self._common() if self.format is None else {**self._common(), "format": self.format}

    def _policy(self) -> dict[str, Any]:
        """A text that has outgrown the context loses its middle, as at /api/generate: of one message no oldest can go."""
        if "context_policy" in str(self.show.get("parameters") or ""):
            return {}
        return {"options": {"context_policy": "shift", **self.options()}}

    def chat_options(self) -> dict[str, Any]:
        """The options of a chat that the daemon keeps."""
        options: dict[str, Any] = self._policy().get("options", {}) if self.joins else {}
        return options or self.options()

    def options(self) -> dict[str, Any]:
        """The parameters, as a request has them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.parameters.items()
        }
