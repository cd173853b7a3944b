"""Pulling with a real daemon from a hub of our own: what comes in, what goes on, and that nothing half is ever found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollamapy.registry.manifest import MAX_MANIFEST
from tests.formats.test_llama2c import made, tokenizer_bytes
from tests.registry.fake_hub import FakeHub, content, sha256
from tests.served import Daemon, serve
from tests.shards import split
from tests.small_projectors import projector

from .pulls import (
    blobs,
    cli,
    fails,
    names,
    pull,
    pulling,
    start,
    statuses,
)

# What names stand for


def test_a_repository(served: Daemon, hub: FakeHub, gguf: bytes) -> None:
    hub.add_repo("Me/Repo", {"m-Q8_0.gguf": gguf + bytes(32), "m-Q4_K_M.gguf": gguf})
    steps = pull(served, hub, "hf.co/me/repo")
    assert statuses(steps) == [
        "pulling manifest", pulling(gguf), "verifying sha256 digest", "writing manifest", "success",
    ]  # fmt: skip
    last = [step for step in steps if step["status"] == pulling(gguf)][-1]
    size, digest = len(gguf), f"sha256:{sha256(gguf)}"
    assert (last["digest"], last["total"], last["completed"]) == (digest, size, size)
    assert "the first choice of 2" in steps[1]["note"]
    assert names(served) == ["hf.co/me/repo:latest"]
    assert served.generate("hf.co/me/repo", options={"num_predict": 2}).status == 200
    before = len(hub.requests), hub.sent("cdn")
    assert statuses(pull(served, hub, "hf.co/me/repo"))[-1] == "success"
    assert (len(hub.requests), hub.sent("cdn")) == (before[0] + 1, before[1])


def test_files_beside_the_weights_become_layers(served: Daemon, hub: FakeHub, gguf: bytes) -> None:
    files = {"m.gguf": gguf, "template": b"<{{ .Prompt }}>", "params": b'{"stop": ["x"]}'}
    hub.add_repo("me/repo", files | {"system": b"Be kind."})
    pull(served, hub, "hf.co/me/repo")
    show = served.ask("POST", "/api/show", {"model": "hf.co/me/repo"}).json()
    assert (show["template"], show["system"]) == ("<{{ .Prompt }}>", "Be kind.")
    assert show["parameters"].split() == ["stop", '"x"']


def test_a_registry_s_manifest_is_kept_to_the_byte(
    served: Daemon, hub: FakeHub, gguf: bytes
) -> None:
    layers = [("model", gguf), ("template", b"{{ .Prompt }}"), ("license", b"a"), ("license", b"b")]
    manifest = hub.add_ollama("library/gemma", "2b", layers, config=b'{"model_format":"gguf"}')
    name = f"{hub.url.partition('//')[2]}/library/gemma:2b"
    steps = pull(served, hub, f"http://{name}", insecure=True)
    wanted = [pulling(data) for _, data in layers] + [pulling(b'{"model_format":"gguf"}')]
    assert [each for each in statuses(steps) if each in wanted] == wanted
    [model] = served.ask("GET", "/api/tags").json()["models"]
    assert (model["name"], model["digest"]) == (name, sha256(manifest))


def test_a_name_of_the_catalogue_gives_the_catalogue_s_prompt(
    served: Daemon, hub: FakeHub, gguf: bytes
) -> None:
    """llama2 as it is in the library, with a small model instead of the large one."""
    hub.add_repo("TheBloke/Llama-2-7B-Chat-GGUF", {"llama-2-7b-chat.Q4_K_M.gguf": gguf})
    steps = pull(served, hub, "llama2")
    assert statuses(steps)[-1] == "success"
    [note] = {step["note"] for step in steps if "note" in step}
    assert "changed on the hub since the catalogue was written: llama-2-7b-chat.Q4" in note
    messages = [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Why?"},
    ]  # fmt: skip
    chat = {"model": "llama2", "messages": messages}
    prompt = "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] Why? [/INST]"
    assert rendered(served, "/api/chat", chat) == prompt
    body = {"model": "llama2", "prompt": "Why?"}
    assert rendered(served, "/api/generate", body) == "[INST] Why? [/INST]"
    body["system"] = "Be kind."
    system = "<<SYS>>\nBe kind.\n<</SYS>>\n\n"
    assert rendered(served, "/api/generate", body) == f"[INST] {system}Why? [/INST]"
    path = served.home / "messages.json"
    path.write_text(json.dumps(messages))
    printed = cli(served, hub, "render", "llama2", "--messages", str(path))
    assert printed.stdout == prompt and "tokens" in printed.stderr
    assert served.generate("llama2", options={"num_predict": 2}).status == 200
    show = served.ask("POST", "/api/show", {"model": "llama2"}).json()
    assert show["license"] == "llama2"
    asked = len(hub.requests)
    assert statuses(pull(served, hub, "llama2"))[-1] == "success"
    assert len(hub.requests) == asked + 1, "and now it is what the name stands for"


def rendered(daemon: Daemon, path: str, body: dict[str, Any]) -> str:
    """The prompt that would be sent."""
    answer = daemon.ask("POST", path, {**body, "_debug_render_only": True}).json()
    return str(answer["_debug_info"]["rendered_template"])


def catalogue(home: Path, name: str, text: str) -> None:
    """Put a family into the user's own folder."""
    (home / "library").mkdir(exist_ok=True)
    (home / "library" / f"{name}.yaml").write_text(text)


def test_a_checkpoint_of_llama2_c_is_converted(served: Daemon, hub: FakeHub) -> None:
    checkpoint, tokenizer = made(0, True).data, tokenizer_bytes()
    hub.add_repo("me/tiny", {"a.bin": checkpoint, "tok.bin": tokenizer})
    text = "{kind: llama2c, context: 64, repo: me/tiny, file: a.bin, tokenizer: {file: tok.bin}}"
    catalogue(served.home, "mytiny", f"tags: {{latest: {text}}}")
    assert statuses(pull(served, hub, "mytiny"))[-1] == "success"
    assert served.generate("mytiny", options={"num_predict": 2}).status == 200
    assert len(blobs(served)) == 2, "the GGUF and the configuration"
    before = len(hub.requests)
    assert statuses(pull(served, hub, "mytiny"))[-1] == "success"
    assert len(hub.requests) == before + 1


def test_shards_are_one_model(tmp_path: Path, served: Daemon, hub: FakeHub, gguf: bytes) -> None:
    (tmp_path / "whole.gguf").write_bytes(gguf)
    shards = {
        f"Q8_0/{path.name}": path.read_bytes() for path in split(tmp_path / "whole.gguf", tmp_path)
    }
    hub.add_repo("me/repo", shards)
    steps = pull(served, hub, "hf.co/me/repo:Q8_0")
    assert "in 2 parts" in steps[1]["note"]
    assert [each for each in statuses(steps) if each.startswith("pulling ")] == [
        "pulling manifest", *map(pulling, shards.values()),
    ]  # fmt: skip
    answer = served.generate("hf.co/me/repo:Q8_0", options={"num_predict": 4, "seed": 1})
    hub.add_repo("me/whole", {"m.gguf": gguf})
    pull(served, hub, "hf.co/me/whole")
    whole = served.generate("hf.co/me/whole", options={"num_predict": 4, "seed": 1})
    assert answer.status == 200 and answer.json()["context"] == whole.json()["context"]
    sizes = {each["name"]: each["size"] for each in served.ask("GET", "/api/tags").json()["models"]}
    assert sizes["hf.co/me/repo:Q8_0"] > sum(map(len, shards.values()))
    show = served.ask("POST", "/api/show", {"model": "hf.co/me/repo:Q8_0"}).json()
    assert show["modelfile"].count("\nFROM ") == 2
    removed = cli(served, hub, "rm", "hf.co/me/repo:Q8_0", "hf.co/me/whole")
    assert removed.stdout.count("deleted") == 2 and not blobs(served)


def test_a_projector_comes_along(tmp_path: Path, served: Daemon, hub: FakeHub, gguf: bytes) -> None:
    clip = projector(tmp_path / "clip.gguf", "mlp").read_bytes()
    files = {"m-Q4_K_M.gguf": gguf, "mmproj-F16.gguf": clip, "mmproj-F32.gguf": clip + bytes(32)}
    hub.add_repo("me/repo", files)
    steps = pull(served, hub, "hf.co/me/repo")
    assert "with the projector mmproj-F16.gguf" in steps[1]["note"]
    show = served.ask("POST", "/api/show", {"model": "hf.co/me/repo"}).json()
    assert "vision" in show["capabilities"] and show["details"]["families"] == ["llama", "clip"]
    assert show["projector_info"]["general.architecture"] == "clip"
    listed = cli(served, hub, "list", "--json")
    assert json.loads(listed.stdout)["models"][0]["capabilities"] == ["completion", "vision"]
    assert len(blobs(served)) == 3 and cli(served, hub, "rm", "hf.co/me/repo").returncode == 0
    assert not blobs(served)


def test_what_one_publisher_lacks_another_gives(served: Daemon, hub: FakeHub, gguf: bytes) -> None:
    hub.add_repo("them/m", {"other.gguf": gguf})
    text = "{repo: me/m, file: m.gguf, alternatives: [{repo: them/m, file: other.gguf}]}"
    catalogue(served.home, "mine", f"tags: {{latest: {text}}}")
    steps = pull(served, hub, "mine")
    notes = [step["note"] for step in steps if "note" in step]
    assert "trying another publisher" in notes[0] and notes[1] == "them/m/other.gguf"
    assert statuses(steps)[-1] == "success" and names(served) == ["mine:latest"]


def test_what_comes_with_the_program_is_there(served: Daemon, hub: FakeHub) -> None:
    assert statuses(pull(served, hub, "tinystories")) == ["pulling manifest", "success"]
    assert not hub.requests


def test_a_commit_holds_what_the_catalogue_knows(served: Daemon, hub: FakeHub, gguf: bytes) -> None:
    """A branch moves on; a commit does not, and where it is gone the branch is taken."""
    commit = hub.add_repo("me/m", {"m.gguf": gguf})
    sums = {"right": sha256(gguf), "wrong": "0" * 64}
    tags = [
        f"{tag}{kind}: {{repo: me/m, file: m.gguf, revision: '{revision}', sha256: '{digest}'}}"
        for kind, digest in sums.items()
        for tag, revision in (("at", commit), ("gone", "0" * 40), ("branch", "main"))
    ]
    catalogue(served.home, "mine", f"tags: {{{', '.join(tags)}}}")
    error = fails(pull(served, hub, "mine:atwrong"))
    assert "differs from the file in the catalogue" in error and "hf.co/me/m" in error
    assert names(served) == [] and not blobs(served)
    for tag in ("atright", "goneright", "branchright", "gonewrong", "branchwrong"):
        steps = pull(served, hub, f"mine:{tag}")
        assert statuses(steps)[-1] == "success"
        assert ("changed on the hub" in str(steps)) == tag.endswith("wrong")


def test_an_address(served: Daemon, hub: FakeHub, gguf: bytes) -> None:
    hub.plain["/files/My Model.gguf"] = gguf
    url = f"{hub.url}/files/My%20Model.gguf"
    answer = start(served, hub, url)
    assert answer.status == 400 and b"--insecure" in answer.read()
    steps = pull(served, hub, url, insecure=True)
    [name] = names(served)
    assert name.endswith("/files/My-Model:latest") and steps[-1]["model"] == name
    asked = len(hub.asked("hub", method="GET"))
    assert statuses(pull(served, hub, url, insecure=True))[-1] == "success"
    assert len(hub.asked("hub", method="GET")) == asked + 1, "it was only looked at"


def test_from_another_daemon(home: Path, hub: FakeHub, model_store: Path) -> None:
    """A daemon can pull what another has, where the other's settings allow it."""
    other = home / "other"
    other.mkdir()
    with (
        serve(home, home / "models") as mine,
        serve(other, model_store, SERVE_MODELS="1") as theirs,
        serve(other, model_store) as silent,
    ):
        assert statuses(pull(mine, hub, "rules", **{"from": theirs.url}))[-1] == "success"
        [got] = mine.ask("GET", "/api/tags").json()["models"]
        [has] = [
            each
            for each in theirs.ask("GET", "/api/tags").json()["models"]
            if each["name"] == "rules:latest"
        ]
        assert (got["name"], got["digest"]) == ("rules:latest", has["digest"])
        assert "not found" in fails(pull(mine, hub, "nosuch", **{"from": theirs.url}))
        error = fails(pull(mine, hub, "plain", **{"from": silent.url}))
        assert "'plain:latest' not found on 127" in error and "OLLAMAPY_SERVE_MODELS=1" in error
        assert cli(mine, hub, "pull", "--from", theirs.url[7:], "plain").returncode == 0
        blob = f"/v2/library/rules/blobs/{_config_of(theirs, 'rules')}"
        assert theirs.ask("GET", blob).status == 200
        assert theirs.ask("GET", blob.replace("rules", "plain", 1)).status == 404
        assert theirs.ask("GET", "/v2/library/rules/blobs/sha256:..").status == 400
        part = theirs.ask("GET", blob, Range="bytes=2-5")
        assert (part.status, len(part.body)) == (206, 4)


def _config_of(daemon: Daemon, model: str) -> str:
    manifest = daemon.ask("GET", f"/v2/library/{model}/manifests/latest")
    return str(json.loads(manifest.body)["config"]["digest"])


# What goes wrong


def _traversal(hub: FakeHub, gguf: bytes) -> None:
    hub.add_repo("me/repo", {"../../m.gguf": gguf})


def _wrong_digest(hub: FakeHub, gguf: bytes) -> None:
    hub.add_repo("me/repo", {"m.gguf": gguf})
    hub.fault(path=sha256(gguf), corrupt=1000, times=float("inf"))


def _html(hub: FakeHub, gguf: bytes) -> None:
    hub.fault(server="hub", html=True, times=float("inf"))


def _limited(hub: FakeHub, gguf: bytes) -> None:
    headers = {"RateLimit": '"api";r=0;t=3000'}
    hub.fault(server="hub", status=429, headers=headers, times=float("inf"))


def _pointer(hub: FakeHub, gguf: bytes) -> None:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(gguf)}\nsize 1\n"
    hub.add_repo("me/repo", {"m.gguf": text.encode()})


BAD: dict[str, tuple[Callable[[FakeHub, bytes], Any], str]] = {
    "missing": (lambda hub, gguf: None, "me/repo does not exist"),
    "gated": (lambda hub, gguf: hub.add_repo("me/repo", {"m.gguf": gguf}, gated=True), "is gated"),
    "private": (
        lambda hub, gguf: hub.add_repo("me/repo", {"m.gguf": gguf}, private=True),
        "does not exist",
    ),
    "no gguf": (lambda hub, gguf: hub.add_repo("me/repo", {"a.txt": b"x"}), "has no GGUF file"),
    "no model": (lambda hub, gguf: hub.add_repo("me/repo", {"m.gguf": content(999)}), "GGUF"),
    "cut off": (lambda hub, gguf: hub.add_repo("me/repo", {"m.gguf": gguf[:5000]}), "cut off"),
    "no params": (
        lambda hub, gguf: hub.add_repo("me/repo", {"m.gguf": gguf, "params": b"[1"}),
        "are not a JSON object",
    ),
    "path": (_traversal, "which is refused"),
    "digest": (_wrong_digest, "is damaged, expected sha256:"),
    "html": (_html, "a web page"),
    "limited": (_limited, "limits requests: try again in 3001 s"),
    "pointer": (_pointer, ""),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_had_leaves_nothing(
    served: Daemon, hub: FakeHub, gguf: bytes, what: str
) -> None:
    prepare, message = BAD[what]
    prepare(hub, gguf)
    error = fails(pull(served, hub, "hf.co/me/repo"))
    assert message in error and "\n" not in error
    assert names(served) == [] and not list((served.home / "models").glob("manifests/*"))
    if what not in ("no params", "digest"):  # whose files are good as they are, or not there
        assert not blobs(served)
    answer = start(served, hub, "hf.co/me/repo", stream=False)
    assert answer.status >= 400 and json.loads(answer.read())["error"]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b" " * (MAX_MANIFEST + 1), "more than the 4194304 bytes allowed"),
        (b"<html>", "a web page"),
        (b"{}", "cannot be used"),
        (b'{"layers": [{"digest": "sha256:../../x"}]}', "cannot be used"),
    ],
    ids=["large", "html", "empty", "path"],
)
def test_a_manifest_that_is_none(
    served: Daemon, hub: FakeHub, manifest: bytes, message: str
) -> None:
    hub.put_manifest("library/gemma", "latest", manifest)
    assert message in fails(pull(served, hub, "gemma", **{"from": hub.url}))
    assert names(served) == [] and not blobs(served)


def test_offline_asks_nobody(served: Daemon, hub: FakeHub, gguf: bytes) -> None:
    hub.add_repo("me/repo", {"m.gguf": gguf})
    steps = pull(served, hub, "hf.co/me/repo", off=True)
    assert "HF_HUB_OFFLINE is set" in fails(steps) and not hub.requests
    assert statuses(pull(served, hub, "hf.co/me/repo"))[-1] == "success"
    asked = len(hub.requests)
    steps = pull(served, hub, "hf.co/me/repo", off=True)
    assert statuses(steps) == ["pulling manifest", "success"] and len(hub.requests) == asked


def test_a_token_of_the_request_opens_and_is_not_logged(
    served: Daemon, hub: FakeHub, gguf: bytes
) -> None:
    hub.add_repo("me/repo", {"m.gguf": gguf}, private=True)
    assert statuses(pull(served, hub, "hf.co/me/repo", token="hf_good"))[-1] == "success"
    assert "hf_good" not in served.log.read_text()
    files = [path for path in served.home.rglob("*") if path.is_file()]
    assert files and not any(b"hf_good" in path.read_bytes() for path in files)


def test_a_model_that_is_replaced_leaves_nothing(served: Daemon, hub: FakeHub, gguf: bytes) -> None:
    newer = gguf + bytes(64)
    hub.add_repo("me/repo", {"m.gguf": gguf})
    pull(served, hub, "hf.co/me/repo")
    hub.add_repo("me/repo", {"m.gguf": newer})
    assert "removing unused layers" in statuses(pull(served, hub, "hf.co/me/repo"))
    found = blobs(served)
    assert f"sha256-{sha256(newer)}" in found and f"sha256-{sha256(gguf)}" not in found
    assert len(found) == 2
