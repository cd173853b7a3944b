"""The story of a creation, run as a job (job.py), with Ollama's statuses.

    a request --> a base: layers and a configuration               parsing GGUF, converting model, quantizing ...
                  (of a model, of GGUF files, converted)
              --> the new model's layers                           using existing layer ..., creating new layer ...
              --> commit: blobs, then the manifest                 writing manifest, success

Until the commit nothing is in the store but work files. Every blob that the new model needs is reserved from the moment it is known
until the manifest names it. Blobs that no model names at the end are removed: those of a failed commit, and the uploaded files of a
folder that was converted. A GGUF is stored as it was uploaded, byte for byte.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...chat.formats import ChatFormat, candidates
from ...digests import digest_of, parse_digest
from ...errors import InvalidModel, InvalidRequest, ModelNotFound, StoreError, TemplateTooSlow
from ...formats.configuration import PLATFORM, describe, print_created_config, read_object
from ...formats.gguf import Header, joined, read_header
from ...formats.parameters import read_parameters
from ...formats.parts import check_adapter, checkpoint_of, in_folder
from ...formats.projector import check_projector
from ...formats.quantization import TYPES
from ...formats.seeing import sees
from ...human import quote
from ...names import Name
from ...registry.manifest import CONFIG_TYPE, Layer, print_manifest
from ...registry.reservation import Reservation
from ...registry.store import Store
from ...runner.convert import convert
from ...runner.protocol import Convert
from ...runner.quantize import quantize
from ...runner.render import Renderer
from ...types import Progress
from ..job import Job
from .files import Upload, by_name, gguf_layers
from .layers import NewLayer, file_layer, in_order
from .request import CreateRequest, checked, note_unknown
from .template import marks_of, recognise
from .texts import with_json, with_text, with_texts

log = logging.getLogger(__name__)

_NOT_QUANTIZED = {"F32", "F16", "BF16"}
_NO_DIGEST = "0000000000000000000"  # Ollama's digest of a file that has none yet

Pull = Callable[[str], AsyncGenerator[Progress, None]]
"""Gets a model of that name into the store, on the event loop."""


def create(store: Store, renderer: Renderer, pull: Pull, request: CreateRequest, job: Job) -> None:
    """Make the model. A model of that name is replaced.

    Raises InvalidName and InvalidRequest for a request that cannot be fulfilled, StoreError (the disk), RunnerError (quantizing), what ``pull``
    raises; no part of the new model is left then.
    """
    note = note_unknown(request.parameters)
    request = checked(request)
    uploads = {parse_digest(each) for each in (*request.files.values(), *request.adapters.values())}
    touched = set(uploads)
    try:
        with store.reserve(uploads) as reservation:
            _Making(store, renderer, pull, request, job, reservation, touched).make()
    finally:
        if touched:
            with suppress(StoreError):  # `prune` removes them later
                store.remove_unused(Layer("", digest, 0) for digest in touched)
    job.report(Progress("success", note=note))


class _Making:
    """One creation: the layers that it has so far, and the configuration that they come with.

    ``touched`` collects the digests of all blobs that may be unreferenced at the end.
    """

    def __init__(
        self,
        store: Store,
        renderer: Renderer,
        pull: Pull,
        request: CreateRequest,
        job: Job,
        reservation: Reservation,
        touched: set[str],
    ) -> None:
        self._store = store
        self._renderer = renderer
        self._pull = pull
        self._request = request
        self._job = job
        self._reservation = reservation
        self._touched = touched
        self._layers: list[NewLayer] = []
        self._config: dict[str, Any] = {}

    def make(self) -> None:
        """All of it, in order."""
        request = self._request
        # 1) the base
        if request.from_:
            self._from_model()
        try:
            if request.files and request.from_:
                self._add_projector()
            elif request.files:
                self._from_files()
            if request.adapters:
                self._adapt()
        except InvalidModel as error:
            raise InvalidRequest(str(error)) from None
        if request.quantize:
            self._quantize()

        # 2) the texts beside the weights
        if not request.template and not request.from_:
            self._use_known_format()
        self._layers = with_texts(self._layers, request, self._base_parameters())

        # 3) the model
        self._layers = in_order(self._layers)
        for each in self._layers:
            what = "using existing" if self._store.has(each.digest) else "creating new"
            self._job.report(Progress(f"{what} layer {each.digest}"))
        self._job.report(Progress("writing manifest"))
        self._commit()

    # ---- the base ----

    def _from_model(self) -> None:
        """The layers and the configuration of an installed model, which is pulled first if it is missing."""
        name = Name.parse(self._request.from_)
        if self._store.find(name) is None:
            self._job.run(self._pulled())
        name = self._store.find(name) or name
        self._reserve(*(layer.digest for layer in self._store.manifest(name).blobs))
        manifest = self._store.manifest(name)  # still installed, so its blobs stay from now on
        self._config = read_object(self._store.read_small(manifest.config))
        is_gguf = self._config.get("model_format", "gguf") == "gguf"
        if not is_gguf or not any(layer.kind == "model" for layer in manifest.layers):
            raise InvalidRequest(
                f"'{name.display}' has no weights in a GGUF file, choose another model for FROM"
            )
        self._layers = [
            NewLayer(replace(layer, from_=name.display)) for layer in manifest.layers if layer.kind
        ]

    async def _pulled(self) -> None:
        async with aclosing(self._pull(self._request.from_)) as steps:
            async for step in steps:
                if step.status != "success":
                    self._job.report(step)

    def _from_files(self) -> None:
        files = self._uploaded(self._request.files)
        named = by_name(files)
        if any(file.is_safetensors for file in files):
            self._convert_folder(in_folder(named))
        elif checkpoint := checkpoint_of(named):
            self._convert("model", Convert("llama2c", checkpoint, self._reservation.work_path()))
        else:
            self._job.report(Progress("parsing GGUF"))
            self._layers = gguf_layers(files)

    def _convert_folder(self, folder: Mapping[str, Path]) -> None:
        """A folder of safetensors: the model, and where it has a part that sees its projector."""
        files = dict(folder)
        self._convert("model", Convert("model", files, self._reservation.work_path()))
        if sees(files):
            order = Convert("projector", files, self._reservation.work_path())
            self._convert("projector", order)

    def _add_projector(self) -> None:
        """Give the model another projector, or its first one."""
        self._job.report(Progress("parsing GGUF"))
        [projector] = gguf_layers(self._uploaded(self._request.files), only="projector")
        check_projector(read_header(self._path(projector)), self._model())
        self._layers = [*(each for each in self._layers if each.kind != "projector"), projector]
        for key in ("model_families", "file_type"):  # described anew
            self._config.pop(key, None)

    def _adapt(self) -> None:
        files = self._uploaded(self._request.adapters)
        model = self._model()
        if any(file.is_safetensors for file in files):
            base = tuple(self._paths("model"))
            order = Convert(
                "adapter", in_folder(by_name(files)), self._reservation.work_path(), base
            )
            return self._convert("adapter", order)
        self._job.report(Progress("parsing GGUF"))
        adapters = gguf_layers(files, only="adapter")
        for each in adapters:
            check_adapter(read_header(self._path(each)), model)
        present = {each.digest for each in self._layers}
        self._layers += [each for each in adapters if each.digest not in present]

    def _convert(self, kind: str, order: Convert) -> None:
        """Have a child write the file, and add it as a layer of that kind."""
        status = f"converting {kind}"

        async def converted() -> None:
            async with aclosing(convert(order)) as steps:
                async for done, total in steps:
                    self._job.report(Progress(status, total=total, completed=done))

        self._job.report(Progress(status))
        try:
            self._job.run(converted())
        except InvalidModel as error:
            raise InvalidRequest(str(error)) from None
        self._layers.append(file_layer(kind, order.target))

    def _quantize(self) -> None:
        """Replace the model's weights by weights of another type."""
        model = self._model()
        if not {tensor.type_name for tensor in model.tensors} <= _NOT_QUANTIZED:
            raise InvalidRequest(
                "quantization is only supported for F16, BF16 and F32 models, make it from one of these"
            )
        wanted, total = self._request.quantize, model.weights_size
        status = f"quantizing {_widest(model)} model to {wanted}"
        self._job.report(Progress(status, _NO_DIGEST, total))
        target = self._reservation.work_path()
        source = self._as_llama_cpp_names(self._paths("model"))

        async def quantized() -> None:
            async with aclosing(quantize(source, target, TYPES[wanted])) as fractions:
                async for fraction in fractions:
                    done = round(fraction * total)
                    self._job.report(Progress(status, _NO_DIGEST, total, done))

        self._job.run(quantized())
        kept = [each for each in self._layers if each.kind != "model"]
        self._layers = [file_layer("model", target), *kept]
        self._config.pop("file_type", None)

    def _as_llama_cpp_names(self, paths: Sequence[Path]) -> Path:
        """The first file of a model, as llama.cpp needs it: it finds the other shards beside it, by their names."""
        if len(paths) == 1:
            return paths[0]
        folder = self._reservation.work_path()
        folder.mkdir()
        links = [folder / f"model-{i:05}-of-{len(paths):05}.gguf" for i in range(1, len(paths) + 1)]
        for link, path in zip(links, paths, strict=True):
            link.symlink_to(path.absolute())
        return links[0]

    # ---- files ----

    def _uploaded(self, files: Mapping[str, str]) -> list[Upload]:
        """The uploaded files, by their names."""
        found = []
        for name, digest in sorted(files.items()):
            if not self._store.has(digest):
                raise InvalidRequest(
                    f"{quote(name)} was not uploaded, send it first: POST /api/blobs/{digest}"
                )
            path = self._store.blob_path(digest)
            found.append(Upload(name, path, parse_digest(digest), path.stat().st_size))
        return found

    def _model(self) -> Header:
        """The header of all of the model's files."""
        return joined([read_header(path) for path in self._paths("model")])

    def _paths(self, kind: str) -> list[Path]:
        return [self._path(each) for each in self._layers if each.kind == kind]

    def _path(self, layer: NewLayer) -> Path:
        return layer.work or self._store.blob_path(layer.digest)

    # ---- the texts beside the weights ----

    def _use_known_format(self) -> None:
        """Add the template and the stops of the known chat format that the file's own template writes, if there is one."""
        found = self._known_format()
        if found is not None:
            self._job.report(Progress(f"using autodetected template {found.name}"))
            self._layers = with_text(self._layers, "template", found.go)
            self._layers = with_json(self._layers, "params", {"stop": list(found.stops)})

    def _known_format(self) -> ChatFormat | None:
        path = self._paths("model")[0]
        jinja = read_header(path).chat_template or ""
        if not any(candidates(jinja)):
            return None
        marks = marks_of(read_header(path, arrays=True))
        try:
            return self._job.run(recognise(self._renderer, jinja, marks))
        except TemplateTooSlow as error:
            log.warning("the chat format of %s is not recognised: %s", self._request.model, error)
            return None

    def _base_parameters(self) -> dict[str, Any]:
        return read_parameters(
            (each.content or self._store.read_small(each.layer)).decode("utf-8", "replace")
            for each in self._layers
            if each.kind == "params"
        )

    # ---- the commit ----

    def _commit(self) -> None:
        """Write blobs, then the manifest."""
        name, content = Name.parse(self._request.model), self._described()
        config = NewLayer(Layer(CONFIG_TYPE, digest_of(content), len(content)), content)
        layers = (*self._layers, config)
        self._reserve(*(each.digest for each in layers))
        self._touched |= self._replaced(name)
        for each in layers:
            if self._store.has(each.digest):
                continue
            if each.work is not None:
                self._store.adopt_file(each.work, each.digest)
            elif each.content is not None:
                self._store.add_blob(each.content)
        manifest = print_manifest(config.layer, [each.layer for each in self._layers])
        self._store.write_manifest(name, manifest, created=True)
        self._touched.difference_update(each.digest for each in layers)

    def _reserve(self, *digests: str) -> None:
        self._reservation.add(*digests)
        self._touched.update(digests)

    def _replaced(self, name: Name) -> set[str]:
        """The blobs of the model that will be replaced, if its manifest can be read."""
        with suppress(ModelNotFound, InvalidModel, StoreError):
            return {layer.digest for layer in self._store.manifest(name).blobs}
        return set()

    def _described(self) -> bytes:
        """The configuration blob: the base's, or else what the files say, and what the request adds."""
        config = dict(self._config)
        if not config.get("model_family") or not config.get("file_type"):
            projectors = [read_header(path) for path in self._paths("projector")]
            config = describe(self._model(), projectors) | config
        for key in ("renderer", "parser", "requires"):
            if value := getattr(self._request, key):
                config[key] = value
        return print_created_config(config | PLATFORM)


def _widest(model: Header) -> str:
    """The type of most of the weights."""
    sizes: Counter[str] = Counter()
    for tensor in model.tensors:
        sizes[tensor.type_name] += tensor.n_bytes
    return sizes.most_common(1)[0][0]
