"""Make a model: from another model, or from files that were uploaded as blobs; streamed in Ollama's statuses.

    a request --check--> a base: layers and a configuration        parsing GGUF, converting model, quantizing ...
                         (of a model, of GGUF files, converted)
                         --merge--> the new model's layers          using existing layer ..., creating new layer ...
                         --commit--> blobs, then the manifest       writing manifest, success

Until the commit nothing is in the store but work files, which are gone again whatever happens; the commit runs in one go, and a
blob of it that no model came to name is removed. So are the uploaded files at the end, those of a folder that was converted as
well as those of what could not be made: whoever wants them again sends them again. A GGUF is stored as it was uploaded, byte
for byte.

How requests look is the dialect's affair (``api/stored.py``). What the new model says where both it and its base say something:

    template, system     the request's; an empty one leaves the base's. ``{{ .Prompt }}`` is no template
    parameters           the request's, name by name, over the base's
    messages             the request's, if it has any
    license, adapters    the base's, then the request's
    renderer, parser, requires   the request's; an empty one leaves the base's
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import human
from ..chat import template as templates
from ..chat.formats import PROBES, ChatFormat, candidates
from ..chat.template import Marks, Template
from ..digests import digest_of, file_digest, parse_digest
from ..errors import (
    InvalidModel,
    InvalidModelfile,
    InvalidRequest,
    ModelNotFound,
    StoreError,
    TemplateError,
    TemplateTooSlow,
)
from ..formats import llama2c
from ..formats.configuration import PLATFORM, describe
from ..formats.convert import convert
from ..formats.gguf import Header, joined, read_header
from ..formats.lora import convert_adapter
from ..formats.modelfile import DEPRECATED, Instruction, read_version
from ..formats.parameters import read_parameters
from ..formats.quantization import TYPES, type_name
from ..names import Name
from ..registry.lease import Lease
from ..registry.manifest import CONFIG_TYPE, LAYER_PREFIX, Layer, Manifest, print_manifest
from ..registry.store import MAX_SMALL, Store
from ..runner.quantize import quantize
from ..runner.render import Renderer
from ..types import OPTION_KINDS, Message, Progress, parse_options
from .threads import Report, followed

log = logging.getLogger(__name__)

MOST_FILES = 1024
"""Files of one request: the shards of the largest models are some two hundred."""

_NOT_QUANTIZED = {"F32", "F16", "BF16"}
_NO_DIGEST = "0000000000000000000"  # what Ollama says of a file that has none yet

Pull = Callable[[str], AsyncGenerator[Progress, None]]
"""Gets a model of that name into the store."""


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What to make. ``files`` and ``adapters`` are names and digests of uploaded blobs; "" and () mean not given."""

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


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of the model to be: a blob that is there, or what will be one: a text, or a file that was made."""

    layer: Layer
    content: bytes | None = None
    made: Path | None = None

    @property
    def kind(self) -> str:
        return self.layer.kind


# ---- what is asked ---------------------------------------------------------------------------------------------------


def check(request: CreateRequest) -> CreateRequest:
    """The request with its values as they are stored. Raises InvalidName, InvalidRequest; looks at no file."""
    Name.parse(request.model)
    if not request.from_ and not request.files:
        raise InvalidRequest("neither 'from' or 'files' was specified")
    if request.from_ and request.files:
        raise InvalidRequest("'from' and 'files' were both specified, a model has one of them")
    if request.from_:
        Name.parse(request.from_)
    for files in (request.files, request.adapters):
        if len(files) > MOST_FILES:
            raise InvalidRequest(f"{len(files)} files are too many, at most {MOST_FILES}")
    if request.template:
        check_template(request.template)
    return replace(
        request,
        parameters=typed_parameters(request.parameters),
        requires=_version(request.requires),
        quantize=type_name(request.quantize) if request.quantize else "",
    )


def check_template(template: str) -> None:
    """Raises InvalidRequest if this is no Go template."""
    try:
        templates.check_go(template)
    except TemplateError as error:
        raise InvalidRequest(f"template error: {error}") from None


def typed_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as the params layer has them, those that do nothing any more and those that nobody knows left out.

    Raises InvalidRequest for a value of the wrong type.
    """
    typed: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or name not in OPTION_KINDS:
            continue
        values = [value] if name == "stop" and isinstance(value, str) else value
        typed[name] = _stored(getattr(parse_options({name: values})[0], name))
    return typed


def about_unknown(given: Mapping[str, Any]) -> str:
    """What to say of parameters that nobody knows: a client newer than this, or a slip. Empty where all are known."""
    unknown = [name for name in given if name not in OPTION_KINDS and name not in DEPRECATED]
    if not unknown:
        return ""
    named = ", ".join(human.quote(name[:80]) for name in unknown[:5])
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


# ---- making it -------------------------------------------------------------------------------------------------------


async def create(
    store: Store, renderer: Renderer, pull: Pull, request: CreateRequest
) -> AsyncGenerator[Progress, None]:
    """Make the model, step by step. A model of that name is replaced.

    Raises InvalidName and InvalidRequest for what cannot be made, StoreError (the disk), RunnerError (quantizing), what ``pull``
    raises, before anything of the new model is to be seen.
    """
    note = about_unknown(request.parameters)
    request = await asyncio.to_thread(check, request)
    sent = {parse_digest(each) for each in (*request.files.values(), *request.adapters.values())}
    lease = store.reserve(sent)
    try:
        await asyncio.to_thread(lease.open)
        making = _Making(store, lease, renderer, pull, request, note)
        async with aclosing(making.steps()) as steps:
            async for step in steps:
                yield step
    finally:
        await asyncio.to_thread(lease.close)
        if sent:
            with suppress(StoreError):
                uploads = [Layer("", digest, 0) for digest in sent]
                await asyncio.to_thread(store.remove_unused, uploads)


class _Making:
    """One creation on its way: the parts it has so far, and the configuration they come with.

    ``lease`` keeps the blobs that it needs and removes its work files.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        renderer: Renderer,
        pull: Pull,
        request: CreateRequest,
        note: str,
    ) -> None:
        self._note = note
        self._store = store
        self._lease = lease
        self._renderer = renderer
        self._pull = pull
        self._request = request
        self._parts: list[Part] = []
        self._config: dict[str, Any] = {}

    async def steps(self) -> AsyncGenerator[Progress, None]:
        """All of it, in order."""
        # 1) what it is made from
        base = self._from_model() if self._request.from_ else self._from_files()
        async with aclosing(base) as steps:
            async for step in steps:
                yield step
        if self._request.adapters:
            async with aclosing(self._adapt()) as steps:
                async for step in steps:
                    yield step

        if self._request.quantize:
            async with aclosing(self._quantize()) as steps:
                async for step in steps:
                    yield step

        # 2) what is said beside the weights
        if not self._request.template and not self._request.from_:
            known = await self._known_format()
            if known:
                yield Progress(f"using autodetected template {known.name}")
                self._put_text("template", known.go)
                self._put_json("params", {"stop": list(known.stops)})
        await asyncio.to_thread(self._merge)

        # 3) the model
        parts = in_order(self._parts)
        for part in parts:
            is_here = await asyncio.to_thread(self._store.has, part.layer.digest)
            what = "using existing" if is_here else "creating new"
            yield Progress(f"{what} layer {part.layer.digest}")
        yield Progress("writing manifest")
        config = await asyncio.to_thread(self._described)
        name = Name.parse(self._request.model)
        await asyncio.to_thread(commit, self._store, self._lease, name, parts, config)
        yield Progress("success", note=self._note)

    # What it is made from

    async def _from_model(self) -> AsyncGenerator[Progress, None]:
        name = Name.parse(self._request.from_)
        if await asyncio.to_thread(self._store.find, name) is None:
            async with aclosing(self._pull(self._request.from_)) as steps:
                async for step in steps:
                    if step.status != "success":
                        yield step
        await asyncio.to_thread(self._take, name)

    def _take(self, name: Name) -> None:
        """The layers and the configuration of a model that is there."""
        name = self._store.find(name) or name
        self._lease.add(*(layer.digest for layer in self._store.manifest(name).blobs))
        manifest = self._store.manifest(name)  # still there, and so are its blobs from now on
        self._config = _config_of(self._store.read_small(manifest.config))
        if self._config.get("model_format", "gguf") != "gguf" or not any(
            layer.kind == "model" for layer in manifest.layers
        ):
            raise InvalidRequest(
                f"'{name.display}' has no weights in a GGUF file, choose another model for FROM"
            )
        self._parts = [
            Part(replace(layer, from_=name.display)) for layer in manifest.layers if layer.kind
        ]

    async def _from_files(self) -> AsyncGenerator[Progress, None]:
        files = await asyncio.to_thread(self._uploaded, self._request.files)
        if any(file.is_safetensors for file in files):
            making = self._make("converting model", "model", partial(convert, by_name(files)))
        elif checkpoint := await asyncio.to_thread(llama2c_of, files):
            making = self._make("converting model", "model", partial(llama2c.convert, *checkpoint))
        else:
            yield Progress("parsing GGUF")
            self._parts = await asyncio.to_thread(gguf_parts, files)
            return
        async with aclosing(making) as steps:
            async for step in steps:
                yield step

    async def _adapt(self) -> AsyncGenerator[Progress, None]:
        files = await asyncio.to_thread(self._uploaded, self._request.adapters)
        model = await asyncio.to_thread(self._model)
        if any(file.is_safetensors for file in files):
            work = partial(convert_adapter, by_name(files), model)
            async with aclosing(self._make("converting adapter", "adapter", work)) as steps:
                async for step in steps:
                    yield step
            return
        yield Progress("parsing GGUF")
        adapters = await asyncio.to_thread(gguf_parts, files, adapters=True)
        for part in adapters:
            check_adapter(await asyncio.to_thread(read_header, self._file(part)), model)
        here = {part.layer.digest for part in self._parts}
        self._parts += [part for part in adapters if part.layer.digest not in here]

    async def _make(
        self, status: str, kind: str, work: Callable[..., None]
    ) -> AsyncGenerator[Progress, None]:
        """Have a file made, ``work(target, progress=...)``, and take it as a layer of that kind, in the place of none."""
        target = self._lease.work_path()

        def making(report: Report) -> None:
            def progress(done: int, total: int) -> None:
                report(Progress(status, total=total, completed=done))

            work(target, progress=progress)

        yield Progress(status)
        try:
            async with aclosing(followed(making, threading.Event())) as steps:
                async for step in steps:
                    yield step
        except InvalidModel as error:
            raise InvalidRequest(str(error)) from None
        self._parts.append(await asyncio.to_thread(made_part, kind, target))

    async def _quantize(self) -> AsyncGenerator[Progress, None]:
        """The model's weights anew, in another type."""
        model = await asyncio.to_thread(self._model)
        if not {tensor.type_name for tensor in model.tensors} <= _NOT_QUANTIZED:
            raise InvalidRequest(
                "quantization is only supported for F16, BF16 and F32 models, make it from one of these"
            )
        wanted, total = self._request.quantize, model.weights_size
        status = f"quantizing {_widest(model)} model to {wanted}"
        yield Progress(status, _NO_DIGEST, total)
        target = self._lease.work_path()
        source = await asyncio.to_thread(self._as_llama_cpp_names, self._files("model"))
        async with aclosing(quantize(source, target, TYPES[wanted])) as fractions:
            async for fraction in fractions:
                yield Progress(status, _NO_DIGEST, total, round(fraction * total))
        made = await asyncio.to_thread(made_part, "model", target)
        self._parts = [made, *(part for part in self._parts if part.kind != "model")]
        self._config.pop("file_type", None)

    def _as_llama_cpp_names(self, paths: Sequence[Path]) -> Path:
        """The first file of a model, such that llama.cpp finds the other shards beside it, which it does by their names."""
        if len(paths) == 1:
            return paths[0]
        folder = self._lease.work_path()
        folder.mkdir()
        links = [folder / f"model-{i:05}-of-{len(paths):05}.gguf" for i in range(1, len(paths) + 1)]
        for link, path in zip(links, paths, strict=True):
            link.symlink_to(path.absolute())
        return links[0]

    def _model(self) -> Header:
        """What the model's files say."""
        return joined([read_header(path) for path in self._files("model")])

    def _uploaded(self, files: Mapping[str, str]) -> list[Upload]:
        """The uploaded files, by their names."""
        found = []
        for name, digest in sorted(files.items()):
            if not self._store.has(digest):
                shown = human.quote(name)
                raise InvalidRequest(
                    f"{shown} was not uploaded, send it first: POST /api/blobs/{digest}"
                )
            self._store.touch(digest)
            path = self._store.blob_path(digest)
            found.append(Upload(name, path, parse_digest(digest), path.stat().st_size))
        return found

    def _files(self, kind: str) -> list[Path]:
        return [self._file(part) for part in self._parts if part.kind == kind]

    def _file(self, part: Part) -> Path:
        return part.made or self._store.blob_path(part.layer.digest)

    # What is said beside the weights

    async def _known_format(self) -> ChatFormat | None:
        """The chat format that the file's own template writes, if it is a known one."""
        path = self._files("model")[0]
        header = await asyncio.to_thread(read_header, path)
        jinja = header.chat_template or ""
        if not any(candidates(jinja)):
            return None
        header = await asyncio.to_thread(read_header, path, arrays=True)  # the vocabulary
        try:
            return await recognise(self._renderer, jinja, marks_of(header))
        except TemplateTooSlow as error:
            log.warning("the chat format of %s is not looked for: %s", self._request.model, error)
            return None

    def _merge(self) -> None:
        """What the request says, over what the base says."""
        request = self._request
        if request.template:
            # The default says as much as no template at all, which is what was printed for none
            is_default = request.template.strip() == templates.DEFAULT_GO
            self._put_text("template", "" if is_default else request.template)
        if request.system:
            self._put_text("system", request.system)
        if request.parameters:
            merged = {**self._parameters(), **request.parameters}
            self._put_json("params", dict(sorted(merged.items())))
        if request.messages:
            turns = [{"role": each.role, "content": each.content} for each in request.messages]
            self._put_json("messages", turns)
        for text in request.licenses:
            part = text_part("license", text.encode())
            if text and part.layer.digest not in {each.layer.digest for each in self._parts}:
                self._parts.append(part)

    def _parameters(self) -> dict[str, Any]:
        """The base's."""
        return read_parameters(
            (part.content or self._store.read_small(part.layer)).decode("utf-8", "replace")
            for part in self._parts
            if part.kind == "params"
        )

    def _put_text(self, kind: str, text: str) -> None:
        self._put(kind, text.encode())

    def _put_json(self, kind: str, value: Any) -> None:
        self._put(kind, go_json(value) + b"\n" if value else b"")

    def _put(self, kind: str, content: bytes) -> None:
        """In the place of all parts of that kind; nothing, if there is no content."""
        replaced = {kind, "prompt"} if kind == "template" else {kind}
        self._parts = [part for part in self._parts if part.kind not in replaced]
        if content:
            self._parts.append(text_part(kind, content))

    def _described(self) -> bytes:
        """The configuration blob: the base's, or else what the files say, and what the request adds."""
        config = dict(self._config)
        if not config.get("model_family") or not config.get("file_type"):
            projectors = [read_header(path) for path in self._files("projector")]
            config = describe(self._model(), projectors) | config
        for key in ("renderer", "parser", "requires"):
            if value := getattr(self._request, key):
                config[key] = value
        config |= PLATFORM
        return go_json({key: config[key] for key in _CONFIG_KEYS if config.get(key)}) + b"\n"


# ---- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file: the name it was sent under, and the blob."""

    name: str
    path: Path
    digest: str
    size: int

    @property
    def is_safetensors(self) -> bool:
        return self.name.endswith(".safetensors")


def by_name(files: Sequence[Upload]) -> dict[str, Path]:
    """The files of a model's folder by their names in it."""
    return {file.name.rpartition("/")[2]: file.path for file in files}


def llama2c_of(files: Sequence[Upload]) -> tuple[Path, Path] | None:
    """A llama2.c checkpoint and the tokenizer that was sent with it; None if the files are something else.

    Raises InvalidRequest for a checkpoint without a tokenizer.
    """
    if not all(file.name.endswith(".bin") for file in files):
        return None
    names = by_name(files)
    tokenizers = {name: path for name, path in names.items() if name.startswith("tok")}
    checkpoints = [path for name, path in names.items() if name not in tokenizers]
    if len(checkpoints) != 1:
        return None
    try:
        vocabulary = llama2c.read_checkpoint(checkpoints[0]).vocab_size
    except InvalidModel as error:
        raise InvalidRequest(str(error)) from None
    for name in (f"tok{vocabulary}.bin", "tokenizer.bin", *tokenizers):
        if name in tokenizers:
            return checkpoints[0], tokenizers[name]
    raise InvalidRequest(
        f"the llama2.c checkpoint comes without its tokenizer, send the tokenizer.bin with {vocabulary} pieces, too"
    )


def made_part(kind: str, path: Path) -> Part:
    """The layer that a file which was made will be."""
    return Part(Layer(LAYER_PREFIX + kind, file_digest(path), path.stat().st_size), made=path)


def gguf_parts(files: Sequence[Upload], *, adapters: bool = False) -> list[Part]:
    """The layers that GGUF files make: one model, in one file or in shards, and projectors and adapters beside it.

    With ``adapters`` only such. Raises InvalidRequest for what is not that.
    """
    headers = [(file, _header(file)) for file in files]
    models = [(file, header) for file, header in headers if _kind(header) == "model"]
    if adapters:
        if models:
            raise InvalidRequest(
                f"{human.quote(models[0][0].name)} is a model and no adapter, name it with FROM"
            )
        if any(_kind(header) != "adapter" for _, header in headers):
            raise InvalidRequest("an adapter must be a LoRA, and one of the files is a projector")
    elif not models:
        raise InvalidRequest("no file is a model: the weights are missing")
    others = [(file, header) for file, header in headers if _kind(header) != "model"]
    return [
        Part(Layer(LAYER_PREFIX + _kind(header), file.digest, file.size, name=name))
        for file, header, name in (
            *((file, header, name) for file, header, name in _in_shards(models)),
            *((file, header, "") for file, header in others),
        )
    ]


def _header(file: Upload) -> Header:
    try:
        with file.path.open("rb") as opened:
            magic = opened.read(4)
        if magic != b"GGUF":
            raise InvalidRequest(
                f"supplied file was not in GGUF format: {human.quote(file.name)}, convert it or get it again"
            )
        return read_header(file.path)
    except InvalidModel as error:
        raise InvalidRequest(f"{human.quote(file.name)}: {error}") from None


def _kind(header: Header) -> str:
    """What a GGUF file is: "model", "projector" or "adapter"."""
    if header.metadata.get("general.type") == "adapter":
        return "adapter"
    is_projector = header.architecture == "clip" or header.metadata.get("general.type") == "mmproj"
    return "projector" if is_projector else "model"


def _in_shards(models: Sequence[tuple[Upload, Header]]) -> list[tuple[Upload, Header, str]]:
    """One model's files in the order of its shards, with the names that say so; a single file needs none."""
    if not models:
        return []
    if len(models) == 1 and shard_of(models[0][1])[1] <= 1:
        return [(*models[0], "")]
    numbers = [shard_of(header) for _, header in models]
    count = numbers[0][1]
    if {total for _, total in numbers} != {count} or count <= 1:
        raise InvalidRequest(
            f"{len(models)} files are models, and they are no shards of one: name one of them"
        )
    if sorted(number for number, _ in numbers) != list(range(count)):
        raise InvalidRequest(
            f"invalid split GGUF: {len(models)} of {count} shards are there, send each of them once"
        )
    ordered = sorted(models, key=lambda each: shard_of(each[1])[0])
    return [
        (file, header, f"model-{number:05}-of-{count:05}.gguf")
        for number, (file, header) in enumerate(ordered, 1)
    ]


def shard_of(header: Header) -> tuple[int, int]:
    """Which shard a file is, from 0, and of how many: (0, 1) for a whole model."""
    number, count = (header.metadata.get(f"split.{key}") for key in ("no", "count"))
    if isinstance(number, int) and isinstance(count, int) and count > 1:
        return number, count
    return 0, 1


def check_adapter(adapter: Header, model: Header) -> None:
    """Raises InvalidRequest unless the LoRA is one for this model: its architecture, and each matrix of the size of the model's."""
    if adapter.architecture != model.architecture:
        raise InvalidRequest(
            f"the adapter is for {adapter.architecture} models and this one is {model.architecture},"
            " choose the model that it was made from"
        )
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    pairs = {tensor.name: tensor.shape for tensor in adapter.tensors}
    for name, shape in pairs.items():
        base, _, half = name.rpartition(".")
        if half not in ("lora_a", "lora_b") or base == "token_embd.weight":
            continue
        theirs = shapes.get(base)
        # W is (in, out); A is (in, rank) and B is (rank, out)
        fits = theirs is not None and (
            shape[0] == theirs[0] if half == "lora_a" else shape[-1] == theirs[-1]
        )
        if not fits:
            raise InvalidRequest(
                f"the adapter does not fit the model (its {base[:80]} is of another size),"
                " choose the model that it was made from"
            )


# ---- chat formats ----------------------------------------------------------------------------------------------------


def marks_of(header: Header) -> Marks:
    """The texts of BOS and EOS; the header was read with its arrays. Tokenizing is taken to add BOS: no template writes it."""
    tokens = header.metadata.get("tokenizer.ggml.tokens")

    def text(key: str) -> str:
        number = header.metadata.get(f"tokenizer.ggml.{key}_token_id")
        usable = isinstance(tokens, tuple) and isinstance(number, int) and number < len(tokens)
        return str(tokens[number]) if usable and tokens else ""

    return Marks(text("bos"), text("eos"), adds_bos=True)


async def recognise(renderer: Renderer, jinja: str, marks: Marks) -> ChatFormat | None:
    """The known format that a Jinja template writes, whatever else it says where there is no system message.

    Raises TemplateTooSlow where the template is, twice: once may be the machine's fault, and what a model is made of must not
    depend on that.
    """
    wanted = await _prompts(renderer, Template("jinja", jinja), marks)
    for each in candidates(jinja):
        got = await _prompts(renderer, Template("go", each.go), marks)
        with_system, *others = [
            mine == theirs != "" for mine, theirs in zip(got, wanted, strict=True)
        ]
        # Who puts a system message into a user's, which has no one way, need only agree without one
        if with_system or (all(others) and (each.folds_system or not wanted[0])):
            return each
    return None


async def _prompts(renderer: Renderer, template: Template, marks: Marks) -> list[str]:
    """A template's prompts for the probes; "" for one that it refuses. Raises TemplateTooSlow."""

    async def rendered(probe: Sequence[Message]) -> str:
        try:
            return await renderer.render(template, probe, marks=marks)
        except TemplateTooSlow:
            raise
        except TemplateError:
            return ""

    found = []
    for probe in PROBES:
        try:
            found.append(await rendered(probe))
        except TemplateTooSlow:
            found.append(await rendered(probe))
    return found


# ---- layers and the configuration ------------------------------------------------------------------------------------

_ORDER = ("model", "projector", "adapter", "", "template", "system", "license", "params", "messages")  # fmt: skip
_CONFIG_KEYS = (
    "model_format", "model_family", "model_families", "model_type", "file_type", "renderer", "parser", "requires",
    "capabilities", "context_length", "embedding_length", "base_name", "architecture", "os",
)  # fmt: skip


def in_order(parts: Iterable[Part]) -> list[Part]:
    """Weights, other layers, texts: so that two models that say the same have the same manifest."""

    def place(part: Part) -> tuple[int, str]:
        # Adapters add up, in whatever order
        among = part.layer.digest if part.kind == "adapter" else ""
        return _ORDER.index(part.kind if part.kind in _ORDER else ""), among

    return sorted(parts, key=place)


def text_part(kind: str, content: bytes) -> Part:
    """A layer that is a text. Raises InvalidRequest for one that would be too long to be read again."""
    if len(content) > MAX_SMALL:
        raise InvalidRequest(
            f"the {kind} is too long: {human.format_bytes(len(content))}, at most {human.format_bytes(MAX_SMALL)}"
        )
    return Part(Layer(LAYER_PREFIX + kind, digest_of(content), len(content)), content)


def _widest(model: Header) -> str:
    """The type of most of the weights."""
    sizes: Counter[str] = Counter()
    for tensor in model.tensors:
        sizes[tensor.type_name] += tensor.n_bytes
    return sizes.most_common(1)[0][0]


def _config_of(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def go_json(value: Any) -> bytes:
    """JSON as Go writes it: no spaces, what is special in HTML escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text).encode()


# ---- the commit ------------------------------------------------------------------------------------------------------


def commit(store: Store, lease: Lease, name: Name, parts: Sequence[Part], config: bytes) -> None:
    """Write blobs, then the manifest, then remove what the replaced model alone had. All of it or nothing.

    Raises StoreError.
    """
    added: list[Layer] = []
    described = Layer(CONFIG_TYPE, digest_of(config), len(config))
    replaced = _manifest(store, name)
    lease.add(described.digest, *(part.layer.digest for part in parts))
    try:
        for part in (*parts, Part(described, config)):
            if store.has(part.layer.digest):
                continue
            if part.made is not None:
                store.adopt_file(part.made, part.layer.digest)
            elif part.content is not None:
                store.add_blob(part.content)
            added.append(part.layer)
        store.write_manifest(name, print_manifest(described, [part.layer for part in parts]))
    except BaseException:
        with suppress(StoreError):
            lease.drop(*(layer.digest for layer in added))
            store.remove_unused(added)
        raise
    if replaced is not None:
        store.remove_unused(replaced.blobs)


def _manifest(store: Store, name: Name) -> Manifest | None:
    """The manifest of the model that will be replaced, if one can be read."""
    with suppress(ModelNotFound, InvalidModel, StoreError):
        return store.manifest(name)
    return None
