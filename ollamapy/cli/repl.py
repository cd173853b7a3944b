"""The chat in the terminal: read a line, follow it, repeat until the user leaves.

`Repl` owns the conversation (a `session.Session`, replaced at every step) and is the only part here that talks to the server
and prints. What lines mean is decided in `slash`, what is asked in `session`, how lines are edited in `line`.

Nothing but leaving ends it. An error is one line, and the conversation stays as it was before the question, or with the
part of the answer that had come. When the daemon is gone it is started again, where `run` would have started it. Ctrl-C
while an answer comes stops it: its part is kept in the conversation, and marked "[stopped]" on the screen; a question that
was stopped before the first word is taken back.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InvalidName, OllamapyError
from ..human import one_line
from ..names import Name
from . import clipboard, completion, faults, media, slash, terminal, views
from .ask import Look
from .client import AnsweredError, Client, Stream, Unreachable
from .drawing import Card, complain, shown
from .form import read_form
from .launch import Launcher
from .repeats import Repeats
from .screen import Screen, open_screen
from .session import SHOWN, Ending, Post, Session
from .thoughts import Thoughts

if TYPE_CHECKING:
    from .line import Line

T = TypeVar("T")

_STATUS_COLUMNS = 60
"""The narrowest terminal in which the model and the context stand beside the prompt."""


@dataclass(slots=True)
class _Answer:
    """What has come of an answer: its text and its thinking in pieces, and the last chunk. ``repeats``: it was ended, because
    it only repeats itself."""

    pieces: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    final: Mapping[str, Any] = field(default_factory=dict)
    repeats: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Repl:
    """A chat with one model at a time.

    ``keep_alive``, ``format``, ``think``, ``parameters`` and ``system`` are the session's at its beginning; ``verbose`` shows
    figures after answers; ``look`` is how these are shown.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        verbose: bool,
        look: Look,
        parameters: Mapping[str, Any] | None = None,
        system: str = "",
        keep_alive: str | None = None,
        format: Any = None,
        think: bool | str | None = None,
    ) -> None:
        self._launcher = launcher
        self._keep_alive = keep_alive
        self._format, self._think = format, think
        self._options, self._system = parameters or {}, system
        self._verbose = verbose
        self._look = look
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
                system=self._system,
                parameters=self._options,
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
            self._screen(session)  # its imports, for the same reason
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
            and not self._session.is_base
            and media.begins_with_file(text)
        ):
            command = slash.Say(text)
        try:
            with self._interrupts.enabled():
                return self._do(command)
        except KeyboardInterrupt:
            print()
        except OllamapyError as error:
            complain(str(error))
        except Exception as error:  # a bug of ours must not cost the user the conversation
            complain(faults.recorded(error, self._launcher.settings.paths.state))
        return True

    def _do(self, command: slash.Command) -> bool:
        """Follow a line; False to leave."""
        match command:
            case slash.Say(text):
                if text or self._session.is_base:
                    self._answer(text)
            case slash.SetParameter(name, value, words):
                parameters = {**self._session.parameters, name: value}
                self._session = replace(self._session, parameters=parameters)
                print(f"Set parameter '{name}' to '{words}'")
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
                print(shown(views.stored(models, time.time())), end="")
            case slash.Copy():
                self._copy()
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
        screen, answer = self._screen(session), _Answer()
        ending: Ending = ""
        failure: OllamapyError | None = None
        try:
            self._stream(session, screen, answer)
        except KeyboardInterrupt:
            ending = "stopped"
        except OllamapyError as error:
            ending, failure = "broken off", error
        if answer.repeats or answer.final.get("done_reason") == "length":
            ending = "cut off"
        if answer.pieces or answer.final.get("done"):
            self._session = session.with_answer(answer.text, ending, "".join(answer.thought))
            self._used = None
        if answer.pieces or not failure:
            _end(screen, ending, bool(answer.pieces))
        if failure:
            raise failure
        if answer.repeats:
            terminal.remark(views.repeating("/set parameter num_predict -1"))
        if answer.final.get("done"):
            _tell(answer.final)
            self._account(answer.final)

    def _stream(self, session: Session, screen: Screen, answer: _Answer) -> None:
        """Print an answer as it comes, and collect it; one without a bound ends where it only repeats itself."""
        request, thoughts = session.request(), Thoughts(self._look.hides_thinking)
        bounded, repeats = "num_predict" not in session.parameters, Repeats()
        with (
            closing(self._chunks(request)) as chunks,
            terminal.Spinner(f"waiting for {session.model}") as spinner,
        ):
            for chunk in chunks:
                answer.final = chunk
                answer.thought.append(request.thinking(chunk))
                for text, is_thought in thoughts.pieces(answer.thought[-1], request.text(chunk)):
                    spinner.stop()
                    repeats.feed(text)
                    if is_thought:
                        screen.remark(text)
                    else:
                        # A base model's text may begin with white space
                        screen.put(text if answer.pieces or not session.is_base else text.lstrip())
                        answer.pieces.append(text)
                if bounded and repeats.found:
                    answer.repeats = True
                    return

    def _with_message(self, line: str) -> Session:
        """The conversation with a line; files that it names are attached if the model takes images or audio."""
        if self._session.is_base or not media.names_files(line):
            return self._session.with_message(line)
        media.check(self._session.show, self._session.model, line)
        text, files, notes = media.attach(line)
        for note in notes:
            terminal.remark(note)
        return self._session.with_message(text, files)

    def _chunks(self, request: Post) -> Generator[dict[str, Any]]:
        """The answer. A daemon that is being restarted refuses new questions: they wait for the next one."""
        begun = False
        try:
            with closing(self._open(request)) as stream:
                for chunk in stream:
                    begun = True
                    yield chunk
            return
        except AnsweredError as error:
            if begun or error.status != 503 or not self._launcher.awaits_restart():
                raise
        with closing(self._open(request)) as stream:
            yield from stream

    def _open(self, request: Post) -> Stream:
        return self._ask(
            lambda client: (client.chat if request.chat else client.generate)(request.body)
        )

    def _ask(self, question: Callable[[Client], T]) -> T:
        """Ask the server; when nothing listens there any more, wait for a restart, else start the daemon again, and ask that."""
        try:
            return question(self._client)
        except Unreachable as error:
            if not error.refused:
                raise
            restarted, given = (
                self._launcher.awaits_restart(),
                self._launcher.settings.address_given,
            )
            if given and not restarted:
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
        self._session, self._used, self._context = session, 0, 0
        self._look_up_context()
        for message in session.show.get("messages") or ():
            content = terminal.printable(str(message.get("content") or ""))
            if message.get("role") == "user":
                print(slash.PROMPT + content.replace("\n", f"\n{slash.MORE}"))
            elif message.get("role") == "assistant":
                screen = self._screen(session)
                screen.put(content)
                _end(screen, "", True)
        if session.is_base:
            note = self._screen(session)
            note.remark(
                f"{session.model} has no chat template: it continues text. "
                "Write how it begins, or press Enter for a story."
            )
            _end(note, "", True)

    def _screen(self, session: Session) -> Screen:
        """Where an answer is shown: a base model writes text, and a format is JSON, both no markdown."""
        draws = self._look.draws and not session.is_base and session.format is None
        return open_screen(draws=draws, wraps=self._look.wraps)

    def _copy(self) -> None:
        """The last answer, as the model wrote it, into the clipboard."""
        answers = [each.content for each in self._session.messages if each.role == "assistant"]
        if not answers:
            print("There is no answer to copy yet.")
            return
        where = clipboard.copy(answers[-1].strip())
        print(f"Copied {len(answers[-1].strip())} characters to {where}.")

    def _installed(self) -> str:
        names = [str(model.get("name")) for model in self._ask(Client.tags)]
        return one_line(f"Installed: {', '.join(names)}") if names else "No model is installed."

    def _show(self, part: slash.Part) -> None:
        """Print a part of the model's details, and of the session's."""
        if part == "info":
            print(shown(self._card()), end="", file=sys.stderr)
        elif part == "parameters":
            print(self._parameters())
        else:
            text = str(self._session.show.get(part) or "")
            if part == "system":
                text = self._session.system or text
            print(terminal.printable(text) or _NOTHING[part])

    def _card(self) -> Card:
        """The model's sections, and the session: its model, its context, and every setting that is its own."""
        session = self._session
        facts = {
            "model": session.model,
            "context": str(self._context or "unknown"),
            "context used": "unknown" if self._used is None else str(self._used),
            "messages": str(len(session.messages)),
            **{name: slash.print_value(value) for name, value in session.parameters.items()},
            "system": session.system,
            "format": "" if session.format is None else json.dumps(session.format),
            "think": "" if session.think is None else views.plain(session.think),
            "keep alive": session.keep_alive or "",
            "markdown": "on" if self._look.draws else "off",
            "word wrap": "on" if self._look.wraps else "off",
            "history": "on" if self._line.keeps_history else "off",
            "verbose": "on" if self._verbose else "off",
        }
        rows = [("", name, value) for name, value in facts.items() if value]
        return Card([*views.card(session.show).sections, ("Session", rows)])

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
        elif switch == "markdown":
            self._look = replace(self._look, draws=on)
        else:
            self._look = replace(self._look, wraps=on)
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


def _end(screen: Screen, ending: Ending, begun: bool) -> None:
    """End a text, with the ending behind it if it is a part, and an empty line."""
    screen.end()
    if ending in SHOWN:
        screen.remark(f"{' ' if begun else ''}[{ending}]")
    sys.stdout.write("\n\n")
    sys.stdout.flush()
