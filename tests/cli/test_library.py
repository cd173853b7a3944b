"""search, library, show --remote, outdated and update, as processes: against the catalogue, and a hub on this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollamapy.names import Name
from ollamapy.registry.store import Store
from tests.cli.conftest import Command
from tests.registry.fake_hub import FakeHub, content, sha256
from tests.registry.stores import damage
from tests.served import serve
from tests.small_models import install, random_model

JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture
def ask(ollamapy: Command, hub: FakeHub) -> Callable[..., Any]:
    """Runs a command that knows only the fake hub."""

    def run(*arguments: str, **extra: str) -> Any:
        return ollamapy(*arguments, **{**hub_environment(hub), **extra})

    return run


def hub_environment(hub: FakeHub) -> dict[str, str]:
    proxies = {f"{name}_proxy": "" for name in ("http", "https", "all")}
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": "", "HF_HUB_OFFLINE": "", **proxies}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("model") / "m.gguf", chat_template=JINJA)


# The catalogue


def test_the_whole_library(ollamapy: Command) -> None:
    run = ollamapy("library")
    assert run.returncode == 0 and run.stderr == ""
    header, *rows = run.stdout.splitlines()
    assert header.split() == ["NAME", "TAGS", "SIZE", "CONTEXT", "LICENCE", "FITS", "ABOUT"]
    assert len(rows) == 107
    [row] = [row for row in rows if row.startswith("tinystories ")]
    assert "yes" in row and "tell a story" in row


def test_a_family_of_it(ollamapy: Command) -> None:
    run = ollamapy("library", "Llama2")
    assert run.returncode == 0
    [row] = [row for row in run.stdout.splitlines() if row.startswith("llama2:13b ")]
    assert "7.9 GB" in row
    assert "13b-chat, 13b-chat-q4_K_M" in row
    one = json.loads(ollamapy("library", "llama2:chat", "--json").stdout)
    [found] = one["models"]
    assert (found["name"], found["size"], found["size_is_exact"]) == ("llama2:7b", 4081004224, True)
    assert found["files"][0]["path"] == "llama-2-7b-chat.Q4_K_M.gguf"


def test_what_an_embedding_model_expects_before_a_text(ollamapy: Command) -> None:
    lines = ollamapy("library", "nomic-embed-text").stdout.splitlines()
    assert lines[-2:] == [
        'write before a document: "search_document: "',
        'write before a query: "search_query: "',
    ]
    models = json.loads(ollamapy("library", "nomic-embed-text", "--json").stdout)["models"]
    assert {each["query_prefix"] for each in models} == {"search_query: "}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["library", "nope"], "the catalogue has no 'nope', see: ollamapy search TEXT"),
        (["library", "llama2:nope"], "llama2 has no tag nope, one of: 7b,"),
        (["library", "hf.co/a/b"], "the catalogue has no 'hf.co/a/b'"),
        (["library", "a", "b"], "accepts at most 1 arg(s), received 2"),
        (["search"], "requires at least 1 arg(s)"),
        (["search", "n0thing"], "no model of the catalogue matches 'n0thing'"),
    ],
)
def test_what_is_not_in_it(ollamapy: Command, arguments: list[str], said: str) -> None:
    run = ollamapy(*arguments)
    assert run.returncode == 1 and run.stdout == ""
    assert said in run.stderr and run.stderr.count("\n") == 1


def test_search_finds_every_word_anywhere_and_names_first(ollamapy: Command) -> None:
    found = json.loads(ollamapy("search", "code", "apache", "--json").stdout)["families"]
    names = [family["name"] for family in found]
    assert "granite-code" in names and "codellama" not in names
    assert names.index("qwen2.5-coder") < names.index("devstral")
    table = ollamapy("search", "embedding").stdout
    assert "nomic-embed-text" in table and "llama2" not in table


def test_a_broken_file_of_the_user_is_told_and_the_rest_is_listed(
    ollamapy: Command, home: Path, tmp_path: Path
) -> None:
    folder = home / "library"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("about: My own\ntags: {latest: {repo: me/x, file: x.gguf}}\n")
    (folder / "gpt2.yaml").write_text("tags: {latest: {repo: 1}}\n")
    run = ollamapy("library")
    assert run.returncode == 0 and "My own" in run.stdout and "gpt2" not in run.stdout
    assert run.stderr == f"Warning: {folder / 'gpt2.yaml'}: tags.latest.file is missing\n"
    assert len(run.stdout.splitlines()) == 1 + 107
    other = ollamapy("library", "mine", OLLAMAPY_LIBRARY=str(tmp_path / "empty"))
    assert other.returncode == 1


# A model elsewhere


def test_show_remote_reads_the_header_and_no_more(
    ask: Callable[..., Any], hub: FakeHub, model: Path, home: Path
) -> None:
    head = model.read_bytes()
    files = {
        "m-Q4_K_M.gguf": head,
        "m-Q8_0.gguf": head + content(3_000_000),
        "README.md": b"hello",
    }
    commit = hub.add_repo("me/m-GGUF", files)
    run = ask("show", "--remote", "hf.co/me/m-GGUF", "--json")
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["model_info"]["general.architecture"] == "llama"
    assert answer["details"]["family"] == "llama"
    assert (answer["template"], answer["revision"]) == (JINJA, commit)
    assert answer["files"] == [{"path": "m-Q4_K_M.gguf", "size": len(head), "sha256": sha256(head)}]
    by_name = {fit["quantization"]: fit for fit in answer["fits"]}
    assert {"Q4_K_M", "Q8_0"} <= set(by_name)
    first, second = (by_name[name]["needs"][0] for name in ("Q4_K_M", "Q8_0"))
    assert second["bytes"] - first["bytes"] == 3_000_000 and first["fits"]
    assert not home.joinpath("models").exists()

    text = ask("show", "--remote", "hf.co/me/m-GGUF:Q8_0").stdout
    assert "architecture" in text and "Memory needed" in text and "Q4_K_M" in text
    assert ask("show", "--remote", "--template", "hf.co/me/m-GGUF").stdout == JINJA


def test_show_remote_does_not_get_a_large_file(
    ask: Callable[..., Any], hub: FakeHub, model: Path
) -> None:
    data = model.read_bytes() + content(40_000_000)
    hub.add_repo("me/large-GGUF", {"large-Q4_0.gguf": data})
    run = ask("show", "--remote", "hf.co/me/large-GGUF", "--json")
    assert run.returncode == 0 and json.loads(run.stdout)["size"] == len(data)
    assert hub.sent("cdn") + hub.sent("hub") < 4_000_000


@pytest.mark.parametrize(
    "fault",
    [{"status": 503}, {"ignore_range": True, "times": 9}, {"reset": 1000}, {"truncate": 1000}],
    ids=str,
)
def test_show_remote_bears_faults(
    ask: Callable[..., Any], hub: FakeHub, model: Path, fault: dict[str, Any]
) -> None:
    hub.add_repo("me/m-GGUF", {"m.gguf": model.read_bytes()})
    met = hub.fault("cdn", method="GET", **fault)
    run = ask("show", "--remote", "hf.co/me/m-GGUF", "--json")
    assert run.returncode == 0, run.stderr
    assert met.used
    assert json.loads(run.stdout)["model_info"]["general.architecture"] == "llama"


def test_show_remote_of_the_catalogue(
    ask: Callable[..., Any], hub: FakeHub, model: Path, home: Path
) -> None:
    hub.add_repo("me/own", {"x.gguf": model.read_bytes()})
    folder = home / "library"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(
        "licence: mit\nformat: vicuna\nparameters: {temperature: 0.5}\n"
        f"tags: {{latest: {{repo: me/own, file: x.gguf, sha256: '{'0' * 64}'}}}}\n"
    )
    note = "me/own/x.gguf; changed on the hub since the catalogue was written: x.gguf"
    assert note in ask("show", "--remote", "own").stdout
    answer = json.loads(ask("show", "--remote", "own", "--json").stdout)
    assert "ASSISTANT:" in answer["template"] and answer["license"] == "mit"
    assert "temperature                    0.5" in answer["parameters"]
    assert 'stop                           "USER:"' in answer["parameters"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf.co/me/none", "me/none"),
        ("hf.co/me/text", "no GGUF file"),
        ("hf.co/me/fake", "not a GGUF file"),
        ("tinystories", "is not a remote GGUF"),
        ("hf.co/me/..", "invalid model name"),
    ],
)
def test_show_remote_says_what_is_wrong(
    ask: Callable[..., Any], hub: FakeHub, name: str, said: str
) -> None:
    hub.add_repo("me/text", {"README.md": b"x"})
    hub.add_repo("me/fake", {"m.gguf": content(5000)})
    run = ask("show", "--remote", name)
    assert run.returncode == 1 and run.stdout == ""
    assert said in run.stderr and run.stderr.count("\n") == 1


def test_show_remote_offline_asks_nobody(ask: Callable[..., Any], hub: FakeHub) -> None:
    run = ask("show", "--remote", "hf.co/me/m", HF_HUB_OFFLINE="1")
    assert run.returncode == 1 and "HF_HUB_OFFLINE" in run.stderr
    assert hub.requests == []


# What has become old


def test_outdated_and_update(
    ask: Callable[..., Any], hub: FakeHub, model: Path, home: Path, tmp_path: Path
) -> None:
    data = model.read_bytes()
    first = hub.add_repo("me/a-GGUF", {"a.gguf": data})
    hub.add_repo("me/b-GGUF", {"b.gguf": data})
    home.mkdir(parents=True)
    models = home / "models"
    environ = {key: value for key, value in hub_environment(hub).items()}
    saved = {key: os.environ.get(key) for key in environ}
    os.environ.update(environ)
    try:
        with serve(home, models) as daemon:
            host = f"127.0.0.1:{daemon.port}"
            where = {"OLLAMAPY_HOST": host, "OLLAMAPY_MODELS": str(models)}
            pulled = ask("pull", "hf.co/me/a-GGUF", "hf.co/me/b-GGUF", **where)
            assert pulled.returncode == 0, pulled.stderr

            none = ask("outdated", **where)
            assert (none.returncode, none.stdout) == (0, ""), none.stderr
            assert none.stderr == "nothing is outdated\n"

            # another commit with the same file is no change
            hub.add_repo("me/b-GGUF", {"b.gguf": data, "README.md": b"new"})
            second = hub.add_repo("me/a-GGUF", {"a.gguf": data, "template": b"{{ .Prompt }}!"})
            found = json.loads(ask("outdated", "--json", **where).stdout)["models"]
            assert found == [{"name": "hf.co/me/a-GGUF:latest", "here": first, "there": second}]
            assert first[:12] in ask("outdated", **where).stdout

            updated = ask("update", **where)
            assert updated.returncode == 0, updated.stderr
            assert updated.stdout == "updated 'hf.co/me/a-GGUF:latest'\n"
            assert json.loads(ask("outdated", "--json", **where).stdout)["models"] == []
            # a copy is the user's own; what says nothing of a source is left unless it is named
            assert ask("cp", "hf.co/me/a-GGUF", "mine", **where).returncode == 0
            assert ask("outdated", **where).stderr == "nothing is outdated\n"
            made = install(models, "hf.co/me/b-GGUF:made", model, system="Mine.")
            hub.add_repo("me/b-GGUF", {"b-made.gguf": data + bytes(32)})
            careful = ask("update", **where)
            assert "'hf.co/me/b-GGUF:made' may have been created here and is kept" in careful.stderr
            assert "updated 'hf.co/me/b-GGUF:latest'" in careful.stdout
            assert "made" not in careful.stdout
            assert ask("update", made.display, **where).stdout == f"updated '{made.display}'\n"
            unknown = ask("update", "nope", **where)
            assert unknown.returncode == 1 and "model 'nope' not found" in unknown.stderr
    finally:
        for key, value in saved.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def test_one_that_cannot_be_asked_for_is_told(
    ask: Callable[..., Any], hub: FakeHub, model: Path, home: Path
) -> None:
    name = install(home / "models", "hf.co/me/gone", model)
    assert name == Name.parse("hf.co/me/gone")
    mark_pulled(home / "models", name)
    run = ask("outdated")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("Warning: hf.co/me/gone:latest: ")
    shutil.rmtree(home / "models")
    assert ask("outdated").stderr == "nothing is outdated\n"


@pytest.mark.long
def test_what_was_made_here_has_no_source(
    ask: Callable[..., Any], hub: FakeHub, model: Path, home: Path, tmp_path: Path
) -> None:
    """Names of the hub's: it would be asked for any model that may come from there."""
    home.mkdir(parents=True)
    store = Store([home / "models"])
    (tmp_path / "Modelfile").write_text(f"FROM {model}\n")
    with serve(home, home / "models") as daemon:
        where = {"OLLAMAPY_HOST": f"127.0.0.1:{daemon.port}"}
        made = ask("create", "hf.co/me/own", "-f", str(tmp_path / "Modelfile"), **where)
        assert made.returncode == 0, made.stderr
        assert ask("cp", "hf.co/me/own", "hf.co/me/copy", **where).returncode == 0
        for command in ("outdated", "update"):
            run = ask(command, **where)
            assert (run.returncode, run.stdout) == (0, "")
        manifest = store.manifest(Name.parse("hf.co/me/own"))
        damage(store.blob_path(manifest.layers[0].digest), 5)
        repair = ask("verify", "--repair", "hf.co/me/own", **where)
    assert repair.returncode == 1
    assert "Warning: hf.co/me/own:latest was created here: create it again" in repair.stderr
    assert hub.requests == []


def test_a_typing_error_is_noticed_without_a_request(
    ask: Callable[..., Any], hub: FakeHub, home: Path
) -> None:
    home.mkdir(parents=True)
    with serve(home, home / "models") as daemon:
        run = ask("pull", "lama3.2", OLLAMAPY_HOST=f"127.0.0.1:{daemon.port}")
    assert run.returncode == 1 and "did you mean llama3.2?" in run.stderr
    assert "registry.ollama.ai/library/lama3.2:latest" in run.stderr  # the way around
    assert hub.requests == []


def mark_pulled(root: Path, name: Name) -> None:
    """Let a model's configuration say where it was pulled from."""
    path = root / "manifests" / name.path
    manifest = json.loads(path.read_bytes())
    config = json.dumps({"source": {"repo": "me/gone", "revision": "0" * 40}}).encode()
    (root / "blobs" / f"sha256-{sha256(config)}").write_bytes(config)
    manifest["config"] |= {"digest": f"sha256:{sha256(config)}", "size": len(config)}
    path.write_text(json.dumps(manifest))
