"""`pull`, `rm`, `cp`, and getting a model that `run` does not find. What they do is the daemon's affair; here it is asked
for and shown.

How this user reaches the hub (HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE) goes with a pull to our own daemon on this machine, and
to nobody else: the daemon's environment is as old as the daemon.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import environment
from ..errors import OllamapyError
from ..names import part_of
from .client import AnsweredError, Client
from .progress import Steps
from .terminal import remark

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(i?)b?(?:/s)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wishes:
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
        raise OllamapyError(f"{text!r} is no rate, write it like 500k, 5MB or 1.5MiB")
    return rate


def _rate(number: str, prefix: str, binary: str) -> int:
    return int(float(number) * (1024 if binary else 1000) ** " kmg".index(prefix.lower() or " "))


def pull(client: Client, model: str, wishes: Wishes | None = None) -> str:
    """Get a model, showing each step on stderr; returns the name that it is stored as."""
    if model.lower().startswith("file:"):
        return _take(client, model)
    wishes = wishes or Wishes()
    step: Mapping[str, Any] = {}
    with closing(client.pull(_body(client, model, wishes))) as stream, Steps() as steps:
        try:
            for step in stream:
                steps.show(step)
        except KeyboardInterrupt:
            steps.end()
            again = " ".join(["ollamapy pull", *_said(wishes), model])
            remark(f"stopped; what is there is kept, this goes on: {again}")
            raise
    return str(step.get("model") or model)


def _said(wishes: Wishes) -> list[str]:
    """The flags without which the same pull would be another."""
    flags = ["--insecure"] if wishes.insecure else []
    return flags + ([f"--from {wishes.via}"] if wishes.via else [])


def _body(client: Client, model: str, wishes: Wishes) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "insecure": wishes.insecure,
        "from": wishes.via,
        "limit_rate": wishes.rate,
        "connections": wishes.connections,
        "force": wishes.force,
    }
    if is_ours_here(client):
        from ..registry.hub import HubSettings

        hub = HubSettings.from_env(environment())
        body["hub"] = {"endpoint": hub.endpoint, "token": hub.token, "offline": hub.offline}
    return {key: value for key, value in body.items() if value}


def is_ours_here(client: Client) -> bool:
    """Whether the server is an ollamapy on this machine."""
    host = client.address.host
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    return here and "ollamapy" in client.version()


def _take(client: Client, model: str) -> str:
    """Make a model of a file of this machine, which the daemon takes by its content and not by its path."""
    from ..formats.modelfile import Instruction, Modelfile
    from . import create

    path = Path(re.sub(r"^file:(//)?", "", model, flags=re.IGNORECASE)).expanduser()
    if not path.is_file():
        raise OllamapyError(f"there is no file {path}")
    name = part_of(path.stem)
    source = Modelfile((Instruction("FROM", str(path.absolute())),))
    with Steps() as steps:
        create.make(client, name, create.request(source, Path()), steps)
    return name


def pull_absent(client: Client, model: str, error: AnsweredError, insecure: bool = False) -> str:
    """Get the model that was not found; its name. Raises ``error``, extended, when that is not what was wrong, or it cannot
    be had."""
    if error.status != 404:
        raise error
    try:
        return pull(client, model, Wishes(insecure))
    except AnsweredError as refused:
        # A server that cannot pull has nothing to add
        reason = "" if "404 page not found" in str(refused) else f", and not to be had: {refused}"
        raise AnsweredError(f"{error}{reason}", error.status) from error


def is_address(model: str) -> bool:
    """Whether this names a file and not a model: it must be pulled before it has a name."""
    return "://" in model and model.lower().endswith(".gguf") or model.lower().startswith("file:")
