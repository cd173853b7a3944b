"""Pull a model, also one that `run` does not find: ask the server for it, and show its progress.

How this user reaches the hub (HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE) goes with the request, for the daemon's environment is as
old as the daemon; but only to a daemon on this machine, and the token to this user's own alone, see trust.py.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

from ..config import Settings
from ..errors import OllamapyError
from ..names import part_of
from . import trust
from .client import AnsweredError, Client
from .progress import Board, Steps
from .terminal import remark

_TOGETHER = 4
"""Models that are pulled at once."""

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(i?)b?(?:/s)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PullOptions:
    """How to pull: ``via`` is the machine to ask, ``rate`` bytes a second and ``connections`` at most (0: as usual)."""

    insecure: bool = False
    via: str = ""
    rate: int = 0
    connections: int = 0
    force: bool = False


def parse_rate(text: str) -> int:
    """Bytes a second from "5MB", "500k", "1.5 MiB/s". Raises OllamapyError."""
    found = _RATE.fullmatch(text.strip())
    if not found or not (rate := _rate(*found.groups())):
        raise OllamapyError(f"{text!r} is not a rate: write it like 500k, 5MB or 1.5MiB")
    return rate


def _rate(number: str, prefix: str, binary: str) -> int:
    return int(float(number) * (1024 if binary else 1000) ** " kmg".index(prefix.lower() or " "))


def pull(
    client: Client,
    settings: Settings,
    model: str,
    options: PullOptions | None = None,
    steps: Steps | None = None,
) -> str:
    """Get a model, showing each step on stderr, by ``steps`` if they are given; returns the name that it is stored as."""
    if model.lower().startswith("file:"):
        return _take(client, model, steps or Steps())
    options = options or PullOptions()
    step: Mapping[str, Any] = {}
    hub, body = settings.hub, _body(model, options)
    server = trust.look(client, settings, "HF_TOKEN" if hub.token else "")
    if server.is_ours:
        body["hub"] = {"endpoint": hub.endpoint, "token": hub.token, "offline": hub.offline}
    with closing(client.pull(body, server.proven)) as stream, steps or Steps() as steps:
        try:
            for step in stream:
                steps.show(step)
        except AnsweredError as error:
            if hub.token and not server.is_ours:
                note = (
                    f"HF_TOKEN is not sent to {client.address.url}, set it where that server runs"
                )
                raise AnsweredError(f"{error} ({note})", error.status) from error
            raise
        except KeyboardInterrupt:
            steps.end()
            remark(interrupted(options, [model]))
            raise
    return str(step.get("model") or model)


def interrupted(options: PullOptions, models: Sequence[str]) -> str:
    """The remark on pulls that the user interrupted."""
    again = " ".join(["ollamapy pull", *_flags(options), *models])
    return f"interrupted, progress is kept; continue with: {again}"


def pull_together(
    client: Client, settings: Settings, models: Sequence[str], options: PullOptions
) -> list[tuple[str, str | OllamapyError]]:
    """Pull several models at once, a bar each; returns each model with the name that it is stored as, or with its error. An interrupt is raised at once: the connections end with the process, and the server cancels."""
    board, ended = Board(), Queue[tuple[str, str | OllamapyError]]()
    waiting = deque(dict.fromkeys(models))

    def work() -> None:
        while True:
            try:
                model = waiting.popleft()
            except IndexError:
                return
            try:
                ended.put((model, pull(client, settings, model, options, Steps(board, model))))
            except OllamapyError as error:
                ended.put((model, error))
            except BaseException as error:  # a bug of ours must not leave the caller waiting
                ended.put((model, OllamapyError(f"{type(error).__name__}: {error}")))

    number = len(waiting)
    for _ in range(min(number, _TOGETHER)):
        Thread(target=work, daemon=True).start()
    try:
        return [ended.get() for _ in range(number)]
    except KeyboardInterrupt:
        board.close()
        remark(interrupted(options, models))
        raise
    finally:
        board.close()


def _flags(options: PullOptions) -> list[str]:
    """The flags without which the same pull would be another."""
    flags = ["--insecure"] if options.insecure else []
    return flags + ([f"--from {options.via}"] if options.via else [])


def _body(model: str, options: PullOptions) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "insecure": options.insecure,
        "from": options.via,
        "limit_rate": options.rate,
        "connections": options.connections,
        "force": options.force,
    }
    return {key: value for key, value in body.items() if value}


def _take(client: Client, model: str, steps: Steps) -> str:
    """Make a model of a file of this machine, which the daemon takes by its content and not by its path."""
    from ..formats.modelfile import Instruction, Modelfile
    from . import create

    path = Path(re.sub(r"^file:(//)?", "", model, flags=re.IGNORECASE)).expanduser()
    if not path.is_file():
        raise OllamapyError(f"there is no file {path}")
    name = part_of(path.stem)
    source = Modelfile((Instruction("FROM", str(path.absolute())),))
    with steps:
        create.make(client, name, create.request(source, Path()), steps)
    return name


def pull_absent(
    client: Client, settings: Settings, model: str, error: AnsweredError, insecure: bool = False
) -> str:
    """Pull the model that was not found; returns its name. Raises ``error`` if it is another error, or with the reason if the pull
    fails."""
    if error.status != 404:
        raise error
    try:
        return pull(client, settings, model, PullOptions(insecure))
    except AnsweredError as refused:
        # A pull that fails says so in its stream: with this status the server has no pulls
        reason = "" if refused.status == 404 else f", and could not be pulled: {refused}"
        raise AnsweredError(f"{error}{reason}", error.status) from error


def is_address(model: str) -> bool:
    """Whether this names a file and not a model: it must be pulled before it has a name."""
    return "://" in model and model.lower().endswith(".gguf") or model.lower().startswith("file:")
