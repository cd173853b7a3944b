"""Making models on real stores with real GGUF files: the rules of what counts, the steps, and nothing half-made."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from ollamapy.errors import (
    InvalidName,
    InvalidRequest,
    ModelNotFound,
    OllamapyError,
    RequestCancelled,
    StoreError,
)
from ollamapy.formats.modelfile import parse
from ollamapy.models.create.making import Pull, create
from ollamapy.models.create.request import CreateRequest
from ollamapy.models.job import Job
from ollamapy.models.models import Models
from ollamapy.names import Name
from ollamapy.registry.store import Store
from ollamapy.runner.render import Renderer
from ollamapy.types import Message, Progress
from tests.formats import folders
from tests.shards import split
from tests.small_models import CHATML, GO_CHATML, install

OLLAMAS = Path(__file__).parent.parent / "data" / "store"


@pytest.fixture
def base(tmp_path: Path, scripted: Path) -> Store:
    """A store with "base", which says something of everything."""
    install(
        tmp_path,
        "base",
        scripted,
        template=GO_CHATML,
        system="Old.",
        params={"stop": ["<|im_end|>"], "num_ctx": 1024},
        messages=[{"role": "user", "content": "q"}],
        license="MIT",
    )
    return Store([tmp_path])


async def no_pull(name: str) -> AsyncGenerator[Progress, None]:
    raise ModelNotFound(f"model '{name}' not found")
    yield Progress("")


def started(store: Store, renderer: Renderer, request: CreateRequest, pull: Pull = no_pull) -> Job:
    """A running creation."""
    job = Job("create", request.model)
    job.start(partial(create, store, renderer, pull, request))
    return job


def make(store: Store, model: str = "new", **request: Any) -> list[str]:
    """Create a model; the statuses of the steps."""
    return [step.status for step in steps_of(store, model, **request)]


def steps_of(store: Store, model: str, **request: Any) -> list[Progress]:
    """Create a model."""

    async def run() -> list[Progress]:
        renderer = Renderer()
        try:
            steps = started(store, renderer, CreateRequest(model, **request)).watch()
            return [step async for step in steps]
        finally:
            await renderer.close()

    return asyncio.run(run())


def show(store: Store, name: str) -> dict[str, Any]:
    return asyncio.run(Models(store).show(name))[1]


def layers(store: Store, name: str) -> list[tuple[str, str]]:
    return [(layer.kind, layer.digest) for layer in store.manifest(Name.parse(name)).layers]


def upload(store: Store, **files: Path) -> dict[str, str]:
    """File names (``__`` for a dot) and their digests."""
    return {
        name.replace("__", "."): store.add_blob(path.read_bytes()) for name, path in files.items()
    }


def everything(root: Path) -> set[str]:
    """Every file of a store but its lock."""
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return found - {"partial/lock"}


# What counts, where the request and the base both say something

RULES: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
    ("nothing given", {}, {"system": "Old.", "template": GO_CHATML, "license": "MIT"}),
    ("a system", {"system": "New."}, {"system": "New.", "template": GO_CHATML}),
    ("an empty system", {"system": ""}, {"system": "Old."}),
    ("a template", {"template": "{{ .Prompt }}!"}, {"template": "{{ .Prompt }}!"}),
    ("the default template", {"template": "{{ .Prompt }}"}, {"template": CHATML}),
    (
        "a parameter more",
        {"parameters": {"temperature": 0.7}},
        {"parameters": {"num_ctx": 1024, "stop": ["<|im_end|>"], "temperature": 0.7}},
    ),
    (
        "another value",
        {"parameters": {"num_ctx": 64.0, "stop": "##"}},
        {"parameters": {"num_ctx": 64, "stop": ["##"]}},
    ),
    (
        "parameters that are null or do nothing any more",
        {"parameters": {"num_ctx": None, "mirostat": 2}},
        {"parameters": {"num_ctx": 1024, "stop": ["<|im_end|>"]}},
    ),
    (
        "whole numbers have no point",
        {"parameters": {"temperature": 0.0, "top_p": 1}},
        {"parameters": {"num_ctx": 1024, "stop": ["<|im_end|>"], "temperature": 0, "top_p": 1}},
    ),
    (
        "messages",
        {"messages": (Message("system", "s"), Message("user", "u"))},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]},
    ),
    ("licences add up", {"licenses": ("A", "B")}, {"license": "MIT\nA\nB"}),
    ("but none twice", {"licenses": ("MIT",)}, {"license": "MIT"}),
    ("a version", {"requires": "v0.14.0"}, {"requires": "0.14.0"}),
]


@pytest.mark.parametrize(
    ("given", "expected"), [rule[1:] for rule in RULES], ids=[r[0] for r in RULES]
)
def test_what_counts(base: Store, given: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    make(base, from_="base", **given)
    got = show(base, "new")
    if "parameters" in expected:
        [params] = [
            each for each in base.manifest(Name.parse("new")).layers if each.kind == "params"
        ]
        assert json.loads(base.read_small(params)) == expected["parameters"]
        expected = {}
    assert {key: got[key] for key in expected} == expected
    assert got["details"].parent_model == "base:latest"


def test_renderer_parser_and_what_the_base_says_of_itself(base: Store) -> None:
    make(base, "one", from_="base", renderer="r", parser="p", requires="1.2.3")
    make(base, "two", from_="one", parser="other")
    config = json.loads(base.read_small(base.manifest(Name.parse("two")).config))
    assert (config["renderer"], config["parser"], config["requires"]) == ("r", "other", "1.2.3")
    assert (config["model_format"], config["model_family"]) == ("gguf", "llama")


def test_the_steps_are_ollamas_in_its_order(base: Store) -> None:
    old = dict(layers(base, "base"))
    steps = make(
        base,
        from_="base",
        system="Be brief.",
        parameters={"temperature": 0},
        messages=(Message("user", "q"), Message("assistant", "a")),
    )
    new = dict(layers(base, "new"))
    assert steps == [
        f"using existing layer {old['model']}",
        f"using existing layer {old['template']}",
        f"creating new layer {new['system']}",
        f"using existing layer {old['license']}",
        f"creating new layer {new['params']}",
        f"creating new layer {new['messages']}",
        "writing manifest",
        "success",
    ]
    # The digests of Ollama for the same texts
    assert new["system"].startswith("sha256:213c22ed7234eb11")
    assert new["messages"].startswith("sha256:ea68b78e67e7b04e")


# From files


def test_a_gguf_is_stored_as_it_is_and_gets_the_chat_format_that_it_writes(
    tmp_path: Path, scripted: Path
) -> None:
    store = Store([tmp_path / "store"])
    steps = make(store, files=upload(store, hello__gguf=scripted))
    assert steps[:2] == ["parsing GGUF", "using autodetected template chatml"]
    found = dict(layers(store, "new"))
    assert store.blob_path(found["model"]).read_bytes() == scripted.read_bytes()
    # As Ollama made its own: the template, the stops, to the byte
    theirs = dict(layers(Store([OLLAMAS]), "hello"))
    assert (found["template"], found["params"]) == (theirs["template"], theirs["params"])


def test_a_template_that_is_given_leaves_no_guess(tmp_path: Path, scripted: Path) -> None:
    store = Store([tmp_path / "store"])
    steps = make(store, files=upload(store, m__gguf=scripted), template="{{ .Prompt }}?")
    assert "using autodetected template chatml" not in steps
    assert [kind for kind, _ in layers(store, "new")] == ["model", "template"]


def test_what_is_printed_makes_the_same_model_again(
    base: Store, plain: Path, tmp_path: Path
) -> None:
    install(base.roots[0], "plain", plain)
    make(
        base,
        "some",
        from_="base",
        system='"Be" brief.\n',
        parameters={"stop": [" x", '"y"']},
        messages=(Message("user", "two\nlines"), Message("assistant", "")),
        licenses=("A\n\nlicence",),
    )
    make(base, "bare", from_="plain", parameters={"temperature": 0.7, "seed": 2**40})
    two = [_adapter(tmp_path / f"{alpha}.gguf", alpha=alpha) for alpha in (1.0, 2.0)]
    make(base, "one", from_="plain", adapters=upload(base, a__gguf=two[0]), requires="0.14.0")
    make(base, "two", from_="one", adapters=upload(base, a__gguf=two[1]))
    assert len(layers(base, "two")) == 3
    for name in ("some", "bare", "plain", "one", "two"):
        printed = parse(show(base, name)["modelfile"])
        typed, _ = printed.parameters()
        make(
            base,
            "again",
            files=_uploaded(printed.values("FROM")),
            adapters=_uploaded(printed.values("ADAPTER")),
            requires=printed.requires() or "",
            template=printed.last("TEMPLATE") or "",
            system=printed.last("SYSTEM") or "",
            licenses=tuple(printed.values("LICENSE")),
            parameters=typed,
            messages=printed.messages,
        )
        assert layers(base, "again") == layers(base, name), name
        assert show(base, "again").get("requires") == show(base, name).get("requires")


def _uploaded(paths: Sequence[str]) -> dict[str, str]:
    """Blobs by the names of their files, as the command sends them."""
    return {Path(path).name: Path(path).name.replace("-", ":") for path in paths}


def test_shards_are_one_model(tmp_path: Path, plain: Path) -> None:
    store = Store([tmp_path / "store"])
    shards = split(plain, tmp_path)
    files = {path.name: store.add_blob(path.read_bytes()) for path in reversed(shards)}
    make(store, files=files)
    make(store, "whole", files=upload(store, plain__gguf=plain))
    assert [digest for kind, digest in layers(store, "new") if kind == "model"] == [
        files[path.name] for path in shards
    ]
    of_shards, whole = show(store, "new"), show(store, "whole")
    assert of_shards["details"].parameter_size == whole["details"].parameter_size
    assert len(of_shards["tensors"]) == len(whole["tensors"])
    assert of_shards["modelfile"].count("\nFROM ") == 2
    with pytest.raises(InvalidRequest, match="invalid split GGUF: 1 of 2 shards"):
        make(store, files={"a.gguf": files[shards[0].name]})


def test_quantize(base: Store) -> None:
    steps = make(base, from_="base", quantize="q8_0")
    assert steps[0] == "quantizing F32 model to Q8_0"
    assert show(base, "new")["details"].quantization_level == "Q8_0"
    with pytest.raises(InvalidRequest, match="only supported for F16, BF16 and F32"):
        make(base, "twice", from_="new", quantize="Q4_0")
    assert base.find(Name.parse("twice")) is None


def _adapter(
    path: Path, *, architecture: str = "llama", width: int = 64, alpha: float = 4.0
) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for half, shape in (("a", (2, width)), ("b", (64, 2))):
        writer.add_tensor(f"blk.0.attn_q.weight.lora_{half}", np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_an_adapter_is_a_layer_and_another_runner(tmp_path: Path, plain: Path) -> None:
    store = Store([tmp_path / "store"])
    install(store.roots[0], "plain", plain)
    adapter = _adapter(tmp_path / "a.gguf")
    make(store, from_="plain", adapters=upload(store, a__gguf=adapter))
    assert [kind for kind, _ in layers(store, "new")] == ["model", "adapter"]
    models = Models(store)
    with_adapter, without = (asyncio.run(models.load(name)) for name in ("new", "plain"))
    assert with_adapter.files.adapters[0].path.read_bytes() == adapter.read_bytes()
    assert with_adapter.files.key != without.files.key
    assert f"\nADAPTER {with_adapter.files.adapters[0].path}\n" in show(store, "new")["modelfile"]
    assert with_adapter.files.adapter_size == 4 * 2 * (64 + 64) and without.files.adapter_size == 0
    make(store, "twice", from_="new", adapters=upload(store, a__gguf=adapter))
    assert layers(store, "twice") == layers(store, "new"), "the same one is there already"


# What cannot be made


def _not_gguf(folder: Path) -> Path:
    path = folder / "no.gguf"
    path.write_bytes(b"hello")
    return path


def test_parameters_that_nobody_knows_are_left_out_and_named(base: Store) -> None:
    """A newer client may know more than we do: its model is made."""
    *_, last = steps_of(base, "new", from_="base", parameters={"no_such": [1], "num_ctx": 64})
    assert last.status == "success" and "no_such" in last.note
    assert "no_such" not in show(base, "new")["parameters"]
    *_, last = steps_of(base, "new", from_="base", parameters={"num_ctx": 64, "mirostat": 2})
    assert not last.note


REFUSED: list[tuple[str, Mapping[str, Any], str]] = [
    ("no source", {}, "neither 'from' or 'files' was specified"),
    (
        "two sources",
        {"from_": "base", "files": {"a.gguf": f"sha256:{'1' * 64}"}},
        "was not uploaded",
    ),
    (
        "no Go template",
        {"from_": "base", "template": "{{ if }}"},
        "template error: .*missing value",
    ),
    ("a template of megabytes", {"from_": "base", "template": "x" * 200_000}, "template error"),
    ("a wrong type", {"from_": "base", "parameters": {"num_ctx": "x"}}, "must be of type integer"),
    ("no version", {"from_": "base", "requires": "new"}, "valid semver"),
    ("no quantization", {"from_": "base", "quantize": "q9_9"}, "Q9_9|q9_9"),
    ("no such blob", {"files": {"a.gguf": f"sha256:{'3' * 64}"}}, "was not uploaded"),
    ("no digest", {"files": {"a.gguf": "md5:12"}}, "invalid digest format"),
]


@pytest.mark.parametrize(
    ("given", "why"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_what_is_refused(base: Store, given: Mapping[str, Any], why: str) -> None:
    before = everything(base.roots[0])
    with pytest.raises(InvalidRequest, match=why):
        make(base, **given)
    assert everything(base.roots[0]) == before


def test_a_model_that_is_nowhere(base: Store) -> None:
    with pytest.raises(ModelNotFound):
        make(base, from_="nosuch")
    with pytest.raises(InvalidName):
        make(base, "a b", from_="base")


def test_files_that_lie(base: Store, tmp_path: Path, plain: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    safetensors = folder / "model.safetensors"
    safetensors.write_bytes((2**62).to_bytes(8, "little") + b'{"a": {}}')
    config = folder / "config.json"
    config.write_text(json.dumps(folders.config_json(folders.FAMILIES["llama"])))
    cut = folder / "cut.gguf"
    cut.write_bytes(plain.read_bytes()[:50_000])
    other = _adapter(folder / "gemma.gguf", architecture="gemma")
    narrow = _adapter(folder / "narrow.gguf", width=32)
    install(base.roots[0], "plain", plain)
    files: list[tuple[dict[str, Path], str]] = [
        ({"a__gguf": _not_gguf(folder)}, "not in GGUF format"),
        ({"a__gguf": cut}, "damaged or cut off"),
        ({"model__safetensors": safetensors, "config__json": config}, "its header claims"),
        ({"a__gguf": other}, "no file is a model"),
    ]
    adapters: list[tuple[dict[str, Path], str]] = [
        ({"a__gguf": plain}, "is a model and neither adapter nor projector"),
        ({"a__gguf": other}, "is for gemma models"),
        ({"a__gguf": narrow}, "of another size"),
    ]
    before = everything(base.roots[0])
    for sent, why in files:
        with pytest.raises(InvalidRequest, match=why) as caught:
            make(base, files=upload(base, **sent))
        assert caught.value.status == 400
        assert everything(base.roots[0]) == before, "nor are the files kept"
    for sent, why in adapters:
        with pytest.raises(InvalidRequest, match=why):
            make(base, from_="plain", adapters=upload(base, **sent))
        assert everything(base.roots[0]) == before


def test_what_was_sent_stays_only_as_part_of_a_model(tmp_path: Path, plain: Path) -> None:
    store = Store([tmp_path / "store"])
    sent = upload(store, m__gguf=plain)
    make(store, files=sent)
    make(store, "small", files=upload(store, m__gguf=plain), quantize="f16")
    assert store.has(sent["m.gguf"]), "another model has it"
    store.delete(Name.parse("new"))
    make(store, "small", files=upload(store, m__gguf=plain), quantize="f16")
    assert not store.has(sent["m.gguf"]), "it was only what the model was made from"
    # but not while another creation needs it
    sent = upload(store, m__gguf=plain)
    with store.reserve(sent.values()):
        make(store, "small", files=sent, quantize="f16")
        assert store.has(sent["m.gguf"])
        make(store, files=sent)
    assert store.has(sent["m.gguf"])


def test_the_base_is_removed_while_a_model_is_made_of_it(base: Store) -> None:
    class Deleting(Job):
        """Deletes the base in the middle of the creation."""

        def report(self, step: Progress) -> None:
            if step.status.startswith("quantizing") and base.find(Name.parse("base")):
                base.delete(Name.parse("base"))
            super().report(step)

    async def run() -> list[str]:
        renderer = Renderer()
        job = Deleting("create", "new")
        request = CreateRequest("new", from_="base", quantize="f16")
        job.start(partial(create, base, renderer, no_pull, request))
        seen = [step.status async for step in job.watch()]
        await renderer.close()
        return seen

    assert asyncio.run(run())[-1] == "success"
    model = base.manifest(Name.parse("new"))
    assert all(base.has(layer.digest) for layer in model.blobs)
    assert base.names() == [Name.parse("new")]


@pytest.mark.parametrize(
    "given",
    [{"licenses": ("x" * 9_000_000,)}, {"system": "ü" * 5_000_000}],
    ids=["license", "system"],
)
def test_a_text_that_could_not_be_read_again_is_refused(base: Store, given: dict[str, Any]) -> None:
    before = everything(base.roots[0])
    with pytest.raises(InvalidRequest, match=r"is too long: (9|10)\.?0? MB, at most 8\.4 MB"):
        make(base, from_="base", **given)
    assert everything(base.roots[0]) == before


# Nothing half-made


@pytest.fixture
def small_files() -> Iterator[None]:
    """A disk that is full after a megabyte of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("limit", [0, 12, 600])
def test_a_full_disk_leaves_what_was_there(base: Store, small_files: None, limit: int) -> None:
    before = everything(base.roots[0])
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(StoreError, match="the disk is full"):
            make(base, from_="base", system="short", parameters={"stop": ["x" * 700]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert everything(base.roots[0]) == before
    assert base.find(Name.parse("new")) is None


def test_a_full_disk_while_quantizing(base: Store, small_files: None) -> None:
    before = everything(base.roots[0])
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OllamapyError):
            make(base, from_="base", quantize="Q8_0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert everything(base.roots[0]) == before


@pytest.mark.parametrize("at", ["quantizing", "using existing"])
def test_a_cancelled_creation_leaves_nothing(base: Store, at: str) -> None:
    before = everything(base.roots[0])

    class Cancelled(Job):
        """Is cancelled once this step was shown."""

        def report(self, step: Progress) -> None:
            super().report(step)
            if step.status.startswith(at):
                self.cancelled.set()

    async def run() -> None:
        renderer = Renderer()
        job = Cancelled("create", "new")
        request = CreateRequest("new", from_="base", quantize="Q8_0")
        job.start(partial(create, base, renderer, no_pull, request))
        with pytest.raises(RequestCancelled):
            [step async for step in job.watch()]
        await renderer.close()

    asyncio.run(run())
    assert everything(base.roots[0]) == before


def test_what_only_the_replaced_model_had_is_removed(base: Store) -> None:
    make(base, from_="base", system="One.")
    one = dict(layers(base, "new"))["system"]
    make(base, from_="base", system="Two.")
    assert not base.has(one) and base.has(dict(layers(base, "new"))["system"])
    make(base, "base", from_="base", system="Three.")  # itself
    assert show(base, "base")["system"] == "Three."


def test_a_pull_comes_first_where_the_base_is_not_there(tmp_path: Path, plain: Path) -> None:
    store = Store([tmp_path / "store"])

    async def pull(name: str) -> AsyncGenerator[Progress, None]:
        yield Progress("pulling manifest")
        install(store.roots[0], name, plain)
        yield Progress("success")

    async def run() -> list[str]:
        renderer = Renderer()
        job = started(store, renderer, CreateRequest("new", from_="far", system="S"), pull)
        found = [step.status async for step in job.watch()]
        await renderer.close()
        return found

    steps = asyncio.run(run())
    assert steps[0] == "pulling manifest" and steps.count("success") == 1
