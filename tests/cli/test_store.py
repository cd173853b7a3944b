"""verify, prune, du, export and import as commands, and a repair through a real daemon from a hub of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ollamapy.names import Name
from ollamapy.registry.store import Store
from tests.registry.conftest import hub as hub  # the fixture
from tests.registry.fake_hub import FakeHub
from tests.registry.stores import put
from tests.served import serve
from tests.small_models import CHATML, install, random_model

from .conftest import Command


@pytest.fixture
def models(tmp_path: Path) -> Store:
    """A store with a small model, as commands are told of it by `told`."""
    store = Store([tmp_path / "models"])
    put(store, "m", b"weights")
    return store


def told(store: Store, name: str = "OLLAMAPY_MODELS") -> dict[str, str]:
    return {name: str(store.roots[0])}


def damage(store: Store, offset: int = 0, name: str = "m") -> Path:
    path = store.blob_path(store.manifest(Name.parse(name)).layers[0].digest)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"!!!")
    return path


def test_verify_says_what_is_bad(models: Store, ollamapy: Command) -> None:
    assert ollamapy("verify", "m", **told(models)).stdout == "2 blobs, 9 B: all intact\n"
    path = damage(models)
    result = ollamapy("verify", **told(models))
    digest = path.name.replace("-", ":")
    assert result.returncode == 1
    assert f"{digest} of m:latest is damaged, 7 B to fetch\n" in result.stdout
    assert result.stderr.endswith(
        ": 1 of them damaged\nrepair them with: ollamapy verify --repair\n"
    )
    found = json.loads(ollamapy("verify", "m", "--json", **told(models)).stdout)["checked"]
    assert [(each["fault"], each["bad"]) for each in found if each["fault"]] == [("is damaged", 7)]
    missing = ollamapy("verify", "nosuch", **told(models))
    assert missing.stderr == "Error: model 'nosuch:latest' not found\n"


def test_a_repair_fetches_the_bad_pieces(hub: FakeHub, ollamapy: Command, tmp_path: Path) -> None:
    file = tmp_path / "tiny-Q4_0.gguf"
    random_model(file, n_embd=256, n_ff=640, n_layers=4, chat_template=CHATML)
    data = file.read_bytes()
    size = len(data)
    assert size > 10_000_000, "of several pieces"
    hub.add_repo("user/tiny", {"tiny-Q4_0.gguf": data})
    store, name = Store([tmp_path / "models"]), "hf.co/user/tiny:Q4_0"
    reach = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", **told(store)}
    with serve(tmp_path, store.roots[0]) as daemon:
        host = f"127.0.0.1:{daemon.port}"
        assert ollamapy("pull", name, host=host, **reach).returncode == 0
        assert hub.sent("cdn") == size
        path = damage(store, size - 100, name)
        result = ollamapy("verify", "--repair", host=host, **reach)
        assert result.returncode == 0, result.stderr
        assert ": repaired\n" in result.stdout and result.stdout.endswith("all intact\n")
        assert 0 < hub.sent("cdn") - size < size / 2
        assert path.read_bytes() == data
        # what cannot be had is as it was
        damage(store, 5, name)
        hub.add_repo("user/tiny", {}, private=True)
        result = ollamapy("verify", name, "--repair", host=host, **reach)
        assert result.returncode == 1 and "Warning: hf.co/user/tiny:Q4_0 cannot" in result.stderr
        assert path.read_bytes()[:8] == data[:5] + b"!!!"


@pytest.mark.long
def test_a_repair_does_not_replace_what_was_made_here(
    hub: FakeHub, ollamapy: Command, tmp_path: Path
) -> None:
    """Somebody else's model of the same name is not the one that is damaged."""
    file = random_model(tmp_path / "m.gguf")
    store, name = Store([tmp_path / "models"]), "hf.co/user/own"
    install(store.roots[0], name, file, system="Mine.")
    hub.add_repo("user/own", {"m.gguf": file.read_bytes() + bytes(32)})
    reach = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", **told(store)}
    with serve(tmp_path, store.roots[0]) as daemon:
        damage(store, 5, name)
        result = ollamapy("verify", "--repair", host=f"127.0.0.1:{daemon.port}", **reach)
    assert result.returncode == 1 and "another model" in result.stderr
    assert store.read_small(store.manifest(Name.parse(name)).layers[-1]) == b"Mine."
    assert hub.sent("cdn") == 0


def test_prune_leaves_what_is_young(models: Store, ollamapy: Command) -> None:
    begun = models.roots[0] / "partial" / f"url-{'0' * 64}"
    begun.write_bytes(b"begun")
    assert ollamapy("prune", **told(models)).stdout == "nothing to delete\n"
    assert ollamapy("prune", "--json", **told(models)).stdout == '{\n  "removed": []\n}\n'
    assert begun.exists()


def test_what_takes_the_room(models: Store, ollamapy: Command) -> None:
    models.add_blob(b"unused")
    result = ollamapy("du", **told(models))
    assert result.stdout.startswith("NAME") and "m:latest" in result.stdout
    assert ", 6 B unreferenced\n" in result.stdout
    assert result.stderr == "delete unreferenced blobs with: ollamapy prune\n"
    found = json.loads(ollamapy("du", "--json", **told(models)).stdout)
    assert found["unused"] == 6 and {"name", "size", "own", "root"} == set(found["models"][0])


def test_a_model_goes_to_another_machine(models: Store, ollamapy: Command, tmp_path: Path) -> None:
    file, other = tmp_path / "m.tar", Store([tmp_path / "other"])
    result = ollamapy("export", "m", str(file), **told(models))
    assert (result.returncode, result.stderr) == (0, "")
    assert ollamapy("import", str(file), **told(other)).stdout == "m:latest (9 B)\n"
    assert ollamapy("verify", "m", **told(other)).returncode == 0
    file.write_bytes(b"x" * 1000)
    result = ollamapy("import", str(file), **told(other))
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"Error: {file} cannot be imported: ")
    result = ollamapy("import", str(tmp_path / "nosuch"), **told(other))
    assert result.stderr == f"Error: cannot read {tmp_path}/nosuch (no such file or directory)\n"


def test_models_of_other_tools_are_linked(ollamapy: Command, tmp_path: Path, models: Store) -> None:
    own, home = Store([tmp_path / "own"]), {"HOME": str(tmp_path / "user")}
    gguf = random_model(tmp_path / "g.gguf")
    install(tmp_path / "user" / ".ollama" / "models", "tiny", gguf)
    found = ollamapy("import", "--from", "ollama", "--dry-run", "--json", **told(own), **home)
    assert [each["how"] for each in json.loads(found.stdout)["models"]] == ["found"]
    assert own.names() == []
    result = ollamapy("import", "--from", "ollama", "tiny", **told(own), **home)
    assert result.returncode == 0 and "tiny:latest" in result.stdout
    assert [name.display for name in own.names()] == ["tiny:latest"]
    again = json.loads(ollamapy("import", "--from", "ollama", "--json", **told(own), **home).stdout)
    assert [each["how"] for each in again["models"]] == ["kept"]
    result = ollamapy("import", "--from", "ollama", "nosuch", **told(own), **home)
    assert result.stderr.startswith("Error: ollama has no model 'nosuch' here (")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "a", "b"], "accepts at most 1 arg(s), received 2, see: ollamapy verify --help"),
        (["prune", "a"], "accepts 0 arg(s), received 1, see: ollamapy prune --help"),
        (["export", "a"], "accepts 2 arg(s), received 1, see: ollamapy export --help"),
        (["import"], "accepts 1 arg(s), received 0, see: ollamapy import --help"),
        (["import", "x", "--copy"], "--copy and --dry-run need --from"),
        (["import", "--from", "x"], "unknown tool 'x', one of: ollama, lmstudio, hf, llama.cpp"),
        (["export", "nosuch", "f"], "model 'nosuch:latest' not found"),
        (["verify", "a b"], "invalid model name 'a b', write it as [host/][namespace/]model[:tag]"),
    ],
)  # fmt: skip
def test_wrong_usage(arguments: list[str], message: str, ollamapy: Command) -> None:
    result = ollamapy(*arguments)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"Error: {message}\n")


def test_a_store_that_an_ollama_may_use_is_not_emptied_unasked(models: Store) -> None:
    """Told from a clock that is an hour ahead: nothing else makes a file old."""
    models.add_blob(b"unused")
    driver = (
        "import sys, time; now = time.time; time.time = lambda: now() + 4000\n"
        "from ollamapy.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )

    def run(*arguments: str, variable: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OLLAMA")}
        command = [sys.executable, "-c", driver, *arguments]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**environment, **told(models, variable)},
        )

    result = run("prune", variable="OLLAMA_MODELS")
    assert result.returncode == 1 and "allow it with --yes" in result.stderr
    assert len(list((models.roots[0] / "blobs").iterdir())) == 3
    assert run("prune", "--dry-run", variable="OLLAMA_MODELS").stdout.endswith("would be deleted\n")
    result = run("prune", "--yes", variable="OLLAMA_MODELS")
    assert result.stdout.endswith("6 B deleted\n")
    models.add_blob(b"unused")
    assert run("prune", variable="OLLAMAPY_MODELS").stdout.endswith("6 B deleted\n")
