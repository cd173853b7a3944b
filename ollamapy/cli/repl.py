"""The chat in the terminal: read a line, follow it, repeat until the user leaves.

`Repl` follows the lines, and owns how things are shown. What lines mean is decided in `slash`, how they are edited in `line`; the
conversation is `talk.Talk`'s, and what is asked `session`'s.

Nothing but leaving ends it. An error is one line, and the conversation goes on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import InvalidName, InvalidRequest, OllamapyError
from ..human import format_bytes, one_line
from ..names import Name
from . import chatviews, clipboard, completion, faults, media, slash, terminal, tree, views, waiting
from .ask import Look
from .chats import LATEST, Chats
from .client import AnsweredError, Client
from .drawing import Card, complain, shown
from .form import read_form
from .help import HELP
from .launch import Launcher
from .session import Session
from .talk import Talk, report_context, thinks
from .thread import continued

if TYPE_CHECKING:
    from .line import Line

_STATUS_COLUMNS = 60
"""The narrowest terminal in which the model and the context stand beside the prompt."""

_LISTED = 20
"""Chats that `/chats` lists."""


class Repl:
    """A chat with one model at a time.

    ``keep_alive``, ``format``, ``think``, ``parameters`` and ``system`` are the session's at its beginning; ``verbose`` shows
    figures after answers; ``look`` is how these are shown. ``resumes`` is the id of a chat to go on with; ``temporary``: the
    chats that begin here are not written.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        verbose: bool,
        look: Look,
        parameters: Mapping[str, Any] | None = None,
        resumes: str = "",
        temporary: bool = False,
        **settings: Any,
    ) -> None:
        self._launcher = launcher
        self._settings = {**settings, "parameters": parameters or {}}
        self._verbose, self._look = verbose, look
        self._resumes = resumes
        self._temporary = temporary
        self._interrupts = terminal.Interrupts()
        self._line: Line
        self._talk: Talk

    def run(self, model: str) -> None:
        """Load a model and talk with it until the user leaves.

        Raises what loading raises: AnsweredError, Unreachable. Later errors are shown.
        """
        # Keys wait for the line that reads them; a terminal without a cursor edits lines by itself
        quiet = terminal.quiet_keys() if terminal.has_cursor(sys.stdout) else nullcontext()
        with quiet:
            client = self._launcher.connect(preload=model)
            session = self._first(client, model)
            loading = client.generate(waiting.asking(session.loading().body))
            # While the model loads, for it takes 100 ms
            from .line import open_line

            settings = self._launcher.settings
            self._line = open_line(
                settings.paths,
                settings.editor,
                settings.keeps_history,
                lambda: completion.stored_names(self._launcher),
                self._interrupts,
                lambda: [id for id, _ in completion.chat_ids(self._launcher)],
            )
            self._talk.screen(session)  # its imports, for the same reason
            loaded = waiting.loaded(loading, model)
            with self._interrupts:
                report_context(loaded)
                self._begin(session)
                while self._step():
                    pass
                self._talk.leave()

    def _first(self, client: Client, model: str) -> Session:
        """The session with which the REPL begins, and the talk that it is part of."""
        session = Session(model, client.show(model), **self._settings)
        self._talk = Talk(
            self._launcher,
            client,
            session,
            self._look,
            verbose=self._verbose,
            is_kept=_keeps_chats(client),
            temporary=self._temporary or not self._launcher.settings.keeps_history,
        )
        if not self._resumes:
            return session
        self._talk.check_kept()
        return continued(session, self._talk.thread.enter(self._resumes))

    def _begin(self, session: Session) -> None:
        """Take the first session, of a resumed chat or a new one."""
        if not self._resumes:
            return self._talk.begin(session)
        try:
            with self._interrupts.enabled():
                self._talk.enter(session)
        except KeyboardInterrupt:
            print()
        except OllamapyError as error:
            complain(str(error))

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
            and not self._talk.session.is_base
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
        if isinstance(command, slash.Setting):
            self._set(command)
            return True
        if isinstance(command, slash.OfAnswers):
            self._follow_of_answers(command)
            return True
        if isinstance(command, slash.OfChats):
            self._talk.check_kept()
            self._follow_of_chats(command)
            return True
        match command:
            case slash.Say(text):
                if text or self._talk.session.is_base or self._talk.thread.files:
                    self._talk.say(text)
            case slash.Show(part):
                self._show(part)
            case slash.Load(model):
                self._load(model)
            case slash.Save(model):
                self._save(model)
            case slash.ListModels(prefix):
                models = views.with_prefix(self._talk.ask(Client.tags), prefix)
                print(shown(views.stored(models, time.time())), end="")
            case slash.Clear():
                self._talk.clear()
                print("Cleared session context")
            case slash.Help(topic):
                print(HELP[topic], file=sys.stderr)
            case slash.Wrong(message, names):
                print(terminal.printable(message))
                if names:
                    print(self._installed())
            case slash.Leave():
                return False
        return True

    def _set(self, command: slash.Setting) -> None:
        """Change a setting of the session, or of how it is shown."""
        session = self._talk.session
        match command:
            case slash.SetParameter(name, value, words):
                parameters = {**session.parameters, name: value}
                self._talk.session = replace(session, parameters=parameters)
                print(f"Set parameter '{name}' to '{words}'")
            case slash.SetSystem(text):
                self._talk.session = replace(session, system=text)
                print("Set system message." if text else "Removed the system message.")
            case slash.SetFormat(text):
                self._talk.session = replace(session, format=read_form(text) if text else None)
                of = "json" if text == "json" else "schema"
                print(f"Set format to '{of}' mode." if text else "Disabled format.")
            case slash.SetThink(on, level):
                self._set_think(on, level)
            case slash.SetSwitch(switch, on, word):
                self._switch(switch, on, word)

    # ---- the last messages, and the next one

    def _follow_of_answers(self, command: slash.OfAnswers) -> None:
        """Follow a command about the last messages or the next one."""
        match command:
            case slash.Copy():
                self._copy()
            case slash.Retry(model):
                self._retry(model)
            case slash.Edit(text):
                self._edit(text)
            case slash.Undo():
                self._undo()
            case slash.GoOn():
                self._go_on()
            case slash.Attach(path):
                self._attach(path)
            case slash.Compare(model, text):
                self._compare(model, text)

    def _retry(self, model: str) -> None:
        """Answer the last message again."""
        self._talk.follow()
        session = self._talk.session.at_question()
        if not session.messages:
            print("There is no message to answer yet.")
            return
        other = self._with_model(session, model) if model else None
        self._talk.answer(session, other)

    def _with_model(self, session: Session, model: str) -> Session:
        """The session with another model. Raises OllamapyError for one that has no chats."""
        other = replace(
            session, model=model, show=self._talk.ask(lambda client: client.show(model))
        )
        if other.is_base != session.is_base:
            raise InvalidRequest(f"one of {session.model} and {model} has no chat template")
        return other

    def _edit(self, text: str) -> None:
        """Replace the last message."""
        self._talk.follow()
        session = self._talk.session.at_question()
        if not session.messages:
            print("There is no message to edit yet.")
            return
        *before, asked = session.messages
        try:
            text = text or self._line.read("", "", asked.content)
        except EOFError:
            return
        if text.strip():
            edited = replace(asked, content=text, id="")
            self._talk.answer(replace(session, messages=(*before, edited)))

    def _undo(self) -> None:
        """Go back to before the last message."""
        if (taken := self._talk.undo()) is None:
            print("There is no message to take back.")
            return
        room = max(terminal.columns() - 14, 10)
        print(f"Took back: {chatviews.cut(chatviews.flat(taken.content), room)}")

    def _go_on(self) -> None:
        """Continue an incomplete answer."""
        self._talk.follow()
        if self._talk.session.is_open:
            self._talk.answer(self._talk.session)
        else:
            print("There is nothing to go on with: the last answer is whole.")

    def _attach(self, written: str) -> None:
        """Attach a file to the next message, or list those that are."""
        self._talk.check_kept()
        thread = self._talk.thread
        if not written:
            names = ", ".join(str(part.get("name")) for part in thread.files)
            print(f"Attached: {one_line(names)}" if names else "No file is attached.")
            return
        path = media.named_file(written)
        if path is None:
            raise InvalidRequest(f"there is no file '{written}'")
        if media.is_seen(path) and not media.perceives(self._talk.session.show):
            media.check(self._talk.session.show, self._talk.session.model, f"'{path.absolute()}'")
        found = thread.attach(path)
        size = format_bytes(int(found.get("size") or 0))
        print(f"Attached '{one_line(path.name)}' ({size}) to the next message.")

    def _compare(self, model: str, text: str) -> None:
        """Another model's answer beside this one's, which does not join the conversation."""
        from . import compare

        self._talk.follow()
        session = self._talk.session
        session = session.with_message(text) if text else session.at_question()
        if not session.messages:
            print("There is no message to answer yet.")
            return
        other = self._with_model(session, model)
        compare.compare(self._talk.open, (session, other), self._talk.look)

    # ---- the chats that the daemon keeps

    def _follow_of_chats(self, command: slash.OfChats) -> None:
        """Follow a command about chats."""
        match command:
            case slash.ListChats(text):
                self._list_chats(text)
            case slash.Resume(id):
                self._resume(id or LATEST)
            case slash.Branch(number):
                self._branch(number)
            case slash.Title(""):
                title = chatviews.flat(self._talk.thread.title)
                print(title or "This chat has no title yet.")
            case slash.Title(text):
                self._talk.thread.rename(text)
                print(f"Set title to '{one_line(text)}'")

    def _list_chats(self, text: str) -> None:
        def first(client: Client) -> list[Mapping[str, Any]]:
            return list(islice(Chats(client).every(text), _LISTED))

        chats, columns, now = self._talk.ask(first), terminal.columns(), time.time()
        if not chats:
            print(f"No chat has {one_line(repr(text))}." if text else "No chat is kept yet.")
        elif text:
            mark = ("\x1b[1m", "\x1b[0m") if terminal.has_colour(sys.stdout) else ("", "")
            print("\n".join(chatviews.found(chats, now, columns, mark)))
        else:
            print(shown(chatviews.listing(chats, now, columns)), end="")

    def _resume(self, name: str) -> None:
        """Open another chat; if that fails, this one stays open."""
        talk, current = self._talk, self._talk.thread.id
        id = talk.ask(lambda client: Chats(client).find(name, besides=current))
        chat = talk.ask(lambda client: Chats(client).get(id))
        model = str(chat.get("model"))
        session = Session(model, talk.ask(lambda client: client.show(model)))
        session = continued(session, chat)
        report_context(waiting.loaded(talk.open(session.loading()), model))
        talk.clear()
        talk.thread.enter(id)
        print(chatviews.title(chat))
        talk.enter(session)

    def _branch(self, number: int) -> None:
        """List the branches of the chat, or switch to one."""
        self._talk.follow()
        thread, session = self._talk.thread, self._talk.session
        if not thread.id:
            print("This chat has no messages yet.")
            return
        chat = thread.read()
        current = session.messages[-1].id if session.messages else None
        leaves = tree.leaves(chat.get("messages") or ())
        if not number:
            lines = chatviews.branches(chat, current, time.time(), terminal.columns())
            print("\n".join(lines))
        elif number > len(leaves):
            print(f"There {'is 1 branch' if len(leaves) == 1 else f'are {len(leaves)} branches'}.")
        else:
            self._talk.switch(str(leaves[number - 1]["id"]))

    # ---- the model

    def _load(self, model: str) -> None:
        """Begin a new session with another model, which is pulled if it is not installed. The settings that it has stay;
        if this fails, so does the current session."""
        print(f"Loading model '{one_line(model)}'")
        try:
            show = self._talk.ask(lambda client: client.show(model))
        except AnsweredError as error:
            from . import transfer

            try:
                model = transfer.pull_absent(
                    self._talk.client, self._launcher.settings, model, error
                )
            except AnsweredError as refused:
                if refused.status != 404:
                    raise
                print(f"Couldn't find model '{model}': {one_line(str(refused))}")
                print(self._installed())
                return
            show = self._talk.ask(lambda client: client.show(model))
        now = self._talk.session
        session = Session(
            model,
            show,
            parameters=now.parameters,
            keep_alive=now.keep_alive,
            format=now.format,
            think=now.think if thinks(show) else None,
        )
        report_context(waiting.loaded(self._talk.open(session.loading()), model))
        self._talk.begin(session)

    def _save(self, model: str) -> None:
        """Make a model of this one with the session's settings and conversation."""
        try:
            Name.parse(model)
        except InvalidName:
            print(f"error: The model name '{one_line(model)}' is invalid")
            return
        with closing(
            self._talk.ask(lambda client: client.create(self._talk.session.saved(model)))
        ) as steps:
            for _ in steps:
                pass
        print(f"Created new model '{model}'")

    def _copy(self) -> None:
        """The last answer, as the model wrote it, into the clipboard."""
        answers = [each.content for each in self._talk.session.messages if each.role == "assistant"]
        if not answers:
            print("There is no answer to copy yet.")
            return
        where = clipboard.copy(answers[-1].strip())
        print(f"Copied {len(answers[-1].strip())} characters to {where}.")

    def _installed(self) -> str:
        names = [str(model.get("name")) for model in self._talk.ask(Client.tags)]
        return one_line(f"Installed: {', '.join(names)}") if names else "No model is installed."

    def _show(self, part: slash.Part) -> None:
        """Print a part of the model's details, and of the session's."""
        if part == "info":
            print(shown(self._card()), end="", file=sys.stderr)
        elif part == "parameters":
            print(self._parameters())
        else:
            text = str(self._talk.session.show.get(part) or "")
            if part == "system":
                text = self._talk.session.system or text
            print(terminal.printable(text) or _NOTHING[part])

    def _card(self) -> Card:
        """The model's sections, and the session: its model, its context, and every setting that is its own."""
        session = self._talk.session
        facts = {
            "model": session.model,
            "context": str(self._talk.context or "unknown"),
            "context used": "unknown" if self._talk.used is None else str(self._talk.used),
            "messages": str(len(session.messages)),
            "chat": self._talk.thread.id,
            "title": self._talk.thread.title,
            **{name: slash.print_value(value) for name, value in session.parameters.items()},
            "system": session.system,
            "format": "" if session.format is None else json.dumps(session.format),
            "think": "" if session.think is None else views.plain(session.think),
            "keep alive": session.keep_alive or "",
            "markdown": "on" if self._talk.look.draws else "off",
            "word wrap": "on" if self._talk.look.wraps else "off",
            "history": "on" if self._line.keeps_history else "off",
            "verbose": "on" if self._talk.verbose else "off",
        }
        rows = [("", name, value) for name, value in facts.items() if value]
        return Card([*views.card(session.show).sections, ("Session", rows)])

    def _parameters(self) -> str:
        own = str(self._talk.session.show.get("parameters") or "")
        lines = own.splitlines() or ["No additional parameters were specified for this model."]
        text = "".join(f"  {line}\n" for line in lines)
        text = f"Model defined parameters:\n{text}"
        if self._talk.session.parameters:
            text += "\nUser defined parameters:\n"
        for name, value in self._talk.session.parameters.items():
            text += f"  {name:<30} {slash.print_value(value)}\n"
        return terminal.printable(text)

    def _set_think(self, on: bool, level: str) -> None:
        if not thinks(self._talk.session.show):
            print(
                f'warning: model "{self._talk.session.model}" does not support thinking output',
                file=sys.stderr,
            )
        self._talk.session = replace(self._talk.session, think=level or on)
        mode = "think" if on else "nothink"
        print(f"Set '{mode}' mode to '{level}'." if level else f"Set '{mode}' mode.")

    def _switch(self, switch: slash.Switch, on: bool, word: str) -> None:
        if switch == "history":
            self._line.keeps_history = on
            if not on and self._talk.thread.id and not self._talk.thread.temporary:
                terminal.remark("Note: this chat is kept, /clear begins one that is not")
            self._talk.thread.set_temporary(self._temporary or not on)
            return
        if switch == "verbose":
            self._talk.verbose = on
        elif switch == "markdown":
            self._talk.look = replace(self._talk.look, draws=on)
        else:
            self._talk.look = replace(self._talk.look, wraps=on)
        print(f"Set '{word}' mode.")

    # ---- beside the prompt

    def _placeholder(self) -> str:
        if not self._talk.session.is_base:
            return "Send a message (/? for help)"
        return f"Enter {'goes on' if self._talk.session.is_open else 'for a story'} (/? for help)"

    def _status(self) -> str:
        """The model and how full its context is."""
        if terminal.columns() < _STATUS_COLUMNS or not self._talk.context:
            return ""
        used = "?" if self._talk.used is None else self._talk.used
        return f"{self._talk.session.model} {used}/{self._talk.context}"


_NOTHING: Mapping[slash.Part, str] = {
    "license": "No license was specified for this model.",
    "modelfile": "No modelfile was specified for this model.",
    "system": "No system message was specified for this model.",
    "template": "No prompt template was specified for this model.",
}


def _keeps_chats(client: Client) -> bool:
    """Whether the server keeps chats; one that cannot says why."""
    chats = Chats(client)
    try:
        is_kept = chats.are_kept()
        if chats.notice:
            terminal.remark(f"Note: {chats.notice}")
        return is_kept
    except AnsweredError as error:
        terminal.remark(f"Warning: this chat will not be kept: {error}")
        return False
