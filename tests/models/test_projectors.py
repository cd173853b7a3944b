"""Models that see or hear: their projectors in pull, create, show, cp, push and export."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import gguf as gguf_package
import numpy as np
import pytest

from ollamapy.errors import InvalidRequest
from ollamapy.models.push import hub_files
from ollamapy.names import Name
from ollamapy.registry.archive import export, import_file
from ollamapy.registry.catalog import Catalog, Entry
from ollamapy.registry.hub import choose
from ollamapy.registry.remote import RemoteFile
from ollamapy.registry.store import Store
from tests.formats import seers
from tests.registry.fake_hub import FakeHub, sha256
from tests.served import ROOT, Daemon
from tests.small_models import install, random_model
from tests.small_projectors import bitmap, projector, wave

from .pulls import blobs, cli, pull, statuses
from .stored import models, show
from .test_create import layers, make, upload
from .test_pull import catalogue

WIDTH = 64


@pytest.fixture(scope="module")
def mmproj(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return projector(tmp_path_factory.mktemp("gguf") / "mmproj.gguf", "mlp", width=WIDTH)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A projector for models of another width."""
    return projector(tmp_path / "wide.gguf", "mlp", width=2 * WIDTH)


def shown(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.ask("POST", "/api/show", {"model": name}).json()
    return found


# ---- pull ----------------------------------------------------------------------------------------------------------------

VISION = (
    "llava",
    "llava-llama3",
    "gemma3",
    "qwen2.5vl",
    "qwen3-vl",
    "minicpm-v",
    "smolvlm",
    "moondream",
)
KINDS = {
    "gemma3": ("gemma3", "mm.input_projection.weight", (8, WIDTH)),
    "qwen2.5vl": ("qwen2.5vl_merger", "mm.2.bias", (WIDTH,)),
    "qwen3-vl": ("qwen3vl_merger", "mm.2.bias", (WIDTH,)),
    "minicpm-v": ("resampler", "resampler.proj.weight", (8, WIDTH)),
    "smolvlm": ("idefics3", "mm.model.fc.weight", (WIDTH, 8)),
}
"""The type of a family's projector, and the tensor that has the model's width; LLaVA's and moondream's are of two matrices."""
TWO_MATRICES = ("mlp", "mm.2.weight", (WIDTH, 8))


def small(path: Path, kind: str, tensor: str, shape: tuple[int, ...]) -> bytes:
    """A projector of that type with the one tensor that its width is read from."""
    writer = gguf_package.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_clip_has_vision_encoder(True)
    writer.add_string("clip.projector_type", kind)
    writer.add_tensor(tensor, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def vision_entries() -> list[Entry]:
    catalog = Catalog((ROOT / "library",))
    families = [family for name in VISION if (family := catalog.family(name))]
    entries = [each for family in families for each in family.entries]
    return [each for each in entries if each.mmproj is not None]


@pytest.mark.parametrize("entry", vision_entries(), ids=lambda each: f"{each.family}:{each.tag}")
def test_the_catalogue_s_models_that_see(
    tmp_path: Path, served: Daemon, hub: FakeHub, gguf: bytes, entry: Entry
) -> None:
    assert entry.mmproj is not None
    content = small(tmp_path / "mmproj.gguf", *KINDS.get(entry.family, TWO_MATRICES))
    repos: dict[str, dict[str, bytes]] = {entry.mmproj.repo: {entry.mmproj.path: content}}
    for file in entry.files:
        repos.setdefault(file.repo, {})[file.path] = gguf
    for repo, files in repos.items():
        hub.add_repo(repo, files)
    name = f"{entry.family}:{entry.tag}"
    assert statuses(pull(served, hub, name))[-1] == "success"
    answer = shown(served, name)
    assert "vision" in answer["capabilities"] and "audio" not in answer["capabilities"]
    assert (
        answer["projector_info"]["clip.projector_type"] == KINDS.get(entry.family, TWO_MATRICES)[0]
    )
    assert answer["details"]["families"][-1] == "clip"


@pytest.mark.parametrize("entry", vision_entries(), ids=lambda each: f"{each.family}:{each.tag}")
def test_the_names_of_the_catalogue_s_projectors_fit(entry: Entry) -> None:
    """What the catalogue knows of a repository, a pull by the repository's name would find, too."""
    assert entry.mmproj is not None
    paths = [entry.files[0].path, entry.mmproj.path, "mmproj-another-model-99b-F16.gguf"]
    choice = choose([RemoteFile(path, "", 1, None) for path in paths], entry.files[0].path)
    assert choice.mmproj is not None and choice.mmproj.path == entry.mmproj.path


def test_a_projector_of_another_repository(
    served: Daemon, hub: FakeHub, gguf: bytes, mmproj: Path
) -> None:
    hub.add_repo("me/m", {"m.gguf": gguf})
    hub.add_repo("them/m", {"mmproj-F16.gguf": mmproj.read_bytes()})
    entry = "{repo: me/m, file: m.gguf, mmproj: {repo: them/m, file: mmproj-F16.gguf}}"
    catalogue(served.home, "mine", f"tags: {{latest: {entry}}}")
    assert statuses(pull(served, hub, "mine"))[-1] == "success"
    assert shown(served, "mine")["capabilities"] == ["completion", "vision"]


def test_a_projector_that_does_not_fit_is_left_out(
    served: Daemon, hub: FakeHub, gguf: bytes, wide: Path
) -> None:
    hub.add_repo("me/repo", {"m.gguf": gguf, "mmproj-F16.gguf": wide.read_bytes()})
    steps = pull(served, hub, "hf.co/me/repo")
    assert statuses(steps)[-1] == "success"
    [note] = {step["note"] for step in steps if "left out" in step.get("note", "")}
    assert "its embeddings have 128 numbers and the model takes 64" in note
    assert shown(served, "hf.co/me/repo")["capabilities"] == ["completion"]
    assert f"sha256-{sha256(wide.read_bytes())}" not in blobs(served)


def test_what_a_projector_hears(tmp_path: Path, served: Daemon, hub: FakeHub, gguf: bytes) -> None:
    ears = projector(tmp_path / "ears.gguf", "qwen2a", width=WIDTH).read_bytes()
    hub.add_repo("me/repo", {"m.gguf": gguf, "mmproj-F16.gguf": ears})
    pull(served, hub, "hf.co/me/repo")
    assert shown(served, "hf.co/me/repo")["capabilities"] == ["completion", "audio"]
    printed = cli(served, hub, "show", "hf.co/me/repo").stdout
    section = printed.partition("  Projector\n")[2].partition("\n\n")[0]
    assert [line.split()[:2] for line in section.splitlines()] == [
        ["architecture", "clip"], ["parameters", section.split("parameters")[1].split()[0]],
        ["embedding", "length"], ["dimensions", "64"],
    ]  # fmt: skip


# ---- create --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, plain: Path) -> Store:
    """A store with "base", which only reads."""
    install(tmp_path / "store", "base", plain)
    return Store([tmp_path / "store"])


def kinds(store: Store, name: str) -> list[str]:
    return [kind for kind, _ in layers(store, name)]


def test_a_model_and_its_projector_in_files(store: Store, plain: Path, mmproj: Path) -> None:
    make(store, files=upload(store, m__gguf=plain, mmproj__gguf=mmproj))
    assert kinds(store, "new")[:2] == ["model", "projector"]
    answer = show(store.roots[0], "new")
    assert answer["capabilities"] == ["completion", "vision"]
    assert answer["details"]["families"] == ["llama", "clip"]


def test_an_installed_model_and_a_projector(store: Store, mmproj: Path, tmp_path: Path) -> None:
    make(store, from_="base", files=upload(store, mmproj__gguf=mmproj))
    answer = show(store.roots[0], "new")
    assert answer["capabilities"] == ["completion", "vision"]
    assert answer["details"]["families"] == ["llama", "clip"]
    assert answer["details"]["family"] == "llama"
    assert answer["modelfile"].count("\nFROM ") == 2
    # another one takes its place
    other = projector(tmp_path / "other.gguf", "gemma3", width=WIDTH)
    make(store, "newer", from_="new", files=upload(store, mmproj__gguf=other))
    assert kinds(store, "newer").count("projector") == 1
    assert show(store.roots[0], "newer")["projector_info"]["clip.projector_type"] == "gemma3"
    # and a model made from it keeps it
    make(store, "last", from_="newer", system="Be brief.")
    assert "vision" in show(store.roots[0], "last")["capabilities"]


def test_what_is_no_projector_of_the_model(
    store: Store, plain: Path, mmproj: Path, wide: Path, tmp_path: Path
) -> None:
    other = projector(tmp_path / "other.gguf", "gemma3", width=WIDTH)
    deaf = random_model(tmp_path / "deaf.gguf", vocab=300, architecture="clip")
    refused: list[tuple[dict[str, Any], dict[str, Path], str]] = [
        ({}, {"m__gguf": plain, "wide__gguf": wide}, "does not fit the model"),
        ({"from_": "base"}, {"wide__gguf": wide}, "128 numbers .* takes 64"),
        ({"from_": "base"}, {"deaf__gguf": deaf}, "neither images nor sound"),
        ({"from_": "base"}, {"m__gguf": plain}, '"m.gguf" is a model'),
        ({}, {"mmproj__gguf": mmproj}, "the weights are missing"),
        ({"from_": "base"}, {"a__gguf": mmproj, "b__gguf": other}, "several files are projectors"),
    ]
    for request, files, why in refused:
        with pytest.raises(InvalidRequest, match=why):
            make(store, **request, files=upload(store, **files))
        assert [name.display for name in store.names()] == ["base:latest"]
    with pytest.raises(InvalidRequest, match='"mmproj.gguf" is a projector: name it with FROM'):
        make(store, from_="base", adapters=upload(store, mmproj__gguf=mmproj))


@pytest.mark.parametrize("kind", seers.KINDS)
def test_a_folder_that_sees(store: Store, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "folder"
    seers.make(folder, kind)
    uploads = {path.name: store.add_blob(path.read_bytes()) for path in folder.iterdir()}
    steps = make(store, files=uploads)
    assert list(dict.fromkeys(steps))[:2] == ["converting model", "converting projector"]
    answer = show(store.roots[0], "new")
    assert "vision" in answer["capabilities"]
    assert answer["projector_info"]["clip.projector_type"] == kind
    assert answer["details"]["families"][-1] == "clip"


# ---- the rest of its life ------------------------------------------------------------------------------------------------


@pytest.fixture
def seeing(store: Store, mmproj: Path) -> Store:
    """A store with "eyes", which sees, and "base"."""
    make(store, "eyes", from_="base", files=upload(store, mmproj__gguf=mmproj))
    return store


def test_a_copy_and_an_export_keep_it(seeing: Store, tmp_path: Path) -> None:
    root = seeing.roots[0]
    seeing.copy(Name.parse("eyes"), Name.parse("copy"))
    assert "vision" in show(root, "copy")["capabilities"]
    export(seeing, Name.parse("eyes"), tmp_path / "eyes.tar")
    other = Store([tmp_path / "other"])
    import_file(other, tmp_path / "eyes.tar")
    assert "vision" in show(tmp_path / "other", "eyes")["capabilities"]


def test_it_is_pushed_under_a_name_that_a_pull_finds(seeing: Store) -> None:
    files, _ = hub_files(seeing, Name.parse("eyes"), seeing.manifest(Name.parse("eyes")))
    assert [file.name for file in files] == ["eyes-F32.gguf", "mmproj-eyes-F32.gguf"]
    choice = choose([RemoteFile(file.name, "", file.size, None) for file in files])
    assert choice.mmproj is not None and choice.mmproj.path == "mmproj-eyes-F32.gguf"


def test_a_list_of_models_knows_it(seeing: Store) -> None:
    listed = {each.name: each for each in asyncio.run(models(seeing.roots[0]).list())}
    assert listed["eyes:latest"].capabilities == ("completion", "vision")
    assert listed["base:latest"].capabilities == ("completion",)
    assert listed["eyes:latest"].memory > listed["base:latest"].memory


# ---- and is used -----------------------------------------------------------------------------------------------------------


def ask(daemon: Daemon, model: str, file: bytes) -> tuple[int, str]:
    """The status and the text of an answer about an image or a sound, or the error."""
    message = {"role": "user", "content": "a b", "images": [base64.b64encode(file).decode()]}
    options = {"temperature": 0, "num_predict": 8}
    body = {"model": model, "messages": [message], "stream": False, "options": options}
    answer = daemon.ask("POST", "/api/chat", body)
    found = answer.json()
    return answer.status, found["error"] if "error" in found else found["message"]["content"]


@pytest.mark.llama
@pytest.mark.parametrize("kind", seers.KINDS)
def test_a_converted_folder_sees(served: Daemon, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "folder"
    seers.make(folder, kind)
    files = {}
    for path in folder.iterdir():
        files[path.name] = f"sha256:{sha256(path.read_bytes())}"
        served.ask("POST", f"/api/blobs/{files[path.name]}", path.read_bytes())
    body = {"model": "eyes", "files": files, "template": "{{ .Prompt }}", "stream": False}
    assert served.ask("POST", "/api/create", body).status == 200
    one, again, other = (ask(served, "eyes", bitmap(168, 168, seed)) for seed in (1, 1, 2))
    assert one == again != other and one[0] == other[0] == 200
    status, error = ask(served, "eyes", wave())
    assert status == 400 and error == '"eyes" cannot hear: a sound was given, leave it out'
