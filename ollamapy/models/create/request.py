"""A request to make a model: its values checked and typed. Pure; what the JSON looks like is read in web/ollama/create.py."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...chat import template as templates
from ...errors import InvalidModelfile, InvalidRequest, TemplateError
from ...formats.modelfile import DEPRECATED, Instruction, read_version
from ...formats.quantization import type_name
from ...human import quote
from ...names import Name
from ...types import OPTION_KINDS, Message, parse_options

MOST_FILES = 1024
"""Files of one request: the shards of the largest models are some two hundred."""

MOST_LICENSES, MOST_MESSAGES = 1024, 10_000
"""Each license is a file of the store; a conversation has at most as many messages as a request may have."""


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What to make. ``files`` and ``adapters`` are names and digests of uploaded blobs; beside ``from_``, ``files`` is a
    projector. "" and () mean not given."""

    model: str
    from_: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    quantize: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""


_one_parses = threading.Lock()


def checked(request: CreateRequest) -> CreateRequest:
    """The request with its values as they are stored. Raises InvalidName, InvalidRequest; looks at no file."""
    Name.parse(request.model)
    if not request.from_ and not request.files:
        raise InvalidRequest("neither 'from' or 'files' was specified")
    if request.from_:
        Name.parse(request.from_)
    for files in (request.files, request.adapters):
        if len(files) > MOST_FILES:
            raise InvalidRequest(f"{len(files)} files are too many, at most {MOST_FILES}")
    for name, values, most in (
        ("licenses", request.licenses, MOST_LICENSES),
        ("messages", request.messages, MOST_MESSAGES),
    ):
        if len(values) > most:
            raise InvalidRequest(f"{len(values):,} {name} are too many, at most {most:,}")
    if request.template:
        check_template(request.template)
    return replace(
        request,
        parameters=typed_parameters(request.parameters),
        requires=_version(request.requires),
        quantize=type_name(request.quantize) if request.quantize else "",
    )


def check_template(template: str) -> None:
    """Raises InvalidRequest if this is no Go template.

    One thread at a time: parsing holds the interpreter's lock, for which the event loop would wait behind all of them.
    """
    try:
        with _one_parses:
            templates.check_go(template)
    except TemplateError as error:
        raise InvalidRequest(f"template error: {error}") from None


def typed_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as the params layer has them; those that have no effect any more and unknown ones are left out.

    Raises InvalidRequest for a value of the wrong type.
    """
    typed: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or name not in OPTION_KINDS:
            continue
        values = [value] if name == "stop" and isinstance(value, str) else value
        typed[name] = _stored(getattr(parse_options({name: values})[0], name))
    return typed


def note_unknown(given: Mapping[str, Any]) -> str:
    """A note that names the unknown parameters: of a newer client, or misspelled. Empty where all are known."""
    unknown = [name for name in given if name not in OPTION_KINDS and name not in DEPRECATED]
    if not unknown:
        return ""
    named = ", ".join(quote(name[:80]) for name in unknown[:5])
    return f"parameters that are unknown and were left out: {named}"


def _stored(value: Any) -> Any:
    """A value as Go's JSON has it: no list is a tuple, and a whole number has no point."""
    if isinstance(value, tuple):
        return list(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _version(text: str) -> str:
    if not text:
        return ""
    try:
        return read_version(Instruction("REQUIRES", text))
    except InvalidModelfile as error:
        raise InvalidRequest(error.reason) from None
