"""`show --remote`: details and memory needs of a remote model, read in this process and printed as a card."""

from __future__ import annotations

from typing import Any

from .. import human
from ..config import Settings
from ..machine import free_memory
from ..registry import remote_show, source
from ..registry.patience import Patience
from . import views
from .drawing import Card
from .terminal import remark


def show_remote(settings: Settings, text: str) -> dict[str, Any]:
    """The details of a remote model, see :func:`.remote_show.show_remote`. Raises TransferError and its
    children, InvalidModel, InvalidName."""
    wanted = source.parse(text)
    return remote_show.show_remote(settings, wanted, free_memory(), Patience(notify=remark))


def remote_card(answer: dict[str, Any], *, verbose: bool = False) -> Card:
    """The text of `show --remote`: the card of `show`, and the memory that each quantisation needs."""
    contexts = [each["context"] for each in answer["fits"][0]["needs"]]
    rows = []
    for fit in answer["fits"]:
        needs = [
            human.format_bytes(n["bytes"]) + ("" if n["fits"] else " no") for n in fit["needs"]
        ]
        rows.append(("", fit["quantization"], human.format_bytes(fit["size"]), *needs))
    header = ("", "quantization", "size", *(f"context {n}" for n in contexts))
    facts = {
        "size": human.format_bytes(answer["size"]),
        "repository": answer["repo"],
        "revision": answer["revision"][:12],
        "template": "yes" if answer["template"] else "none",
        "file": answer["note"],
    }
    where = [("", name, value) for name, value in facts.items() if value]
    free = human.format_bytes(answer["free"])
    own = views.card(answer, verbose=verbose).sections
    memory = (f"Memory needed ({free} are free)", [header, *rows])
    return Card([*own, ("Source", where), memory])
