"""Use-cases on stored models: what a name stands for, the list of all, and everything about one.

A manifest and its small layers, together with the header of its GGUF, become a ModelSpec: the one
value that running a model needs. `list` and `show` answer as Ollama's /api/tags and /api/show do,
less HTTP. Nothing here runs a model or renders a template.

Everything that touches the disk runs in a worker thread and is remembered: a stored model cannot
change without its manifest changing. Content is anybody's, so a configuration or a parameter that
makes no sense is passed over, as if it were not there; a file that cannot be used at all is an
InvalidModel that names the model.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from .. import human
from ..chat import template as templates
from ..errors import InvalidModel, InvalidRequest, ModelNotFound, OllamapyError
from ..formats.gguf import Header, joined, read_header
from ..formats.modelfile import quote
from ..formats.parameters import (
    each_value,
    parse_json,
    print_parameters,
    print_value,
    read_parameters,
)
from ..names import Name
from ..registry.manifest import Layer, Manifest
from ..registry.store import Store
from ..types import Message, Options, parse_options
from .facts import Facts

log = logging.getLogger(__name__)

_SPECS_KEPT = 64  # headers of models; one weighs about 0.5 MB

_LATEST = 253_370_764_800.0  # the year 9999, in seconds: the last that prints in every time zone

JOIN_MESSAGES = "ollamapy.join_messages"
"""GGUF key, true in a model that knows no roles: a conversation is one running text to it."""


@dataclass(frozen=True, slots=True)
class Config:
    """A model's configuration blob: what its maker said of it. "", () or 0 where not said."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] = ()
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    capabilities: tuple[str, ...] = ()
    context_length: int = 0
    embedding_length: int = 0


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


class ListedFacts(msgspec.Struct, frozen=True):
    """What the list says of a model that its manifest does not."""

    details: Details
    capabilities: tuple[str, ...]


class ListedModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of /api/tags. `size` is bytes, `digest` bare hex, `modified_at` RFC 3339."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything known about one stored model.

    `name` is its installed spelling, `digest` its manifest's (bare hex), `size` bytes of all blobs,
    `modified_at` seconds. `shard_paths` are the files after `model_path` of a model in several; `header` is that of all of
    them. `adapter_size` is bytes of LoRA weights. `parameters` is the params layer as written,
    `options` what of it is valid. `projector_path` is the GGUF that sees or hears for it.
    """

    name: Name
    digest: str
    size: int
    modified_at: float
    config: Config
    details: Details
    model_path: Path
    model_digest: str
    shard_paths: tuple[Path, ...]
    header: Header
    projector_path: Path | None
    adapter_paths: tuple[Path, ...]
    adapter_size: int
    go_template: str | None
    jinja_template: str | None
    joins_messages: bool
    system: str | None
    messages: tuple[Message, ...]
    options: Options
    parameters: Mapping[str, Any]
    licenses: tuple[str, ...]
    capabilities: tuple[str, ...]

    @property
    def key(self) -> str:
        """What is loaded for it: two models of the same files share a runner."""
        return "+".join([self.model_digest, *(path.name for path in self.adapter_paths)])


_Headers = Callable[[tuple[Path, ...]], Header]


class Models:
    """The models in a store, as the daemon uses them."""

    def __init__(self, store: Store, facts: Path | None = None) -> None:
        """``facts`` is the file that what lists say is remembered in, None to remember it for this process."""
        self.store = store
        self._spec = functools.lru_cache(maxsize=_SPECS_KEPT)(self._resolve)
        self._facts = Facts(facts, ListedFacts)
        self._complained: set[str] = set()  # manifests that were logged as damaged

    async def load(self, name_text: str) -> ModelSpec:
        """The model of that name, in any case.

        Raises InvalidName, ModelNotFound, InvalidModel, StoreError.
        """
        return await asyncio.to_thread(self._load, name_text)

    async def list(self) -> tuple[ListedModel, ...]:
        """All models, newest first. One whose files are damaged is listed with what is known."""
        return await asyncio.to_thread(self._list)

    async def show(
        self,
        name_text: str,
        *,
        verbose: bool = False,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        user_agent: str = "",
    ) -> dict[str, Any]:
        """The answer of /api/show, in JSON's types and Ollama's order of keys.

        `system` and `options` appear in the Modelfile only, in place of the model's own. Raises
        as `load`.
        """
        return await asyncio.to_thread(
            self._show, name_text, verbose, system, options or {}, user_agent
        )

    # In a worker thread

    def _load(self, name_text: str) -> ModelSpec:
        if not name_text:
            raise ModelNotFound("model '' not found")
        name = self.store.find(Name.parse(name_text))
        if name is None:
            raise ModelNotFound(f"model '{name_text}' not found")
        manifest = self.store.manifest(name)
        spec = self._spec(name, manifest)
        if not spec.model_path.is_file():  # it was deleted behind our back
            self._spec.cache_clear()
            spec = self._spec(name, manifest)
        return spec

    def _resolve(self, name: Name, manifest: Manifest) -> ModelSpec:
        try:
            return self._read(name, manifest)
        except InvalidModel as error:
            raise InvalidModel(f"model '{name.display}': {error}") from error

    def _read(self, name: Name, manifest: Manifest) -> ModelSpec:
        # 1) the small layers; of a kind that can occur once, the last one counts
        config = parse_config(self.store.read_small(manifest.config))
        if config.model_format not in ("", "gguf"):
            raise InvalidModel(
                f"its format is {config.model_format} and only gguf can be run, get it as GGUF"
            )
        texts = {kind: [self._text(layer) for layer in layers] for kind, layers in _small(manifest)}
        go_template = _last(texts["template"]) or _last(texts["prompt"])
        parameters = read_parameters(texts["params"])

        # 2) the big ones
        model = _model_layer(manifest)
        if model is None:
            where = config.remote_host
            raise InvalidModel(
                f"it has no weights, it runs at {where}: get one that runs here"
                if where
                else "it has no weights, get it again"
            )
        model_path, *shard_paths = self._paths(manifest, "model")
        header = self._header((model_path, *shard_paths))
        projectors = self._paths(manifest, "projector")
        adapters = self._paths(manifest, "adapter")

        # 3) what follows from them
        jinja = header.chat_template or None
        return ModelSpec(
            name=name,
            digest=manifest.digest,
            size=manifest.size,
            modified_at=manifest.modified_at,
            config=config,
            details=_details(config, header, model.from_),
            model_path=model_path,
            model_digest=model.digest,
            shard_paths=tuple(shard_paths),
            header=header,
            projector_path=projectors[0] if projectors else None,
            adapter_paths=adapters,
            adapter_size=sum(read_header(path).weights_size for path in adapters),
            go_template=go_template,
            jinja_template=jinja,
            joins_messages=header.metadata.get(JOIN_MESSAGES) is True,
            system=_last(texts["system"]) or None,
            messages=_messages(texts["messages"]),
            options=_options(parameters, name),
            parameters=parameters,
            licenses=tuple(texts["license"]),
            capabilities=capabilities(
                config,
                header,
                projector=read_header(projectors[0]) if projectors else None,
                go_template=go_template,
                jinja_template=jinja,
            ),
        )

    def _text(self, layer: Layer) -> str:
        return self.store.read_small(layer).decode("utf-8", "replace")

    def _paths(self, manifest: Manifest, kind: str) -> tuple[Path, ...]:
        return tuple(
            self.store.blob_path(each.digest) for each in manifest.layers if each.kind == kind
        )

    def _list(self) -> tuple[ListedModel, ...]:
        found = self.store.models()
        header = functools.lru_cache(maxsize=8)(self._header)  # models often share their weights
        listed = tuple(self._listed(name, manifest, header) for name, manifest in found)
        self._facts.keep(manifest.digest for _, manifest in found)
        return listed

    def _header(self, paths: tuple[Path, ...]) -> Header:
        """The header of a model in one or several files."""
        return joined([read_header(path) for path in paths])

    def _listed(self, name: Name, manifest: Manifest, header: _Headers) -> ListedModel:
        facts = self._facts.get(manifest.digest) or self._read_facts(name, manifest, header)
        return ListedModel(
            name=name.display,
            model=name.display,
            modified_at=print_time(manifest.modified_at),
            size=manifest.size,
            digest=manifest.digest,
            details=facts.details,
            capabilities=facts.capabilities,
        )

    def _read_facts(self, name: Name, manifest: Manifest, header_of: _Headers) -> ListedFacts:
        """What the list says beside name, size and time.

        Ollama's list leaves out what only the Jinja template can do; clients see that in `show`.
        """
        config, model = Config(), _model_layer(manifest)
        parent = model.from_ if model else ""
        try:
            config = parse_config(self.store.read_small(manifest.config))
            if model is None or config.model_format not in ("", "gguf"):
                return _listed_facts(config, None, parent, config.capabilities)
            header = header_of(self._paths(manifest, "model"))
            projectors = self._paths(manifest, "projector")
            layers = dict(_small(manifest))
            go_templates = [self._text(each) for each in layers["template"] or layers["prompt"]]
            can = capabilities(
                config,
                header,
                projector=header_of(projectors[:1]) if projectors else None,
                go_template=_last(go_templates),
                jinja_template=None,
            )
        except OllamapyError as error:
            if manifest.digest not in self._complained:
                self._complained.add(manifest.digest)
                log.warning("model '%s' is damaged: %s", name.display, error)
            return _listed_facts(config, None, parent, config.capabilities)
        facts = _listed_facts(config, header, parent, can)
        self._facts.put(manifest.digest, facts)
        return facts

    def _show(
        self,
        name_text: str,
        verbose: bool,
        system: str | None,
        options: Mapping[str, Any],
        user_agent: str,
    ) -> dict[str, Any]:
        try:
            spec = self._load(name_text)
        except ModelNotFound:
            # Unlike all other requests, this one names the tag
            shown = Name.parse(name_text).display if name_text else ""
            raise ModelNotFound(f"model '{shown}' not found") from None
        header = spec.header
        if verbose:  # its arrays, too
            header = replace(read_header(spec.model_path, arrays=True), tensors=header.tensors)
        info = header.model_info(verbose=verbose)
        if user_agent.startswith("GitHubCopilotChat/"):
            info["general.basename"] = name_text
        projector = spec.projector_path and read_header(spec.projector_path, arrays=verbose)
        answer = {
            "license": "\n".join(spec.licenses),
            "modelfile": print_modelfile(
                spec, system=system or spec.system, parameters={**spec.parameters, **options}
            ),
            "parameters": print_parameters(spec.parameters),
            "template": shown_template(spec.go_template, spec.jinja_template),
            "system": spec.system,
            "details": spec.details,
            "messages": [{"role": each.role, "content": each.content} for each in spec.messages],
            "model_info": info,
            "projector_info": projector and projector.model_info(verbose=verbose),
            "tensors": [
                {"name": each.name, "type": each.type_name, "shape": each.shape}
                for each in header.tensors
            ],
            "capabilities": spec.capabilities,
            "modified_at": print_time(spec.modified_at),
            "requires": spec.config.requires,
        }
        always = {"modelfile", "details", "model_info", "capabilities", "modified_at"}
        return {key: value for key, value in answer.items() if value or key in always}


# What layers say


def parse_config(content: bytes) -> Config:
    """A configuration blob. Fields of a wrong type are passed over.

    Raises InvalidModel if it is not a JSON object.
    """
    value = parse_json(content)
    if not isinstance(value, dict):
        raise InvalidModel("its configuration is not a JSON object, get the model again")

    def text(key: str) -> str:
        return found if isinstance(found := value.get(key), str) else ""

    def texts(key: str) -> tuple[str, ...]:
        found = value.get(key)
        return tuple(e for e in found if isinstance(e, str)) if isinstance(found, list) else ()

    def count(key: str) -> int:
        found = value.get(key)
        return found if type(found) is int and 0 < found < 2**31 else 0

    return Config(
        model_format=text("model_format"),
        model_family=text("model_family"),
        model_families=texts("model_families"),
        model_type=text("model_type"),
        file_type=text("file_type"),
        renderer=text("renderer"),
        parser=text("parser"),
        requires=text("requires"),
        remote_host=text("remote_host"),
        capabilities=texts("capabilities"),
        context_length=count("context_length"),
        embedding_length=count("embedding_length"),
    )


_SMALL_KINDS = ("template", "prompt", "system", "params", "messages", "license")


def _small(manifest: Manifest) -> Iterator[tuple[str, list[Layer]]]:
    """The layers that are texts, by kind."""
    for kind in _SMALL_KINDS:
        yield kind, [layer for layer in manifest.layers if layer.kind == kind]


def _model_layer(manifest: Manifest) -> Layer | None:
    return next((layer for layer in manifest.layers if layer.kind == "model"), None)


def _last(texts: Sequence[str]) -> str | None:
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


def _details(
    config: Config, header: Header | None, parent_model: str, *, lengths: bool = False
) -> Details:
    """What the configuration says, and what the file says where the configuration is silent."""
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


def _listed_facts(
    config: Config, header: Header | None, parent_model: str, can: tuple[str, ...]
) -> ListedFacts:
    return ListedFacts(_details(config, header, parent_model, lengths=True), can)


# What a model can do


def capabilities(
    config: Config,
    header: Header,
    *,
    projector: Header | None,
    go_template: str | None,
    jinja_template: str | None,
) -> tuple[str, ...]:
    """What a model can do, in the order in which Ollama finds it out."""
    found = list(config.capabilities)
    if jinja_template:
        found += templates.capabilities(jinja_template)
    found.append("completion" if header.value("pooling_type") is None else "embedding")
    if header.value("vision.block_count") is not None or projector:
        found.append("vision")
    if header.value("audio.block_count") is not None or (
        projector and projector.value("has_audio_encoder") is True
    ):
        found.append("audio")
    found += templates.go_capabilities(go_template or "")
    if config.model_family in ("gptoss", "gpt-oss"):
        found.append("thinking")
    return tuple(dict.fromkeys(found))


def shown_template(go_template: str | None, jinja_template: str | None) -> str:
    """The template that `show` prints: the Go template, but the GGUF's own Jinja template where
    there is no other or where it is preferred; "" if the model has none."""
    if go_template is None or templates.prefers_jinja(go_template, jinja_template):
        return jinja_template or ""
    return go_template


# Printing


def print_modelfile(spec: ModelSpec, *, system: str | None, parameters: Mapping[str, Any]) -> str:
    """A Modelfile that makes the model again, on this machine: FROM names its blob."""
    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {spec.name.display}",
        "",
        *(f"FROM {path}" for path in (spec.model_path, *spec.shard_paths)),
        *(f"ADAPTER {path}" for path in spec.adapter_paths),
    ]
    if spec.projector_path:
        lines.append(f"FROM {spec.projector_path}")
    lines.append(f"TEMPLATE {quote(spec.go_template or templates.DEFAULT_GO)}")
    if system:
        lines.append(f"SYSTEM {quote(system)}")
    if spec.config.renderer:
        lines.append(f"RENDERER {spec.config.renderer}")
    if spec.config.parser:
        lines.append(f"PARSER {spec.config.parser}")
    if spec.config.requires:  # which Ollama forgets
        lines.append(f"REQUIRES {spec.config.requires}")
    for key, value in each_value(parameters):
        text = quote(value) if isinstance(value, str) else print_value(value)
        lines.append(f"PARAMETER {key} {text}")
    lines += [f"LICENSE {quote(text)}" for text in spec.licenses]
    lines += [f"MESSAGE {each.role} {quote(each.content)}" for each in spec.messages]
    return "\n".join(lines) + "\n"


def print_time(seconds: float) -> str:
    """A point in time as Go prints it in JSON: RFC 3339 with this machine's offset, "Z" for UTC."""
    seconds = min(max(seconds, 0.0), _LATEST)  # a file's time can be anything
    text = datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="microseconds")
    clock, offset = text[:26], text[26:]
    return clock.rstrip("0").rstrip(".") + ("Z" if offset == "+00:00" else offset)
