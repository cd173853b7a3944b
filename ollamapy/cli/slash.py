'''What a line typed in the REPL means: a message, or a command with its arguments. Pure; does and prints nothing.

    /set parameter|system|format|noformat|think|nothink     /set verbose|quiet|history|nohistory|wordwrap|nowordwrap
    /set markdown [on|off]
    /show info|license|modelfile|parameters|system|template
    /load MODEL    /save MODEL    /list [PREFIX]    /copy    /clear    /?, /help [set|show|chats|shortcuts]    /bye, /exit
    /retry [MODEL]    /edit [TEXT]    /undo    /continue    /file [PATH]    /compare MODEL [TEXT]
    /chats [TEXT]    /resume [ID]    /branch [NUMBER]    /title [TEXT]

A command is one line that begins with "/", and its words match whole: "/listing" is unknown and not "/list". Several lines are
a message whatever they begin with, and so is what stands between """ and """; only ``/set system """`` takes several lines.
'''

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .. import human
from ..errors import InvalidRequest
from ..types import OPTION_KINDS, THINK_LEVELS, parse_options
from .closest import closest
from .help import HELP, QUOTES, Topic

Part = Literal["info", "license", "modelfile", "parameters", "system", "template"]
"""The parts that `/show` shows."""
Switch = Literal["verbose", "history", "wordwrap", "markdown"]

PARTS: Sequence[Part] = ("info", "license", "modelfile", "parameters", "system", "template")
SWITCHES: Mapping[str, tuple[Switch, bool]] = {
    "verbose": ("verbose", True),
    "quiet": ("verbose", False),
    "history": ("history", True),
    "nohistory": ("history", False),
    "wordwrap": ("wordwrap", True),
    "nowordwrap": ("wordwrap", False),
}
"""The words after `/set` that turn something on or off."""


@dataclass(frozen=True, slots=True)
class Say:
    """A message for the model; "" is an empty line."""

    text: str


@dataclass(frozen=True, slots=True)
class SetParameter:
    """An option for the requests to come; ``shown`` is its value in the words of the user."""

    name: str
    value: int | float | bool | str | tuple[str, ...]
    shown: str


@dataclass(frozen=True, slots=True)
class SetSystem:
    """The system message; "" takes it back."""

    text: str


@dataclass(frozen=True, slots=True)
class SetFormat:
    """The form of answers: "json", a JSON Schema or its file; "" for any."""

    text: str


@dataclass(frozen=True, slots=True)
class SetThink:
    """Whether, or how much, the model thinks before it answers; ``level`` is one of THINK_LEVELS, or "" for no level."""

    on: bool
    level: str = ""


@dataclass(frozen=True, slots=True)
class SetSwitch:
    """Something to turn on or off; ``word`` is how the user called it."""

    switch: Switch
    on: bool
    word: str


@dataclass(frozen=True, slots=True)
class Show:
    """A part of the model's details."""

    part: Part


@dataclass(frozen=True, slots=True)
class Load:
    """Another model."""

    model: str


@dataclass(frozen=True, slots=True)
class Save:
    """The model with this session's settings and conversation, as a new one."""

    model: str


@dataclass(frozen=True, slots=True)
class ListModels:
    """The stored models whose names begin with ``prefix``."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Copy:
    """Put the last answer, as the model wrote it, into the clipboard."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Answer the last message again, with another model if one is named."""

    model: str


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the last message; "" opens it for editing."""

    text: str


@dataclass(frozen=True, slots=True)
class Undo:
    """Go back to before the last message."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """Continue an incomplete answer."""


@dataclass(frozen=True, slots=True)
class Attach:
    """A file for the next message; "" asks which there are."""

    path: str


@dataclass(frozen=True, slots=True)
class Compare:
    """Another model's answer beside this one's, to a text; "" is for the last message."""

    model: str
    text: str


@dataclass(frozen=True, slots=True)
class ListChats:
    """The chats; with a text those that it is found in."""

    text: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Open another chat, by the beginning of its id; "" is for the latest."""

    id: str


@dataclass(frozen=True, slots=True)
class Branch:
    """Another branch of the conversation, by its number; 0 asks which there are."""

    number: int


@dataclass(frozen=True, slots=True)
class Title:
    """The title of the chat; "" asks for it."""

    text: str


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget the conversation."""


@dataclass(frozen=True, slots=True)
class Help:
    """Show the help of a topic."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class Leave:
    """End the session."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """No command, or none that can be followed; ``message`` says why. ``names`` asks for the stored models, too."""

    message: str
    names: bool = False


Setting = SetParameter | SetSystem | SetFormat | SetThink | SetSwitch
OfAnswers = Copy | Retry | Edit | Undo | GoOn | Attach | Compare
OfChats = ListChats | Resume | Branch | Title
Command = (
    Say | Setting | OfAnswers | OfChats | Show | Load | Save | ListModels | Clear | Help | Leave | Wrong
)  # fmt: skip


def parse(text: str) -> Command:
    """The command or message that a whole input is; :func:`is_unfinished` must not hold for it."""
    if text.startswith(QUOTES):
        return Say(_unquoted(text))
    if not text.startswith("/"):
        return Say(text if text.strip() else "")
    if system := _SYSTEM.match(text):
        return SetSystem(_unquoted(text[system.end() :]))
    if "\n" in text.strip():
        return Say(text)
    name, *words = text.split()
    rest = text.strip().removeprefix(name).strip()
    match name:
        case "/set":
            return _set(words, rest)
        case "/show":
            return _show(words)
        case "/load":
            usage = Wrong("Usage:\n  /load <modelname>", names=True)
            return Load(words[0]) if len(words) == 1 else usage
        case "/save":
            return Save(words[0]) if len(words) == 1 else Wrong("Usage:\n  /save <modelname>")
        case "/list":
            return ListModels("".join(words[:1]))
        case "/copy":
            return Copy()
        case "/clear":
            return Clear()
        case "/retry" | "/edit" | "/undo" | "/continue" | "/file" | "/compare":
            return _again(name, words, rest)
        case "/chats" | "/resume" | "/branch" | "/title":
            return _chat(name, words, rest)
        case "/?" | "/help":
            return Help(_topic("".join(words[:1])))
        case "/bye" | "/exit":
            return Leave()
    return _unknown(name, _FIRST)


def _again(name: str, words: Sequence[str], rest: str) -> Command:
    """What is done with the last messages, and with the next one."""
    match name, words:
        case "/retry", [] | [_]:
            return Retry(rest)
        case "/edit", _:
            return Edit(rest)
        case "/undo", []:
            return Undo()
        case "/continue", []:
            return GoOn()
        case "/file", _:
            return Attach(rest)
        case "/compare", [model, *_]:
            return Compare(model, rest.removeprefix(model).strip())
    return Wrong(f"Usage:\n  {_USAGE[name]}", names=name == "/compare")


def _chat(name: str, words: Sequence[str], rest: str) -> Command:
    """What is done with the chats that the daemon keeps."""
    match name, words:
        case "/chats", _:
            return ListChats(rest)
        case "/resume", [] | [_]:
            return Resume(rest)
        case "/branch", []:
            return Branch(0)
        case "/branch", [number] if number.isascii() and number.isdigit() and int(number[:9]):
            return Branch(int(number[:9]))
        case "/title", _:
            return Title(rest)
    return Wrong(f"Usage:\n  {_USAGE[name]}")


_USAGE = {
    "/retry": "/retry [modelname]",
    "/undo": "/undo",
    "/continue": "/continue",
    "/compare": "/compare <modelname> [text]",
    "/resume": "/resume [id]",
    "/branch": "/branch [number]",
}


def _topic(word: str) -> Topic:
    return next((topic for topic in HELP if topic == word.removeprefix("/")), "")


def is_unfinished(text: str) -> bool:
    """Whether an opening \"\"\" has no closing one yet, so that more lines belong to the input."""
    if system := _SYSTEM.match(text):
        text = text[system.end() :]
    return text.startswith(QUOTES) and not text.removeprefix(QUOTES).rstrip().endswith(QUOTES)


_SYSTEM = re.compile(r'/set[ \t]+system[ \t]+(?=""")')


def _unquoted(text: str) -> str:
    """The text between the triple quotes, without a line break right after the first and before the last."""
    inner = text.removeprefix(QUOTES).rstrip().removesuffix(QUOTES)
    return inner.removeprefix("\n").removesuffix("\n")


def _unknown(word: str, known: Iterable[str], before: str = "") -> Wrong:
    """``before`` is the command that a word of the known ones should follow."""
    like = closest(word, known)
    meant = f", did you mean '{before}{like}'?" if like and like != word else "."
    return Wrong(f"Unknown command '{before}{word}'{meant} Type /? for help")


def _set(words: Sequence[str], rest: str) -> Command:
    """``rest`` is what follows `/set`, as it was typed."""
    match words:
        case []:
            return Help("set")
        case ["parameter", name, _, *_]:
            return _parameter(name, rest.split(None, 2)[2])
        case ["parameter", *_]:
            return Help("parameters")
        case ["system"]:
            return Wrong('Usage:\n  /set system <text>\n  /set system """ (several lines) """')
        case ["system", *_]:
            return SetSystem(rest.split(None, 1)[1])
        case ["format"]:
            return Wrong("Invalid or missing format. For 'json' mode use '/set format json'")
        case ["format", *_]:
            return SetFormat(rest.split(None, 1)[1])
        case ["noformat"]:
            return SetFormat("")
        case ["think"]:
            return SetThink(True)
        case ["think", level] if level in THINK_LEVELS:
            return SetThink(True, level)
        case ["think", *_]:
            return Wrong(f"Usage:\n  /set think [{'|'.join(THINK_LEVELS)}]")
        case ["nothink"]:
            return SetThink(False)
        case ["markdown"] | ["markdown", "on"]:
            return SetSwitch("markdown", True, "markdown")
        case ["markdown", "off"] | ["nomarkdown"]:
            return SetSwitch("markdown", False, "nomarkdown")
        case ["markdown", *_]:
            return Wrong("Usage:\n  /set markdown [on|off]")
        case [word] if word in SWITCHES:
            return SetSwitch(*SWITCHES[word], word)
    return _unknown(words[0], _SET, "/set ")


def _show(words: Sequence[str]) -> Command:
    if not words:
        return Help("show")
    part = next((part for part in PARTS if part == words[0]), None)
    return Show(part) if part else _unknown(words[0], PARTS, "/show ")


# ---- parameters ------------------------------------------------------------------------------------------------------

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"(?=\s|$)|\S+')


def _parameter(name: str, text: str) -> Command:
    """Typed as in a Modelfile, whose errors these are. A word in double quotes may hold spaces and \\n."""
    words = [_word(word) for word in _WORD.findall(text)]
    try:
        value = typed(name, words)
    except (ValueError, InvalidRequest) as error:
        return Wrong(f"Couldn't set parameter: {human.quote(str(error))}")
    return SetParameter(name, value, ", ".join(words))


def typed(name: str, words: Sequence[str]) -> Any:
    """The value of an option from words: one, but for a list. Raises ValueError and InvalidRequest in Ollama's words."""
    kind = OPTION_KINDS.get(name)
    if kind is None:
        like = closest(name, OPTION_KINDS)
        raise ValueError(
            f"unknown parameter '{name}'" + (f", did you mean '{like}'?" if like else "")
        )
    options, _ = parse_options({name: list(words) if kind == "array" else _scalar(kind, words)})
    return getattr(options, name)


def _word(word: str) -> str:
    try:
        return str(json.loads(word)) if word.startswith('"') else word
    except ValueError:
        return word


def _scalar(kind: str, words: Sequence[str]) -> Any:
    """One value of a kind of OPTION_KINDS; ValueError in Go's words."""
    names = {"integer": "int", "float32": "float", "boolean": "bool", "string": "string"}
    invalid = ValueError(f"invalid {names[kind]} value [{' '.join(words)}]")
    if len(words) != 1:
        raise invalid
    if kind == "string":
        return words[0]
    if kind == "boolean":
        if (boolean := human.parse_boolean(words[0])) is None:
            raise invalid
        return boolean
    try:
        number = int(words[0]) if kind == "integer" else float(words[0])
    except ValueError:
        raise invalid from None
    if "_" in words[0] or (kind == "integer" and not -(2**63) <= number < 2**63):
        raise invalid
    return number


def print_value(value: object) -> str:
    """A parameter's value, as `/show parameters` prints it."""
    if isinstance(value, tuple):
        return " ".join(map(human.quote, value))
    return human.format_value(value)


# ---- completion ------------------------------------------------------------------------------------------------------

_FORMS = ("format", "noformat", "think", "nothink", "markdown")
_SET = ("parameter", "system", *_FORMS, *SWITCHES)
_FIRST = (
    *("/set", "/show", "/load", "/save", "/list", "/copy", "/clear"),
    *("/retry", "/edit", "/undo", "/continue", "/file", "/compare"),
    *("/chats", "/resume", "/branch", "/title"),
    *("/help", "/?", "/bye", "/exit"),
)


def _none() -> Sequence[str]:
    return ()


def candidates(
    before: str,
    models: Callable[[], Sequence[str]],
    chats: Callable[[], Sequence[str]] = _none,
    files: Callable[[str], Sequence[str]] = lambda begun: (),
) -> list[str]:
    """The completions of the last word before the cursor; ``models``, ``chats`` and ``files`` are called only
    where names of models, ids of chats or paths are wanted."""
    if not before.startswith("/") or "\n" in before:
        return []
    words = before.split()
    if before[-1].isspace():
        words.append("")
    *path, typed = words
    match path:
        case []:
            found: Sequence[str] = _FIRST
        case ["/set"]:
            found = _SET
        case ["/set", "parameter"]:
            found = sorted(OPTION_KINDS)
        case ["/set", "format"]:
            found = ("json",)
        case ["/set", "think"]:
            found = THINK_LEVELS
        case ["/set", "markdown"]:
            found = ("on", "off")
        case ["/show"]:
            found = PARTS
        case ["/?" | "/help"]:
            found = [topic for topic in HELP if topic]
        case ["/load" | "/save" | "/list" | "/retry" | "/compare"]:
            found = models()
        case ["/resume"]:
            found = chats()
        case ["/file"]:
            found = files(typed)
        case _:
            found = ()
    return [word for word in found if word.startswith(typed)]
