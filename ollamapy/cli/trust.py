"""Whether a server may be sent what is secret: the hub's token, a registry's user and password.

Only the user's own daemon on this machine may, and it proves that it is (secret.py). An Ollama, and a server on another
machine, get the plain request. A server here that calls itself ollamapy without proof gets no request at all: the error
tells the user what to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Settings
from ..errors import OllamapyError
from .client import Client, Proven


@dataclass(frozen=True, slots=True)
class Trust:
    """What a server is to a request with private fields. ``is_ours``: it calls itself ollamapy, on this machine, and takes our
    own fields; ``proven``: a connection over which secrets may go."""

    is_ours: bool
    proven: Proven | None = None


def look(client: Client, settings: Settings, secrets: str) -> Trust:
    """What the server is. ``secrets`` names what there is to send, in words; "" if nothing is secret.

    Raises OllamapyError when there are secrets and the server calls itself ollamapy without proof; Unreachable; AnsweredError.
    """
    if not _is_here(client.address.host):
        return Trust(False)
    from ..secret import read_secret

    key = read_secret(settings.paths.secret)
    if key is not None and (proven := client.prove(key)):
        return Trust(True, proven)
    is_ours = "ollamapy" in client.version()
    if is_ours and secrets:
        raise OllamapyError(
            f"the server at {client.address.url} does not prove that it is your daemon, so {secrets} was not sent to it:"
            " restart your daemon ('ollamapy daemon restart'), or set this where that server runs and not here"
        )
    return Trust(is_ours)


def _is_here(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
