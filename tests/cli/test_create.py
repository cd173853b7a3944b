"""`ollamapy create` as people use it, with the real daemon: what is sent, what is made, and what bad input says."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest

from ollamapy.cli.create import request
from ollamapy.errors import OllamapyError
from ollamapy.formats.modelfile import parse
from ollamapy.names import Name
from ollamapy.registry.store import Store
from tests.formats import folders, test_llama2c, test_lora
from tests.models.test_create import _adapter, everything, layers
from tests.served import Daemon, environment, serve
from tests.shards import split
from tests.small_models import install, random_model, scripted_model
from tests.small_projectors import projector

llama = pytest.mark.llama
MIB = 2**20


@pytest.fixture(scope="module")
def gguf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    scripted_model(folder / "hello.gguf", "Hello! I am a model.")
    random_model(folder / "plain.gguf", vocab=400)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, gguf_folder: Path) -> Path:
    """A store with "hello" and "plain"."""
    root = tmp_path_factory.mktemp("store")
    install(root, "hello", gguf_folder / "hello.gguf")
    install(root, "plain", gguf_folder / "plain.gguf")
    return root


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Daemon]:
    with serve(tmp_path_factory.mktemp("home"), root) as running:
        yield running


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(here: Daemon, tmp_path: Path) -> Run:
    """Runs a command in the test's own folder."""

    def command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ollamapy", *arguments],
            env=environment(here.home, HOST=f"127.0.0.1:{here.port}"),
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return command


def test_a_modelfile_becomes_a_model(run: Run, root: Path, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text(
        'FROM hello\nSYSTEM """Be brief.\nAlways."""\nPARAMETER temperature 0\nPARAMETER stop ##\n'
        "PARAMETER mirostat 1\nLICENSE MIT\nMESSAGE user q\nMESSAGE assistant a\n"
    )
    done = run("create", "mine")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = done.stderr.splitlines()
    assert lines[:2] == [
        "gathering model components",
        "warning: parameter mirostat is deprecated",
    ]
    assert lines[-2:] == ["writing manifest", "success"]
    assert run("show", "mine", "--system").stdout == "Be brief.\nAlways."
    # What is printed makes it again
    (tmp_path / "again").write_text(run("show", "mine", "--modelfile").stdout)
    assert run("create", "again", "-f", "again").returncode == 0
    store = Store([root])
    assert layers(store, "again") == layers(store, "mine")


@llama
def test_files_are_sent_and_run(
    run: Run, root: Path, here: Daemon, gguf_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    other = scripted_model(folder / "m.gguf", "Quite another answer here.")
    (tmp_path / "Modelfile").write_text("FROM ./weights\n")
    done = run("create", "sent")
    assert done.returncode == 0, done.stderr
    assert "copying file sha256:" in done.stderr
    assert "using autodetected template chatml" in done.stderr
    assert run("run", "sent", "Hi").stdout == "Quite another answer here.\n\n"
    done = run("create", "sent")  # the server has it now
    assert "copying file" not in done.stderr and done.returncode == 0
    (tmp_path / "Modelfile").write_text("FROM ./w*/?.gguf\n")
    assert run("create", "matched").returncode == 0
    assert layers(Store([root]), "matched") == layers(Store([root]), "sent")
    assert Store([root]).has(f"sha256:{_sha256(other)}")


@llama
def test_shards_answer_as_the_whole(
    run: Run, here: Daemon, gguf_folder: Path, tmp_path: Path
) -> None:
    shards = split(gguf_folder / "plain.gguf", tmp_path)
    (tmp_path / "Modelfile").write_text(f"FROM {shards[0].name}\n")
    assert run("create", "shards").returncode == 0
    options = {"temperature": 0, "num_predict": 16}
    whole, cut = (
        here.generate(name, "bababa", options=options, raw=True).json()
        for name in ("plain", "shards")
    )
    assert whole["response"] and whole["response"] == cut.get("response"), cut


@llama
def test_an_adapter_changes_what_is_said_as_its_arithmetic_says(
    run: Run, here: Daemon, gguf_folder: Path, tmp_path: Path
) -> None:
    """A LoRA on the output matrix, against the model with W + alpha / rank * B A written into its file."""
    rng = np.random.default_rng(3)
    a = rng.standard_normal((2, 64)).astype(np.float32)
    b = rng.standard_normal((400, 2)).astype(np.float32) * 0.5
    alpha = 3.0
    lora = tmp_path / "lora.gguf"
    writer = gguf.GGUFWriter(lora, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_tensor("output.weight.lora_a", a)
    writer.add_tensor("output.weight.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (tmp_path / "Modelfile").write_text("FROM plain\nADAPTER ./lora.gguf\n")
    done = run("create", "adapted")
    assert done.returncode == 0, done.stderr

    merged = tmp_path / "merged.gguf"
    merged.write_bytes((gguf_folder / "plain.gguf").read_bytes())
    reader = gguf.GGUFReader(merged, "r+")
    [output] = [tensor for tensor in reader.tensors if tensor.name == "output.weight"]
    output.data[:] += alpha / 2 * b @ a
    reader.data.flush()
    (tmp_path / "Modelfile").write_text("FROM ./merged.gguf\n")
    assert run("create", "merged").returncode == 0

    def said(model: str) -> list[float]:
        answer = here.generate(
            model, "bababa", raw=True, options={"temperature": 0, "num_predict": 4}, logprobs=True
        ).json()
        return [each["logprob"] for each in answer["logprobs"]]

    assert said("adapted") == pytest.approx(said("merged"), abs=1e-3)
    assert said("adapted") != pytest.approx(said("plain"), abs=1e-1)


@llama
@pytest.mark.parametrize("quantize", ["", "q8_0"])
def test_a_folder_of_safetensors_is_converted_and_runs(
    run: Run, here: Daemon, tmp_path: Path, quantize: str
) -> None:
    folders.make(tmp_path / "weights", folders.FAMILIES["llama"], shards=2, dtype="F16")
    (tmp_path / "Modelfile").write_text("FROM ./weights\n")
    done = run("create", "converted", *(["-q", quantize] if quantize else []))
    assert done.returncode == 0, done.stderr
    assert "converting model" in done.stderr
    assert ("quantizing F16 model to Q8_0" in done.stderr) == bool(quantize)
    answer = here.generate("converted", "a", raw=True, options={"num_predict": 4, "seed": 1}).json()
    assert answer["eval_count"] >= 1
    shown = here.ask("POST", "/api/show", {"model": "converted"}).json()["details"]
    assert (shown["family"], shown["format"]) == ("llama", "gguf")


@llama
def test_a_llama2c_checkpoint_is_converted_and_runs(run: Run, here: Daemon, tmp_path: Path) -> None:
    checkpoint = test_llama2c.made(0, shared=True).data
    (tmp_path / "stories.bin").write_bytes(checkpoint)
    (tmp_path / "Modelfile").write_text("FROM ./stories.bin\n")
    done = run("create", "stories")
    assert done.returncode == 1 and "without its tokenizer" in done.stderr
    (tmp_path / "tokenizer.bin").write_bytes(test_llama2c.tokenizer_bytes())
    done = run("create", "stories")
    assert done.returncode == 0, done.stderr
    options = {"num_predict": 4, "seed": 1}
    answer = here.generate("stories", "a", raw=True, options=options).json()
    assert answer["eval_count"] >= 1


@llama
def test_a_lora_of_safetensors_is_converted_and_runs(
    run: Run, here: Daemon, tmp_path: Path
) -> None:
    weights = folders.make(tmp_path / "weights", folders.FAMILIES["llama"])
    names = [name for name in weights if name.endswith("q_proj")]
    test_lora.make_adapter(tmp_path / "lora", weights, names)
    (tmp_path / "Modelfile").write_text("FROM ./weights\nADAPTER ./lora\n")
    done = run("create", "tuned")
    assert done.returncode == 0, done.stderr
    assert "converting adapter" in done.stderr
    (tmp_path / "Modelfile").write_text("FROM ./weights\n")
    assert run("create", "untuned").returncode == 0
    tuned, untuned = (
        here.generate(
            name, "a", raw=True, options={"num_predict": 2, "temperature": 0}, logprobs=True
        ).json()["logprobs"][0]["logprob"]
        for name in ("tuned", "untuned")
    )
    assert tuned != untuned


# Bad input: a clear error within a second or two, and nothing half-made


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _folder_with_link(folder: Path) -> None:
    weights = folder / "weights"
    weights.mkdir()
    (weights / "model.safetensors").symlink_to("/etc/hostname")
    (folder / "Modelfile").write_text("FROM ./weights")


def _gguf_link(folder: Path) -> None:
    weights = folder / "weights"
    weights.mkdir()
    (weights / "model.gguf").symlink_to("/etc/hostname")
    (folder / "Modelfile").write_text("FROM ./weights")


def _lying_safetensors(folder: Path) -> None:
    weights = folder / "weights"
    weights.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 1}
    (weights / "config.json").write_text(json.dumps(config))
    (weights / "model.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    (folder / "Modelfile").write_text("FROM ./weights")


def _wrong_adapter(folder: Path) -> None:
    _adapter(folder / "a.gguf", architecture="gemma")
    (folder / "Modelfile").write_text("FROM plain\nADAPTER a.gguf")


def _two_adapters(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "adapter_model.safetensors").write_bytes(b"x")
        (folder / name / "adapter_config.json").write_text("{}")
    (folder / "Modelfile").write_text("FROM plain\nADAPTER a\nADAPTER b")


def _pointer(folder: Path) -> None:
    (folder / "m.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    (folder / "Modelfile").write_text("FROM ./m.gguf")


def _two_sources(folder: Path) -> None:
    random_model(folder / "m.gguf")
    (folder / "Modelfile").write_text("FROM hello\nFROM ./m.gguf")


BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("10 MB of one value", lambda f: _write(f / "Modelfile", b"FROM hello\nTEMPLATE " + b"x" * 10 * MIB), "template error"),
    ("10 MB of lines", lambda f: _write(f / "Modelfile", b"FROM hello\n" + b"SYSTEM a\n" * MIB), "at most 100000 instructions"),
    ("17 MB", lambda f: _write(f / "Modelfile", b"FROM hello\n" + b"#" * 17 * MIB), "at most 16 MiB"),
    ("random bytes", lambda f: _write(f / "Modelfile", random.Random(0).randbytes(100_000)), "command must be one of"),
    ("UTF-16 without a mark", lambda f: _write(f / "Modelfile", "FROM hello".encode("utf-16-le")), "neither UTF-8 nor UTF-16"),
    ("a model for a Modelfile", lambda f: random_model(f / "Modelfile"), "this is a model and no Modelfile"),
    ("a folder for a Modelfile", lambda f: (f / "Modelfile").mkdir(), "is not a file"),
    ("a device", lambda f: _write(f / "Modelfile", b"FROM /dev/zero"), "not a regular file"),
    ("nothing", lambda f: None, "no Modelfile or safetensors files found"),
    ("no FROM", lambda f: _write(f / "Modelfile", b"SYSTEM x"), "no FROM line"),
    ("a missing file", lambda f: _write(f / "Modelfile", b"# x\nFROM ./no.bin"), "(line 2): there is no './no.bin', paths begin"),
    ("a missing absolute path", lambda f: _write(f / "Modelfile", b"FROM /no/folder"), "there is no '/no/folder'"),
    ("a missing adapter", lambda f: _write(f / "Modelfile", b"FROM hello\nADAPTER ./no"), "(line 2): there is no './no'"),
    ("a link out of a folder", _folder_with_link, "link out of its folder"),
    ("a GGUF that is one", _gguf_link, "link out of its folder"),
    ("a safetensors header that lies", _lying_safetensors, "Error: "),
    ("an adapter of others", _wrong_adapter, "the adapter is for gemma models and this one is llama"),
    ("two adapters of safetensors", _two_adapters, "several adapters must be GGUF files"),
    ("a Git LFS pointer", _pointer, "Git LFS pointer"),
    ("an unknown parameter", lambda f: _write(f / "Modelfile", b"FROM hello\nPARAMETER tempratur 1"),
     "unknown parameter 'tempratur', did you mean 'temperature'?"),
    ("a model that is no name", lambda f: _write(f / "Modelfile", b"FROM a b c"), "invalid model name"),
    ("two sources", _two_sources,
     '"m.gguf" is a model and neither adapter nor projector, name it with FROM alone'),
    ("a draft", lambda f: _write(f / "Modelfile", b"FROM hello\nDRAFT ./d.gguf"), "leave DRAFT out"),
]  # fmt: skip


@pytest.mark.parametrize(("prepare", "why"), [each[1:] for each in BAD], ids=[b[0] for b in BAD])
def test_bad_input(
    run: Run, root: Path, tmp_path: Path, prepare: Callable[[Path], object], why: str
) -> None:
    prepare(tmp_path)
    started = time.monotonic()
    done = run("create", "bad")
    assert time.monotonic() - started < 30, "it is refused before anything is read to its end"
    assert done.returncode == 1 and done.stdout == ""
    [error] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert why in error and len(error) < 1000
    assert run("lint").returncode == 1 or "the adapter is for" in why, (
        "of what the server has it knows nothing"
    )
    assert Store([root]).find(Name.parse("bad")) is None
    assert not [path for path in everything(root) if path.startswith("partial/work")]


def test_a_modelfile_in_utf_16_with_a_mark(run: Run, root: Path, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_bytes("FROM hello\r\nSYSTEM Grüße\r\n".encode("utf-16"))
    assert run("create", "wide").returncode == 0
    assert run("show", "wide", "--system").stdout == "Grüße"


def test_an_installed_model_gets_a_projector(run: Run, root: Path, tmp_path: Path) -> None:
    projector(tmp_path / "mmproj.gguf", "mlp", width=256)
    projector(tmp_path / "narrow.gguf", "mlp", width=64)
    (tmp_path / "Modelfile").write_text("FROM hello\nFROM ./mmproj.gguf\n")
    done = run("create", "seeing")
    assert done.returncode == 0, done.stderr
    kinds = [kind for kind, _ in layers(Store([root]), "seeing")]
    assert kinds[:2] == ["model", "projector"]
    assert "  Projector\n" in run("show", "seeing").stdout
    (tmp_path / "Modelfile").write_text("FROM hello\nFROM ./narrow.gguf\n")
    done = run("create", "wrong")
    assert done.returncode == 1 and "its embeddings have 64 numbers" in done.stderr


# What a Modelfile names


def test_names_of_files_are_those_below_their_common_folder(tmp_path: Path) -> None:
    for name in ("a/m-00001-of-00002.gguf", "a/m-00002-of-00002.gguf", "b/mmproj.gguf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"GGUF")
    body = request(parse("FROM a/m-00001-of-00002.gguf\nFROM b/mmproj.gguf"), tmp_path)
    assert list(body["files"]) == [
        "a/m-00001-of-00002.gguf", "a/m-00002-of-00002.gguf", "b/mmproj.gguf",
    ]  # fmt: skip
    assert "from" not in body


def test_a_checkpoint_brings_its_tokenizer(tmp_path: Path) -> None:
    for name in ("stories.bin", "tokenizer.bin", "tok512.bin", "other.txt"):
        (tmp_path / name).write_bytes(b"x")
    body = request(parse("FROM stories.bin"), tmp_path)
    assert sorted(body["files"]) == ["stories.bin", "tok512.bin", "tokenizer.bin"]


def test_a_folder_prefers_safetensors(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "tokenizer.json", "m.gguf", "README.md"):
        (tmp_path / name).write_bytes(b"x")
    body = request(parse("FROM ."), tmp_path)
    assert sorted(body["files"]) == ["config.json", "model.safetensors", "tokenizer.json"]
    (tmp_path / "model.safetensors").unlink()
    assert list(request(parse("FROM ."), tmp_path)["files"]) == ["m.gguf"]
    (tmp_path / "m.gguf").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(OllamapyError, match="PyTorch"):
        request(parse("FROM ."), tmp_path)


def test_what_is_said_of_a_model(tmp_path: Path) -> None:
    body = request(
        parse(
            "FROM base\nTEMPLATE t\nSYSTEM s\nPARAMETER stop a\nPARAMETER stop b\nPARAMETER top_p 0.5\nLICENSE x\nLICENSE y\n"
            "MESSAGE user u\nRENDERER r\nPARSER p\nREQUIRES v1.2.3"
        ),
        tmp_path,
    )
    assert body == {
        "from": "base",
        "template": "t",
        "system": "s",
        "parameters": {"stop": ["a", "b"], "top_p": 0.5},
        "license": ["x", "y"],
        "messages": [{"role": "user", "content": "u"}],
        "renderer": "r",
        "parser": "p",
        "requires": "1.2.3",
    }


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_modelfile_may_come_through_a_pipe(run: Run, gguf_folder: Path, tmp_path: Path) -> None:
    text = f"FROM {gguf_folder}/plain.gguf\nSYSTEM piped\n"
    assert run("create", "piped", "-f", "-", stdin=text).returncode == 0
    assert run("show", "piped", "--system").stdout == "piped"
    os.mkfifo(tmp_path / "fifo")
    with ThreadPoolExecutor(1) as writer:
        writer.submit((tmp_path / "fifo").write_text, text.replace("piped", "again"))
        assert run("create", "piped", "-f", "fifo").returncode == 0
    assert run("show", "piped", "--system").stdout == "again"
    assert run("create", "piped", "-f", "-", stdin="").returncode == 1


def test_a_type_is_checked_before_anything_is_sent(run: Run, root: Path, tmp_path: Path) -> None:
    random_model(tmp_path / "m.gguf", seed=9)
    (tmp_path / "Modelfile").write_text("FROM ./m.gguf\n")
    before = everything(root)
    for given, why in (("q9", "unknown quantization type 'q9'"), ("iq2_xs", "importance matrix")):
        done = run("create", "bad", "-q", given)
        assert done.returncode == 1 and why in done.stderr
    assert everything(root) == before
