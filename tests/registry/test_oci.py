"""The registry protocol: manifests kept byte for byte, tokens fetched only from the registry itself."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ollamapy.config import HubSettings
from ollamapy.errors import (
    InvalidModel,
    OllamapyError,
    RateLimited,
    RemoteNotFound,
    TransferError,
    Unauthorized,
)
from ollamapy.names import Name
from ollamapy.registry import oci
from ollamapy.registry.download import fetch
from ollamapy.registry.http import Access
from ollamapy.registry.manifest import MAX_MANIFEST
from ollamapy.registry.probe import read_small
from ollamapy.registry.store import Store
from tests.registry.conftest import Haste
from tests.registry.fake_hub import FakeHub, content, sha256

GEMMA = Name.parse("gemma:2b")
WEIGHTS = content(200_000)
LAYERS = [
    ("model", WEIGHTS),
    ("license", b"first"),
    ("license", b"second"),
    ("template", b"{{ .Prompt }}"),
    ("params", b'{"stop": ["a"]}'),
]


def test_a_model_comes_as_it_was_published(hub: FakeHub, store: Store) -> None:
    manifest = hub.add_ollama("library/gemma", "2b", LAYERS, config=b'{"model_format":"gguf"}')
    model = oci.list_files(GEMMA, hub.access())  # its content type is text/plain
    assert model.content == manifest and model.manifest.digest == sha256(manifest)
    assert len(hub.requests) == 1
    assert [each.kind for each in model.manifest.layers] == [kind for kind, _ in LAYERS]
    for file in model.files:
        fetch(file, model.access, store)
    store.write_manifest(GEMMA, model.content)
    assert store.manifest(GEMMA).digest == sha256(manifest)
    for layer, (_, data) in zip(model.manifest.layers, LAYERS, strict=True):
        assert store.read_small(layer) == data
        assert read_small(model.file(layer), model.access) == data


def test_a_blob_that_two_layers_share_is_one_file(hub: FakeHub) -> None:
    hub.add_ollama("library/gemma", "2b", [("model", WEIGHTS), ("license", b"x"), ("system", b"x")])
    assert len(oci.list_files(GEMMA, hub.access()).files) == 3


def test_ollamas_own_agent_would_be_asked_for_a_key(hub: FakeHub) -> None:
    hub.add_ollama("library/gemma", "2b", LAYERS)
    oci.list_files(GEMMA, hub.access())
    assert not hub.requests[0].headers["user-agent"].startswith("ollama")


# Tokens


def test_a_token_is_fetched_where_the_registry_says(hub: FakeHub) -> None:
    hub.add_ollama("library/private", "latest", LAYERS)
    hub.realm = f"{hub.url}/v2/token"
    model = oci.list_files(Name.parse("private"), hub.access())
    assert model.access.authorization == "Bearer registry-token"
    assert [each.path for each in hub.requests] == [
        "/v2/library/private/manifests/latest",
        "/v2/token",
        "/v2/library/private/manifests/latest",
    ]


def test_a_token_that_the_user_has_is_sent(hub: FakeHub) -> None:
    hub.add_ollama("library/private", "latest", LAYERS)
    hub.realm = f"{hub.url}/v2/token"
    oci.list_files(Name.parse("private"), hub.access("registry-token"))
    assert len(hub.requests) == 1


@pytest.mark.parametrize(
    "realm", ["{alias}/v2/token", "https://example.com/t", "nonsense", "{cdn}"]
)
def test_a_token_is_not_fetched_from_another_host(hub: FakeHub, realm: str) -> None:
    hub.add_ollama("library/private", "latest", LAYERS)
    hub.realm = realm.format(alias=hub.alias_url, cdn=hub.cdn_url)
    with pytest.raises(Unauthorized, match="which is refused: it is another host"):
        oci.list_files(Name.parse("private"), hub.access("secret"))
    assert len(hub.requests) == 1


def test_a_model_for_which_there_is_no_token(hub: FakeHub) -> None:
    hub.realm = f"{hub.url}/v2/token"
    with pytest.raises(Unauthorized, match="gives no token"):
        oci.list_files(Name.parse("other"), hub.access())


# Where the registry of a name is


@pytest.mark.parametrize(
    ("name", "insecure", "endpoint", "authorization"),
    [
        ("gemma", False, "https://registry.ollama.ai", "Bearer other"),
        ("gemma", True, "http://registry.ollama.ai", "Bearer other"),
        ("localhost:5000/a/b", True, "http://localhost:5000", "Bearer other"),
        ("hf.co/user/repo", False, "https://huggingface.co", "Bearer hf"),
        ("huggingface.co/user/repo", False, "https://huggingface.co", "Bearer hf"),
    ],
)
def test_who_is_asked(name: str, insecure: bool, endpoint: str, authorization: str) -> None:
    """And the hub's token goes to no registry, nor a registry's to the hub."""
    access = oci.registry_access(
        Name.parse(name),
        HubSettings(token="hf"),
        authorization=oci.bearer("other"),
        insecure=insecure,
    )
    assert (access.endpoint, access.authorization) == (endpoint, authorization)


def test_a_user_and_a_password() -> None:
    assert oci.basic("Aladdin", "open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_a_mirror_of_the_hub_is_its_registry_too() -> None:
    hub = HubSettings(endpoint="https://mirror.example")
    assert oci.registry_access(Name.parse("hf.co/a/b"), hub).endpoint == "https://mirror.example"


# Errors


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "gemma:7b",
            "'gemma' with tag '7b' not found on .*, see https://ollama.com/library/gemma/t",
        ),
        ("user/m", "'user/m' with tag 'latest' not found .* see https://ollama.com/user/m/tags"),
        ("r.example/a/b:c", "'a/b' with tag 'c' not found on 127.*, see http://127"),
    ],
)
def test_a_model_that_is_not_there(hub: FakeHub, name: str, message: str) -> None:
    with pytest.raises(RemoteNotFound, match=message):
        oci.list_files(Name.parse(name), hub.access())


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (
            {"status": 400, "text": '{"error":"The specified tag is not a valid quantization."}'},
            RemoteNotFound,
            r"has no 'gemma' with tag '2b' \(The specified tag is not a valid quantization\), see",
        ),
        ({"status": 401}, RemoteNotFound, "does not exist on .* or is private"),
        ({"status": 429}, RateLimited, "limits requests"),
        ({"status": 500}, TransferError, "answers 500: try again later"),
        ({"html": True}, InvalidModel, "a web page, is there a login page between"),
        (
            {"status": 200, "text": "{}"},
            InvalidModel,
            "'gemma:2b' from .* it has no list of layers",
        ),
        (
            {"status": 200, "text": " " * (MAX_MANIFEST + 1)},
            TransferError,
            "more than the 4194304 bytes allowed",
        ),
    ],
)
def test_a_registry_that_says_no(
    hub: FakeHub,
    haste: Haste,
    fault: dict[str, object],
    kind: type[OllamapyError],
    message: str,
) -> None:
    hub.add_ollama("library/gemma", "2b", LAYERS)
    hub.fault("hub", times=99, **fault)
    with pytest.raises(kind, match=message) as caught:
        oci.list_files(GEMMA, hub.access(), haste.patience)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layers", "config", "message"),
    [
        (
            [],
            b'{"remote_host":"https://ollama.com:443"}',
            "is a cloud model, it runs only on https",
        ),
        ([("tensor", b"x")], b"{}", "separate tensors for MLX"),
        ([("license", b"x")], b"{}", "has no weights, choose another tag"),
        ([("license", b"x")], b"[1]", "has no weights"),
    ],
)
def test_what_cannot_run_here_is_refused_at_once(
    hub: FakeHub, layers: list[tuple[str, bytes]], config: bytes, message: str
) -> None:
    hub.add_ollama("library/gemma", "2b", layers, config)
    with pytest.raises(InvalidModel, match=message):
        oci.list_files(GEMMA, hub.access())


def test_one_digest_with_two_sizes(hub: FakeHub) -> None:
    value = json.loads(hub.add_ollama("library/gemma", "2b", LAYERS))
    value["layers"].append({**value["layers"][0], "size": 1})
    hub.put_manifest("library/gemma", "2b", json.dumps(value).encode())
    with pytest.raises(InvalidModel, match="two sizes"):
        oci.list_files(GEMMA, hub.access())


def test_a_small_file_is_verified(hub: FakeHub) -> None:
    hub.add_ollama("library/gemma", "2b", LAYERS)
    model = oci.list_files(GEMMA, hub.access())
    file = model.file(model.manifest.layers[3])
    hub.fault("hub", path="blobs", corrupt=0)
    with pytest.raises(TransferError, match="is damaged, expected sha256:"):
        read_small(file, model.access)
    with pytest.raises(TransferError, match="more than the 5 allowed"):
        read_small(file, model.access, limit=5)
    with pytest.raises(TransferError, match="does not exist"):
        read_small(replace(file, url=file.url[:-1] + "x"), model.access)


def test_a_closed_registry_says_so(haste: Haste) -> None:
    with pytest.raises(TransferError, match="cannot reach 127.0.0.1"):
        oci.list_files(GEMMA, Access("http://127.0.0.1:9"), haste.patience)
