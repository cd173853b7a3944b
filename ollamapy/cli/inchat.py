"""`run` in a chat that the daemon keeps: which one the flags name, and one prompt in it.

Importing this costs nothing: what talks in chats is imported only where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import OllamapyError
from . import terminal
from .launch import Launcher

if TYPE_CHECKING:
    from .ask import Look


class Resumed(NamedTuple):
    """A chat to go on with, and the model that answers."""

    id: str
    model: str


def resumed(
    launcher: Launcher, arguments: Sequence[str], latest: bool, name: str, temporary: bool
) -> Resumed | None:
    """The chat that `--continue` or `--chat` names; the first of the ``arguments`` is a model, if there is one. None without these
    flags. Raises OllamapyError for an unknown chat."""
    if not latest and not name:
        return None
    if temporary or (latest and name):
        flags = "--temporary" if temporary else "--continue and --chat"
        raise OllamapyError(f"{flags} cannot go on with a chat: leave out one of the flags")
    from .chats import Chats

    model = arguments[0] if arguments else ""
    chats = Chats(launcher.connect(preload=model or None))
    chats.check()
    id = chats.find(name) if name else chats.latest(model)
    return Resumed(id, model or str(chats.get(id).get("model")))


def say(
    launcher: Launcher,
    resumes: Resumed,
    prompt: str,
    look: Look,
    settings: Mapping[str, Any],
    *,
    verbose: bool,
) -> None:
    """Send one message to a chat and print its answer. Raises KeyboardInterrupt when the answer is stopped."""
    from .chats import Chats
    from .session import Session
    from .talk import Talk
    from .thread import continued

    client = launcher.connect(preload=resumes.model)
    session = Session(resumes.model, client.show(resumes.model), **settings)
    talk = Talk(launcher, client, session, look, verbose=verbose, is_kept=Chats(client).are_kept())
    talk.check_kept()
    talk.session = continued(session, talk.thread.enter(resumes.id))
    if talk.thread.running:
        with terminal.Spinner("waiting for the answer that is being written in this chat"):
            for _ in talk.thread.followed(talk.session):
                pass
    if not prompt:
        raise OllamapyError("there is no message to send: give a prompt")
    talk.say(prompt)
    if not talk.session.messages or talk.session.messages[-1].ending == "stopped":
        raise KeyboardInterrupt
