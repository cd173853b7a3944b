"""The REPL's input: one message or command at a time, read from the terminal.

`EditedLine` is prompt_toolkit: history, search, several lines, completion, an editor. `PlainLine` is for terminals that know
no cursor (TERM=dumb): the lines as the terminal itself edits them. Both raise EOFError when the user leaves and
KeyboardInterrupt at Ctrl-C on an empty line. What a line means is for `slash` to know.

This module costs 100 ms to import, so only the REPL does, while its model loads.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app, run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout.processors import TabsProcessor
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.shortcuts import CompleteStyle

from ..config import Paths, environment
from ..files import replace_file
from . import slash, terminal
from .help import MORE, PROMPT

HISTORY_LIMIT = 1000
"""Inputs that are kept; Ollama keeps 100."""

HISTORY_SIZE = 1_000_000
"""Characters that they may have together: the file is read and written at every input, and a pasted book is one."""


_MOST_PATHS = 200
"""Paths that completion offers."""


class Line(Protocol):
    """Where the user's input comes from."""

    keeps_history: bool

    def read(self, placeholder: str, status: str, begun: str = "") -> str:
        """The next input. ``placeholder`` and ``status`` are shown on an empty line, where there is room; ``begun`` is there to be
        edited, if the terminal can."""


def open_line(
    paths: Paths,
    editor: str,
    keeps_history: bool,
    models: Callable[[], Sequence[str]],
    interrupts: terminal.Interrupts,
    chats: Callable[[], Sequence[str]],
) -> Line:
    """The input that this terminal is capable of; ``models`` and ``chats`` give the names and ids for completion."""
    if not terminal.has_cursor(sys.stdout):
        return PlainLine(interrupts)
    history = StoredHistory(paths.history, keeps_history)
    return EditedLine(history, editor, _Completer(models, chats), interrupts)


class PlainLine:
    """Lines as the terminal edits them; no history."""

    keeps_history = False

    def __init__(self, interrupts: terminal.Interrupts) -> None:
        self._interrupts = interrupts

    def read(self, placeholder: str, status: str, begun: str = "") -> str:
        """The next input; the arguments are left out."""
        try:
            with self._interrupts.enabled():
                text = self._line(PROMPT)
                while slash.is_unfinished(text):
                    text += "\n" + self._line(MORE)
        except (EOFError, KeyboardInterrupt):
            print()
            raise
        return text

    def _line(self, prompt: str) -> str:
        sys.stdout.write(prompt)
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")


class StoredHistory(History):
    """Earlier inputs, in a file that all sessions share: a JSON string a line, the newest last.

    Each new one is added to what the file holds then, by a new file in its place. A file that cannot be read or written
    is no reason to stop: then the inputs are kept for this session alone.
    """

    def __init__(self, path: Path, enabled: bool) -> None:
        super().__init__()
        self._path = path
        self.enabled = enabled

    def load_history_strings(self) -> Iterable[str]:
        """The newest first, as prompt_toolkit asks for them."""
        return reversed(read_history(self._path)) if self.enabled else ()

    def append_string(self, string: str) -> None:
        """Keep an input, unless none are kept."""
        if self.enabled:
            super().append_string(string)

    def store_string(self, string: str) -> None:
        """Write it to the file."""
        try:
            write_history(self._path, [*read_history(self._path), string])
        except OSError:
            pass  # the disk is full, or not ours: the input is in memory


def read_history(path: Path) -> list[str]:
    """The inputs in a history file, the oldest first; lines that are none are left out."""
    inputs = []
    try:
        lines = path.read_text("utf-8", "replace").split("\n")
    except OSError:
        return []
    for line in lines:
        try:
            text = json.loads(line)
        except ValueError:
            continue
        if isinstance(text, str):
            inputs.append(text)
    return inputs


def write_history(path: Path, inputs: Sequence[str]) -> None:
    """Replace the file by one with the newest of these inputs, as many as fit, readable by this user alone. Raises OSError."""
    lines, size = list[str](), 0
    for text in reversed(inputs[-HISTORY_LIMIT:]):
        line = f"{json.dumps(text, ensure_ascii=False)}\n"
        if size + len(line) <= HISTORY_SIZE:
            size += len(line)
            lines.append(line)
    content = "".join(reversed(lines)).encode("utf-8", "replace")
    replace_file(path, content, mode=0o600)


class EditedLine:
    """Lines edited with prompt_toolkit, in the manner of readline."""

    def __init__(
        self,
        history: StoredHistory,
        editor: str,
        completer: Completer,
        interrupts: terminal.Interrupts,
    ) -> None:
        self._history = history
        self._interrupts = interrupts
        self._editor = editor
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=lambda width, line, wrapped: "" if wrapped else MORE,
            history=history,
            completer=completer,
            complete_style=CompleteStyle.READLINE_LIKE,
            complete_while_typing=False,
            input_processors=[TabsProcessor(8, char1=" ", char2=" ")],
            key_bindings=self._bindings(),
            enable_suspend=True,
            color_depth=None if terminal.has_colour(sys.stdout) else ColorDepth.DEPTH_1_BIT,
            output=_output(),
        )

    @property
    def keeps_history(self) -> bool:
        """Whether inputs are kept, for this session and the next ones."""
        return self._history.enabled

    @keeps_history.setter
    def keeps_history(self, keeps: bool) -> None:
        self._history.enabled = keeps

    def read(self, placeholder: str, status: str, begun: str = "") -> str:
        """The next input."""

        def grey(text: str) -> Callable[[], FormattedText]:
            """Shown while the line is being typed; it does not stay on the screen."""
            return lambda: FormattedText(
                [] if get_app().is_done else [("fg:ansibrightblack", text)]
            )

        def right() -> FormattedText:
            return grey("" if self._session.default_buffer.text else status)()

        try:
            text = self._session.prompt(placeholder=grey(placeholder), rprompt=right, default=begun)
        finally:
            self._interrupts.reinstall()
        # Input is not always UTF-8
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def _bindings(self) -> KeyBindings:
        """The keys that differ from readline's."""
        keys = KeyBindings()
        typing = has_focus(DEFAULT_BUFFER)
        in_command = Condition(lambda: _is_command(get_app().current_buffer.document))

        @keys.add("enter", filter=typing)
        def send(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if slash.is_unfinished(buffer.text):
                buffer.newline(copy_margin=False)
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter", filter=typing)
        @keys.add("c-j", filter=typing)
        def new_line(event: KeyPressEvent) -> None:
            event.current_buffer.newline(copy_margin=False)

        @keys.add("c-c", filter=typing)
        @keys.add("<sigint>", filter=typing)
        def clear(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            else:
                event.app.exit(exception=KeyboardInterrupt)

        @keys.add("tab", filter=typing & ~in_command)
        def indent(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text(" " * 8)

        @keys.add("c-g", filter=typing)
        async def edit(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            text, complaint = await run_in_terminal(lambda: edited(buffer.text, self._editor))
            buffer.document = Document(text)
            if complaint:
                await run_in_terminal(lambda: print(f"error: {complaint}", file=sys.stderr))

        return keys


def _output() -> Output:
    """Where the line is drawn. On Unix without asking the terminal where its cursor is: not every one answers."""
    if sys.platform == "win32":
        from prompt_toolkit.output import create_output

        return create_output()
    from prompt_toolkit.data_structures import Size
    from prompt_toolkit.output.vt100 import Vt100_Output

    def size() -> Size:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        return Size(rows=rows or 24, columns=columns or 80)  # some terminals say 0

    return Vt100_Output(sys.stdout, size, term=environment().get("TERM"), enable_cpr=False)


def _is_command(document: Document) -> bool:
    before = document.text_before_cursor
    return before.startswith("/") and "\n" not in before


class _Completer(Completer):
    """The words of commands, names of models, ids of chats, and paths."""

    def __init__(
        self, models: Callable[[], Sequence[str]], chats: Callable[[], Sequence[str]]
    ) -> None:
        self._models = models
        self._chats = chats

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        typed = "" if not before or before[-1].isspace() else before.split()[-1]
        for word in slash.candidates(before, self._models, self._chats, _paths):
            end = "" if word.endswith("/") else " "
            yield Completion(f"{word}{end}", start_position=-len(typed), display=word)


def _paths(begun: str) -> list[str]:
    """The paths that begin with the word, folders with a "/" at their end; none with white space, which ends a word."""
    folder, name = os.path.split(begun)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            found = [
                os.path.join(folder, each.name) + ("/" if each.is_dir() else "")
                for each in entries
                if each.name.startswith(name) and (name or not each.name.startswith("."))
            ]
    except (OSError, ValueError):
        return []
    return sorted(each for each in found if not any(c.isspace() for c in each))[:_MOST_PATHS]


def edited(text: str, editor: str) -> tuple[str, str]:
    """The text as the user's editor leaves it, and a complaint if that did not work ("" = it did)."""
    try:
        command = shlex.split(editor)
    except ValueError:
        command = [editor]
    handle, name = tempfile.mkstemp(prefix="ollama-prompt-", suffix=".txt")
    try:
        with open(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        status = subprocess.run([*command, name]).returncode
        if status != 0:
            return text, f'editor "{editor}" ended with status {status}, the text stays as it was'
        return Path(name).read_text("utf-8", "replace").removesuffix("\n"), ""
    except OSError:
        way_out = "set OLLAMA_EDITOR to the path of your preferred editor"
        return text, f'editor "{editor}" not found, {way_out}'
    finally:
        Path(name).unlink(missing_ok=True)
