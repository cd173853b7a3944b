"""`push`: have the server give a model to a registry or to the hub. The keys are the user's: they are read here and go with the
request, to a server on this machine only.

For a registry: what `docker login` stored (DOCKER_CONFIG, else ~/.docker/config.json). For the hub: HF_TOKEN or its token file.
"""

from __future__ import annotations

import json
from base64 import b64decode
from contextlib import closing
from pathlib import Path
from typing import Any

from ..config import environment
from ..names import Name
from .client import Client
from .progress import Steps
from .transfer import is_ours_here


def push(client: Client, model: str, insecure: bool) -> None:
    """Give the model to where its name says, showing each step on stderr."""
    from ..registry.hub import HubSettings
    from ..registry.oci import HUB_HOSTS

    name = Name.parse(model)
    body: dict[str, Any] = {"model": model, "insecure": insecure}
    if is_ours_here(client):
        if name.host.lower() in HUB_HOSTS:
            hub = HubSettings.from_env(environment())
            body["hub"] = {"endpoint": hub.endpoint, "token": _token(hub), "offline": hub.offline}
        elif found := credentials(name.host):
            body["username"], body["password"] = found
    with closing(client.push(body)) as stream, Steps() as steps:
        for step in stream:
            steps.show(step)


def _token(hub: Any) -> str:
    """The user's token, also where it lies in a file."""
    authorization: str = hub.access().authorization
    return authorization.removeprefix("Bearer ")


def credentials(host: str) -> tuple[str, str] | None:
    """User and password that `docker login` stored for a registry, if it stored them in its file."""
    folder = environment().get("DOCKER_CONFIG", "").strip()
    path = Path(folder or "~/.docker").expanduser() / "config.json"
    try:
        entry = json.loads(path.read_bytes())["auths"]
        found = next(
            entry[key]["auth"]
            for key in (host, f"https://{host}", f"https://{host}/v2/")
            if key in entry
        )
        user, _, password = b64decode(found).decode().partition(":")
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    return (user, password) if user else None
