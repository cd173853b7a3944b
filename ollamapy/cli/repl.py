"""The chat in the terminal: read a line, follow it, repeat until the user leaves.

`Repl` owns the conversation (a `session.Session`, replaced at every step) and is the only part here that talks to the server
and prints. What lines mean is decided in `slash`, what is asked in `session`, how lines are edited in `line`.

Nothing but leaving ends it. An error is one line, and the conversation stays as it was before the question, or with the
part of the answer that had come. When the daemon is gone it is started again, where `run` would have started it. Ctrl-C
while an answer comes stops it: its part is kept in the conversation, and marked "[stopped]" on the screen; a question that
was stopped before the first word is taken back.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InvalidName, OllamapyError
from ..human import one_line
from ..names import Name
from . import completion, faults, media, slash, terminal, views
from .client import AnsweredError, Client, Stream, Unreachable
from .form import read_form
from .launch import Launcher
from .session import SHOWN, Ending, Post, Session
from .thoughts import Thoughts

if TYPE_CHECKING:
    from .line import Line

T = TypeVar("T")

_STATUS_COLUMNS = 60
"""The narrowest terminal in which the model and the context stand beside the prompt."""


class Repl:
    """A chat with one model at a time.

    ``keep_alive``, ``format`` and ``think`` are sent with every request; ``verbose`` shows figures after answers; ``wraps``
    breaks lines at words; ``hides_thinking`` shows answers only.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        verbose: bool,
        wraps: bool,
        hides_thinking: bool = False,
        keep_alive: str | None = None,
        format: Any = None,
        think: bool | str | None = None,
    ) -> None:
        self._launcher = launcher
        self._keep_alive = keep_alive
        self._format, self._think = format, think
        self._hides_thinking = hides_thinking
        self._verbose = verbose
        self._wraps = wraps
        self._used: int | None = 0  # tokens of the conversation; None after a part of an answer
        self._context = 0  # tokens that the loaded model has room for; 0 = not known
        self._interrupts = terminal.Interrupts()
        self._client: Client
        self._line: Line
        self._session: Session

    def run(self, model: str) -> None:
        """Load a model and talk with it until the user leaves.

        Raises what loading raises: AnsweredError, Unreachable. Later errors are shown.
        """
        # Keys wait for the line that reads them; a terminal without a cursor edits lines by itself
        quiet = terminal.quiet_keys() if terminal.has_cursor(sys.stdout) else nullcontext()
        with quiet:
            self._client = self._launcher.connect(preload=model)
            session = Session(
                model,
                self._client.show(model),
                keep_alive=self._keep_alive,
                format=self._format,
                think=self._think,
            )
            loading = self._client.generate(session.loading().body)
            # While the model loads, for it takes 100 ms
            from .line import open_line

            settings = self._launcher.settings
            self._line = open_line(
                settings.paths,
                settings.editor,
                settings.keeps_history,
                lambda: completion.stored_names(self._launcher),
                self._interrupts,
            )
            with closing(loading), terminal.Spinner(f"loading {model}"):
                loaded = _last(loading)
            with self._interrupts:
                _tell(loaded)
                self._begin(session)
                while self._step():
                    pass

    def _step(self) -> bool:
        """Read one line and follow it; whether to go on."""
        try:
            text = self._line.read(self._placeholder(), self._status())
        except EOFError:
            return False
        except KeyboardInterrupt:
            print("Use Ctrl + d or /bye to exit.")
            return True
        command = slash.parse(text)
        if (
            isinstance(command, slash.Wrong)
            and media.perceives(self._session.show)
            and media.begins_with_file(text)
        ):
            command = slash.Say(text)
        try:
            with self._interrupts.enabled():
                return self._do(command)
        except KeyboardInterrupt:
            print()
        except OllamapyError as error:
            _complain(str(error))
        except Exception as error:  # a bug of ours must not cost the user the conversation
            _complain(faults.recorded(error, self._launcher.settings.paths.state))
        return True

    def _do(self, command: slash.Command) -> bool:
        """Follow a line; False to leave."""
        match command:
            case slash.Say(text):
                if text or self._session.is_base:
                    self._answer(text)
            case slash.SetParameter(name, value, shown):
                parameters = {**self._session.parameters, name: value}
                self._session = replace(self._session, parameters=parameters)
                print(f"Set parameter '{name}' to '{shown}'")
            case slash.SetSystem(text):
                self._session = replace(self._session, system=text)
                print("Set system message." if text else "Removed the system message.")
            case slash.SetFormat(text):
                self._session = replace(self._session, format=read_form(text) if text else None)
                of = "json" if text == "json" else "schema"
                print(f"Set format to '{of}' mode." if text else "Disabled format.")
            case slash.SetThink(on, level):
                self._set_think(on, level)
            case slash.SetSwitch(switch, on, word):
                self._switch(switch, on, word)
            case slash.Show(part):
                self._show(part)
            case slash.Load(model):
                self._load(model)
            case slash.Save(model):
                self._save(model)
            case slash.ListModels(prefix):
                models = views.with_prefix(self._ask(Client.tags), prefix)
                print(_fitted(views.stored(models, time.time())), end="")
            case slash.Clear():
                self._session, self._used = replace(self._session, messages=()), 0
                print("Cleared session context")
            case slash.Help(topic):
                print(slash.HELP[topic], file=sys.stderr)
            case slash.Wrong(message, names):
                print(terminal.printable(message))
                if names:
                    print(self._installed())
            case slash.Leave():
                return False
        return True

    # ---- the conversation

    def _answer(self, line: str) -> None:
        """Send a message, and print the answer as it comes; both join the conversation."""
        session = self._with_message(line)
        request = session.request()
        screen, thoughts = _Screen(self._wraps), Thoughts(self._hides_thinking)
        pieces, thought = list[str](), list[str]()
        ending: Ending = ""
        failure: OllamapyError | None = None
        final: Mapping[str, Any] = {}
        try:
            with (
                closing(self._open(request)) as stream,
                terminal.Spinner(f"waiting for {session.model}") as spinner,
            ):
                for final in stream:
                    thought.append(request.thinking(final))
                    for text, is_thought in thoughts.pieces(thought[-1], request.text(final)):
                        spinner.stop()
                        if not is_thought:
                            pieces.append(text)
                        screen.put(
                            text, opens=not session.is_base, style=_dim if is_thought else str
                        )
        except KeyboardInterrupt:
            ending = "stopped"
        except OllamapyError as error:
            ending, failure = "broken off", error
        if final.get("done_reason") == "length":
            ending = "cut off"
        if pieces or final.get("done"):
            self._session = session.with_answer("".join(pieces), ending, "".join(thought))
            self._used = None
        if pieces or not failure:
            screen.end(ending)
        if failure:
            raise failure
        if final.get("done"):
            _tell(final)
            self._account(final)

    def _with_message(self, line: str) -> Session:
        """The conversation with a line; files that it names are attached if the model takes images or audio."""
        if self._session.is_base or not media.perceives(self._session.show):
            return self._session.with_message(line)
        text, files, notes = media.attach(line)
        for note in notes:
            terminal.remark(note)
        return self._session.with_message(text, files)

    def _open(self, request: Post) -> Stream:
        return self._ask(
            lambda client: (client.chat if request.chat else client.generate)(request.body)
        )

    def _ask(self, question: Callable[[Client], T]) -> T:
        """Ask the server; when nothing listens there any more, start the daemon again and ask that."""
        try:
            return question(self._client)
        except Unreachable as error:
            if self._launcher.settings.address_given or not error.refused:
                raise
        self._client = self._launcher.connect(preload=self._session.model)
        return question(self._client)

    def _account(self, final: Mapping[str, Any]) -> None:
        """Record the tokens of an answer."""
        self._used = (final.get("prompt_eval_count") or 0) + (final.get("eval_count") or 0)
        self._look_up_context()
        if self._verbose:
            print(views.statistics(final), file=sys.stderr)

    def _look_up_context(self) -> None:
        """The room that the conversation has: what is loaded, or what of it a parameter asks for."""
        try:
            name = Name.parse(self._session.model).display
            loaded = {str(model.get("name")): model for model in self._client.ps(timeout=1.0)}
        except OllamapyError:
            return
        room = int(loaded.get(name, {}).get("context_length") or 0)
        self._context = min(room, self._session.wanted_context or room)

    # ---- the model

    def _load(self, model: str) -> None:
        """Begin anew with another model, which is got first if it is not here. The settings stay, as far as it knows them; whatever fails, so does the session."""
        print(f"Loading model '{one_line(model)}'")
        try:
            show = self._ask(lambda client: client.show(model))
        except AnsweredError as error:
            from . import transfer

            try:
                model = transfer.pull_absent(self._client, self._launcher.settings, model, error)
            except AnsweredError as refused:
                if refused.status != 404:
                    raise
                print(f"Couldn't find model '{model}': {one_line(str(refused))}")
                print(self._installed())
                return
            show = self._ask(lambda client: client.show(model))
        now = self._session
        session = Session(
            model,
            show,
            parameters=now.parameters,
            keep_alive=now.keep_alive,
            format=now.format,
            think=now.think if _thinks(show) else None,
        )
        with (
            closing(self._open(session.loading())) as loading,
            terminal.Spinner(f"loading {model}"),
        ):
            loaded = _last(loading)
        _tell(loaded)
        self._begin(session)

    def _save(self, model: str) -> None:
        """Make a model of this one with the session's settings and conversation."""
        try:
            Name.parse(model)
        except InvalidName:
            print(f"error: The model name '{one_line(model)}' is invalid")
            return
        with closing(self._ask(lambda client: client.create(self._session.saved(model)))) as steps:
            for _ in steps:
                pass
        print(f"Created new model '{model}'")

    def _begin(self, session: Session) -> None:
        """Take a loaded model's session; show what its conversations begin with, and that it is a base model."""
        self._session, self._used = session, 0
        self._look_up_context()
        for message in session.show.get("messages") or ():
            content = terminal.printable(str(message.get("content") or ""))
            if message.get("role") == "user":
                print(slash.PROMPT + content.replace("\n", f"\n{slash.MORE}"))
            elif message.get("role") == "assistant":
                screen = _Screen(self._wraps)
                screen.put(content)
                screen.end("")
        if session.is_base:
            note = _Screen(self._wraps)
            note.put(
                f"{session.model} has no chat template: it continues text. "
                "Write how it begins, or press Enter for a story.",
                style=_dim,
            )
            note.end("")

    def _installed(self) -> str:
        names = [str(model.get("name")) for model in self._ask(Client.tags)]
        return one_line(f"Installed: {', '.join(names)}") if names else "No model is installed."

    def _show(self, part: slash.Part) -> None:
        """Print a part of the model's details, and of the session's."""
        if part == "info":
            print(self._card(), end="", file=sys.stderr)
        elif part == "parameters":
            print(self._parameters())
        else:
            text = str(self._session.show.get(part) or "")
            if part == "system":
                text = self._session.system or text
            print(terminal.printable(text) or _NOTHING[part])

    def _card(self) -> str:
        rows = [
            ("", "model", self._session.model),
            ("", "context", str(self._context or "unknown")),
        ]
        rows.append(("", "context used", str(self._used)))
        session = f"  Session\n{terminal.table((), rows)}\n"
        return terminal.printable(views.card(self._session.show)) + session

    def _parameters(self) -> str:
        own = str(self._session.show.get("parameters") or "")
        lines = own.splitlines() or ["No additional parameters were specified for this model."]
        text = "".join(f"  {line}\n" for line in lines)
        text = f"Model defined parameters:\n{text}"
        if self._session.parameters:
            text += "\nUser defined parameters:\n"
        for name, value in self._session.parameters.items():
            text += f"  {name:<30} {slash.print_value(value)}\n"
        return terminal.printable(text)

    def _set_think(self, on: bool, level: str) -> None:
        if not _thinks(self._session.show):
            print(
                f'warning: model "{self._session.model}" does not support thinking output',
                file=sys.stderr,
            )
        self._session = replace(self._session, think=level or on)
        mode = "think" if on else "nothink"
        print(f"Set '{mode}' mode to '{level}'." if level else f"Set '{mode}' mode.")

    def _switch(self, switch: slash.Switch, on: bool, word: str) -> None:
        if switch == "history":
            self._line.keeps_history = on
            return
        if switch == "verbose":
            self._verbose = on
        else:
            self._wraps = on
        print(f"Set '{word}' mode.")

    # ---- beside the prompt

    def _placeholder(self) -> str:
        if not self._session.is_base:
            return "Send a message (/? for help)"
        return f"Enter {'goes on' if self._session.is_open else 'for a story'} (/? for help)"

    def _status(self) -> str:
        """The model and how full its context is."""
        if terminal.columns() < _STATUS_COLUMNS or not self._context:
            return ""
        used = "?" if self._used is None else self._used
        return f"{self._session.model} {used}/{self._context}"


_NOTHING: Mapping[slash.Part, str] = {
    "license": "No license was specified for this model.",
    "modelfile": "No modelfile was specified for this model.",
    "system": "No system message was specified for this model.",
    "template": "No prompt template was specified for this model.",
}


def _last(stream: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    chunks = list(stream)
    return chunks[-1] if chunks else {}


def _tell(final: Mapping[str, Any]) -> None:
    """Print what an answer reports of the context on stderr."""
    for note in views.notes(final):
        terminal.remark(note)


def _thinks(show: Mapping[str, Any]) -> bool:
    return "thinking" in (show.get("capabilities") or ())


class _Screen:
    """A text on stdout that comes in pieces, wrapped if it may be; then an empty line."""

    def __init__(self, wraps: bool) -> None:
        wrapping = wraps and terminal.has_cursor(sys.stdout)
        self._wrap = terminal.Wrap(terminal.columns).feed if wrapping else str
        self._begun = False

    def put(self, text: str, *, opens: bool = True, style: Callable[[str], str] = str) -> None:
        """Print a piece; ``opens`` False leaves out the white space that the whole text begins with."""
        text = terminal.printable(text)
        text = text if opens or self._begun else text.lstrip()
        self._begun = self._begun or bool(text)
        sys.stdout.write(style(self._wrap(text)))
        sys.stdout.flush()

    def end(self, ending: Ending) -> None:
        """End the text, with the ending behind it if it is a part."""
        if ending in SHOWN:
            self.put(f"{' ' if self._begun else ''}[{ending}]", style=_dim)
        sys.stdout.write("\n\n")
        sys.stdout.flush()


def _fitted(table: str) -> str:
    """A table without the padding after its last column, which a narrow terminal would show as empty lines."""
    return "".join(f"{line.rstrip()}\n" for line in table.splitlines())


def _dim(text: str) -> str:
    return terminal.dim(text) if terminal.has_colour(sys.stdout) else text


def _complain(message: str) -> None:
    terminal.remark(f"Error: {' '.join(message.split())}")
