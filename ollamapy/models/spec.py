"""A stored model as one value: its manifest, its small layers and the header of its GGUF become a ModelSpec.

Content comes from anywhere, so a field or a parameter that makes no sense is ignored, as if it were not there; a file that cannot
be used at all is an InvalidModel. Reads files, so it is called in a thread; keeps nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from .. import human
from ..chat import template as templates
from ..chat.output import AnswerFormat, answer_format
from ..chat.template import Template
from ..errors import InvalidModel, InvalidRequest
from ..formats.configuration import Config, parse_config
from ..formats.gguf import Header, check, check_tokens, joined, read_header
from ..formats.parameters import parse_json, read_parameters
from ..formats.projector import senses
from ..loading import Files
from ..names import Name
from ..registry.manifest import Layer, Manifest
from ..registry.store import Store
from ..types import Message, Options, parse_options
from .files import resolve

log = logging.getLogger(__name__)

JOIN_MESSAGES = "ollamapy.join_messages"
"""GGUF key, true in a model that knows no roles: its prompt is the conversation as one running text."""

_TEXTS = ("template", "prompt", "system", "params", "messages", "license")


class Details(msgspec.Struct, frozen=True, omit_defaults=True):
    """`details` in Ollama's answers. Only the list gives the two lengths (tokens, numbers)."""

    parent_model: str
    format: str
    family: str
    families: tuple[str, ...] | None
    parameter_size: str
    quantization_level: str
    context_length: int = 0
    embedding_length: int = 0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything known about one stored model.

    `name` is its installed spelling, `digest` its manifest's (bare hex), `modified_at` seconds. `header` is that of all files of the weights. `parameters` is the params layer as written,
    `options` what of it is valid. `template` is the one that chats use; `fills_gaps`: the Go template can write a prompt with a suffix.
    """

    name: Name
    digest: str
    modified_at: float
    config: Config
    details: Details
    files: Files
    header: Header
    go_template: str | None
    jinja_template: str | None
    system: str | None
    messages: tuple[Message, ...]
    options: Options
    parameters: Mapping[str, Any]
    licenses: tuple[str, ...]
    capabilities: tuple[str, ...]
    template: Template
    fills_gaps: bool
    answer_format: AnswerFormat


def read_spec(store: Store, name: Name, manifest: Manifest) -> ModelSpec:
    """The model that a manifest describes. Raises InvalidModel, StoreError."""
    # 1) the small layers; of a kind that can occur once, the last one counts
    config = _config(store, manifest)
    texts = {kind: tuple(texts_of(store, manifest, kind)) for kind in _TEXTS}
    go_template = last(texts["template"]) or last(texts["prompt"])
    parameters = read_parameters(texts["params"])

    # 2) the large ones
    model, files, header = _weights(store, manifest, config)
    projector = read_header(files.projector.path) if files.projector else None

    # 3) what follows from them
    jinja = header.chat_template or None
    joins_messages = header.metadata.get(JOIN_MESSAGES) is True
    template = templates.choose(go_template, jinja, joins_messages)
    return ModelSpec(
        name=name,
        digest=manifest.digest,
        modified_at=manifest.modified_at,
        config=config,
        details=details_of(config, header, model.from_),
        files=files,
        header=header,
        go_template=go_template,
        jinja_template=jinja,
        system=last(texts["system"]) or None,
        messages=_messages(texts["messages"]),
        options=_options(parameters, name),
        parameters=parameters,
        licenses=texts["license"],
        capabilities=capabilities(
            config, header, projector=projector, go_template=go_template, jinja_template=jinja
        ),
        template=template,
        fills_gaps="insert" in templates.go_capabilities(go_template or ""),
        answer_format=answer_format(template),
    )


def _config(store: Store, manifest: Manifest) -> Config:
    """The model's configuration. Raises InvalidModel for a format that llama.cpp does not read."""
    config = parse_config(store.read_small(manifest.config))
    if config.model_format not in ("", "gguf"):
        raise InvalidModel(
            f"its format is {config.model_format} and only gguf can be run, get it as GGUF"
        )
    return config


def _weights(store: Store, manifest: Manifest, config: Config) -> tuple[Layer, Files, Header]:
    """The layer of the weights, all files and the header. Raises InvalidModel where there are none, or could crash llama.cpp."""
    model = model_layer(manifest)
    if model is None:
        raise _without_weights(config)
    files = resolve(manifest, store)
    header = joined([read_header(f.path, checks_tokens=True) for f in files.weight_files])
    check(header)
    check_tokens(header.metadata.get("tokenizer.ggml.tokens"))
    return model, files, header


def _without_weights(config: Config) -> InvalidModel:
    host = config.remote_host
    if host:
        return InvalidModel(f"it has no weights, it runs at {host}: get one that runs here")
    return InvalidModel("it has no weights, get it again")


# ---- layers ----------------------------------------------------------------------------------------------------------


def model_layer(manifest: Manifest) -> Layer | None:
    """The layer of the weights, the first one of a model in shards; None for a model without weights."""
    return next((layer for layer in manifest.layers if layer.kind == "model"), None)


def paths_of(store: Store, manifest: Manifest, kind: str) -> tuple[Path, ...]:
    """Where the layers of a kind lie. Raises StoreError if one is missing."""
    return tuple(store.blob_path(each.digest) for each in manifest.layers if each.kind == kind)


def texts_of(store: Store, manifest: Manifest, kind: str) -> Iterator[str]:
    """The contents of a kind's layers. Raises StoreError, InvalidModel for one that is too large."""
    for layer in manifest.layers:
        if layer.kind == kind:
            yield store.read_small(layer).decode("utf-8", "replace")


def read_headers(paths: tuple[Path, ...]) -> Header:
    """The header of a model in one or several files. Raises InvalidModel."""
    return joined([read_header(path) for path in paths])


def last(texts: Sequence[str]) -> str | None:
    """The last of some texts, None where there is none."""
    return texts[-1] if texts else None


def _options(parameters: Mapping[str, Any], name: Name) -> Options:
    """The parameters that are options; those of a wrong type are passed over."""
    options = Options()
    for key, value in parameters.items():
        if key == "stop" and isinstance(value, str):  # some makers write one stop this way
            value = [value]
        try:
            options = parse_options({key: value})[0].over(options)
        except InvalidRequest as error:
            log.warning("model '%s': %s", name.display, error)
    return options


def _messages(texts: Iterable[str]) -> tuple[Message, ...]:
    found = []
    for text in texts:
        value = parse_json(text)
        for each in value if isinstance(value, list) else ():
            if not isinstance(each, dict):
                continue
            role, content = each.get("role"), each.get("content")
            if isinstance(role, str) and isinstance(content, str):
                found.append(Message(role.lower(), content))
    return tuple(found)


def details_of(
    config: Config, header: Header | None, parent_model: str, *, lengths: bool = False
) -> Details:
    """The configuration's values, and the header's for those that it lacks. The lengths are 0 unless ``lengths``."""
    family = config.model_family or (header.architecture if header else "")
    context_length, embedding_length = config.context_length, config.embedding_length
    if header:
        context_length = header.context_length or context_length
        embedding_length = header.embedding_length or embedding_length
    size = human.format_number(header.parameter_count) if header else ""
    return Details(
        parent_model=parent_model,
        format=config.model_format or ("gguf" if header else ""),
        family=family,
        families=config.model_families or ((family,) if family else None),
        parameter_size=config.model_type or size,
        quantization_level=config.file_type or (header.file_type_name if header else ""),
        context_length=context_length if lengths else 0,
        embedding_length=embedding_length if lengths else 0,
    )


def details_of_header(header: Header) -> Details:
    """The details of a model whose configuration is not at hand."""
    return details_of(Config(), header, "")


def capabilities(
    config: Config,
    header: Header,
    *,
    projector: Header | None,
    go_template: str | None,
    jinja_template: str | None,
) -> tuple[str, ...]:
    """What a model can do, in Ollama's order."""
    found = list(config.capabilities)
    if jinja_template:
        found += templates.capabilities(jinja_template)
    found.append("completion" if header.value("pooling_type") is None else "embedding")
    encoded = senses(projector) if projector else ()
    for sense in ("vision", "audio"):
        if sense in encoded or header.value(f"{sense}.block_count") is not None:
            found.append(sense)
    found += templates.go_capabilities(go_template or "")
    if config.model_family in ("gptoss", "gpt-oss"):
        found.append("thinking")
    return tuple(dict.fromkeys(found))
