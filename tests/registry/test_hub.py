"""What the hub says a repository holds, what it says when it says no, and which file a tag means."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from ollamapy.config import DEFAULT_ENDPOINT, HubSettings
from ollamapy.errors import (
    AccessDenied,
    GatedModel,
    InvalidRequest,
    Offline,
    OllamapyError,
    RateLimited,
    RemoteNotFound,
    TransferError,
    Unauthorized,
)
from ollamapy.registry.hub import (
    Repo,
    access_of,
    choose,
    is_safe_path,
    list_files,
    tags,
)
from ollamapy.registry.remote import RemoteFile
from tests.registry.conftest import Haste
from tests.registry.fake_hub import FakeHub, content, git_sha1, sha256

GGUF = content(2000)
REPO = Repo("user/Model-GGUF")


@pytest.fixture
def model(hub: FakeHub) -> FakeHub:
    hub.add_repo(
        "user/Model-GGUF", {"m-Q4_K_M.gguf": GGUF, "README.md": b"Hello", "sub/a.txt": b""}
    )
    return hub


# Listing


def test_one_request_tells_everything(model: FakeHub) -> None:
    found = list_files(Repo("USER/model-gguf"), model.access())
    assert len(model.requests) == 1
    assert found.repo == "user/Model-GGUF"  # as the hub spells it
    gguf, readme, empty = found.files
    assert (gguf.path, gguf.size, gguf.sha256) == ("m-Q4_K_M.gguf", 2000, sha256(GGUF))
    assert (readme.size, readme.sha256, readme.git_sha1) == (5, None, git_sha1(b"Hello"))
    assert empty.size == 0
    assert gguf.url == f"{model.url}/user/Model-GGUF/resolve/{found.commit}/m-Q4_K_M.gguf"


@pytest.mark.parametrize("revision", ["feature/x", "v1.0", "refs/pr/3"])
def test_any_revision_becomes_a_commit(model: FakeHub, revision: str) -> None:
    commit = model.add_repo("user/Model-GGUF", {"b.gguf": b"b"}, branch=revision)
    for asked in (revision, commit):
        found = list_files(Repo("user/Model-GGUF", asked), model.access())
        assert (found.commit, [each.path for each in found.files]) == (commit, ["b.gguf"])
    assert f"/revision/{revision.replace('/', '%2F')}" in model.requests[0].path


def test_names_with_odd_characters_are_quoted_in_addresses(hub: FakeHub) -> None:
    name = "a b/ä#1 100%?x&y+z.gguf"
    hub.add_repo("user/m", {name: GGUF, "模型\u3000说明.md": b"read", "👩\u200d🔬.md": b"me"})
    (file, *_) = list_files(Repo("user/m"), hub.access()).files
    assert file.path == name
    assert file.url.endswith("/a%20b/%C3%A4%231%20100%25%3Fx%26y%2Bz.gguf")


def test_a_mirror_without_sizes_is_asked_page_by_page_and_never_left(hub: FakeHub) -> None:
    files = {f"q/m-{n:02}.gguf": content(10, n) for n in range(10)}
    hub.add_repo("user/m", files)
    hub.plain_listing, hub.page_size = True, 3
    hub.link_origin = (
        "https://huggingface.co"  # the fake cannot answer for it: it must not be asked
    )
    found = list_files(Repo("user/m"), hub.access("hf_good"))
    assert {each.path: each.sha256 for each in found.files} == {
        path: sha256(data) for path, data in files.items()
    }
    assert len(hub.asked("hub", "/tree/")) == 4


@pytest.mark.parametrize(
    "path",
    [
        "../x.gguf",
        "/etc/x.gguf",
        "a/../../x.gguf",
        "a\\x.gguf",
        "C:/x",
        "a//b",
        "a\0b",
        ".",
        "a\u202eb",
    ],
)
def test_a_name_that_leads_outside_is_refused(hub: FakeHub, path: str) -> None:
    hub.add_repo("user/m", {path: GGUF, "good.gguf": GGUF})
    with pytest.raises(TransferError, match="lists a file named .* which is refused"):
        list_files(Repo("user/m"), hub.access())
    assert not is_safe_path(path)


@pytest.mark.parametrize(
    "value",
    [
        "[]",
        "{}",
        '{"id": "a/b", "sha": "short", "siblings": []}',
        '{"id": "a/b", "sha": "%s", "siblings": [1]}' % ("0" * 40),
        '{"id": "../b", "sha": "%s", "siblings": []}' % ("0" * 40),
        '{"id": "a/b", "sha": "%s", "siblings": [{"rfilename": 1, "size": 1}]}' % ("0" * 40),
        '{"id": "a/b", "sha": "%s", "siblings": [{"rfilename": "x", "size": -1}]}' % ("0" * 40),
        '{"id": "a/b", "sha": "%s", "siblings": [{"rfilename": "x", "size": 1, '
        '"lfs": {"sha256": "../../x", "size": 1}}]}' % ("0" * 40),
    ],
)
def test_a_listing_that_makes_no_sense(hub: FakeHub, value: str) -> None:
    hub.fault("hub", status=200, text=value)
    with pytest.raises(TransferError, match="makes no sense: is HF_ENDPOINT"):
        list_files(REPO, hub.access())


@pytest.mark.parametrize("id", ["", "a/b/c", "../b", "a/..", "a--b/c", "a/b.git", "-a/b", "a b/c"])
def test_what_is_no_repository_is_not_asked_for(id: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a repository, write user/name"):
        Repo(id)


# Errors: each says what to do


@pytest.mark.parametrize(
    ("state", "token", "kind", "message"),
    [
        ({}, "", RemoteNotFound, "user/none does not exist on .* set HF_TOKEN if it is yours"),
        ({}, "hf_good", RemoteNotFound, "user/none does not exist .* your token may not read it"),
        ({"private": True}, "", RemoteNotFound, "is private: check the name, or set HF_TOKEN"),
        ({"private": True}, "hf_bad", Unauthorized, "private .* not accept your token: make a new"),
        ({"gated": True}, "", GatedModel, "accept its licence at http.*/user/m, then set HF_TOKEN"),
        ({"gated": True}, "hf_good", GatedModel, "with the account of your token and pull again"),
        (
            {"disabled": True},
            "",
            AccessDenied,
            r"denies access to user/m \(Access to .* disabled\.\), see",
        ),
    ],
)
def test_a_repository_that_cannot_be_read(
    hub: FakeHub, state: dict[str, Any], token: str, kind: type[Exception], message: str
) -> None:
    if state:
        hub.add_repo("user/m", {"m.gguf": GGUF}, **state)
    with pytest.raises(kind, match=message) as caught:
        list_files(Repo("user/m" if state else "user/none"), hub.access(token))
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    assert not token or token not in str(caught.value)


def test_a_missing_revision(model: FakeHub) -> None:
    with pytest.raises(RemoteNotFound, match="user/Model-GGUF at v9 has no such branch"):
        list_files(Repo(REPO.id, "v9"), model.access())


def test_a_wrong_token_does_not_close_what_is_open(model: FakeHub, haste: Haste) -> None:
    found = list_files(REPO, model.access("hf_bad"), haste.patience)
    assert len(found.files) == 3 and found.access.authorization == ""
    assert haste.notes == [f"{model.access().host} does not accept your token, going on without it"]


@pytest.mark.parametrize(
    ("fault", "kind", "status", "message"),
    [
        ({"status": 429}, RateLimited, 429, "limits requests: try again in 300 s, or set HF_TOKEN"),
        (
            {"status": 429, "headers": {"RateLimit": '"api";r=0;t=9999'}},
            RateLimited,
            429,
            "try again in 10000 s",
        ),
        (
            {"status": 503, "text": "<h1>down</h1>"},
            TransferError,
            502,
            r"answers 503 \(down\): try",
        ),
        (
            {"status": 418, "text": "a\x1b[31mb"},
            TransferError,
            502,
            r"answers 418 for .* \(a \[31mb",
        ),
        ({"html": True}, TransferError, 502, "a web page"),
        ({"status": 403, "text": "hf_good no"}, AccessDenied, 403, r"denies access .* \(\.\.\. no"),
        # A wrong token, in whatever words; and a server that is no hub, which means the model
        (
            {"status": 401, "headers": {"X-Error-Message": "Jeton inconnu"}},
            Unauthorized,
            401,
            "does not accept your token: make a new one",
        ),
        ({"status": 401, "text": "no"}, RemoteNotFound, 404, "or your token may not read it"),
    ],
)
def test_a_hub_in_trouble(
    model: FakeHub,
    haste: Haste,
    fault: dict[str, Any],
    kind: type[OllamapyError],
    status: int,
    message: str,
) -> None:
    model.fault("hub", times=99, **fault)
    token = "hf_good" if fault.get("status") in (401, 403) else ""
    with pytest.raises(kind, match=message) as caught:
        list_files(REPO, model.access(token), haste.patience)
    assert caught.value.status == status
    assert len(model.requests) <= 5


def test_offline_opens_no_socket(model: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(Offline, match="HF_HUB_OFFLINE is set"):
        list_files(REPO, model.access(offline=True))


# Settings


def test_settings_speak_hugging_faces_words(tmp_path: Path) -> None:
    assert HubSettings.from_variables({}).endpoint == DEFAULT_ENDPOINT
    settings = HubSettings.from_variables(
        {
            "HF_ENDPOINT": "https://mirror.example/hf/",
            "HF_TOKEN": " hf_a\n",
            "HUGGING_FACE_HUB_TOKEN": "hf_old",
            "HF_HOME": "$DATA/hf",
            "DATA": str(tmp_path),
            "TRANSFORMERS_OFFLINE": "Yes",
        }
    )
    assert settings == HubSettings(
        "https://mirror.example/hf", "hf_a", tmp_path / "hf" / "token", offline=True
    )
    access = access_of(settings)
    assert access.authorization == "Bearer hf_a" and access.offline
    assert access.aliases == ("https://huggingface.co", "https://hf.co")
    assert "hf_a" not in repr(settings)


def test_the_token_file_is_read_at_every_pull(tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = HubSettings.from_variables({"HF_TOKEN_PATH": str(file)})
    assert access_of(settings).authorization == ""
    file.write_text("hf_one\n")
    assert access_of(settings).authorization == "Bearer hf_one"
    file.write_text("hf_two")
    assert access_of(settings).authorization == "Bearer hf_two"
    assert access_of(HubSettings.from_variables({"HF_TOKEN_PATH": str(file), "HF_TOKEN": "x"})) == (
        access_of(HubSettings(token="x"))
    )
    file.write_text("two\nlines")
    with pytest.raises(InvalidRequest, match="the Hugging Face token is not one line"):
        access_of(settings)


def test_a_token_is_not_sent_unasked_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_file")
    environ = {"HF_HOME": str(tmp_path), "HF_TOKEN": "a", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    assert access_of(HubSettings.from_variables(environ)).authorization == ""


# Choosing: the shapes of real repositories


def files(*paths: str) -> list[RemoteFile]:
    return [RemoteFile(path, "", 1000 - n, "0" * 64) for n, path in enumerate(paths)]


def shards(prefix: str, count: int, leave_out: int = 0) -> list[str]:
    numbers = [n for n in range(count, 0, -1) if n != leave_out]  # no order can be relied on
    return [f"{prefix}-{n:05}-of-{count:05}.gguf" for n in numbers]


BARTOWSKI = files(
    *(f"Llama-3.2-1B-Instruct-{quant}.gguf" for quant in "IQ3_M IQ4_XS Q3_K_XL Q4_0".split()),
    *(
        f"Llama-3.2-1B-Instruct-{q}.gguf"
        for q in "Q4_0_4_4 Q4_K_L Q4_K_M Q4_K_S Q6_K_L f16".split()
    ),
    "Llama-3.2-1B-Instruct.imatrix",
    "README.md",
)
UNSLOTH = files(
    "gemma-3-27b-it-Q4_K_M.gguf",
    "gemma-3-27b-it-UD-Q4_K_XL.gguf",
    "gemma-3-27b-it-UD-IQ1_S.gguf",
    *shards("BF16/gemma-3-27b-it-BF16", 2),
    "mmproj-BF16.gguf",
    "mmproj-F16.gguf",
    "mmproj-F32.gguf",
    "imatrix_unsloth.gguf",
)
FOLDERS = files(
    *shards("Q2_K/big-Q2_K", 3),
    *shards("UD-Q4_K_XL/big-UD-Q4_K_XL", 5),
    *shards("Q8_0/big-Q8_0", 9),
)
THEBLOKE = files("llama-2-7b.Q2_K.gguf", "llama-2-7b.Q4_0.gguf", "llama-2-7b.Q4_K_M.gguf")
GGML_ORG = files(
    "gemma-3-4b-it-f16.gguf", "gemma-3-4b-it-q4_k_m.gguf", "mmproj-model-f16.gguf", "mtp-x.gguf"
)
GPT_OSS = files("gpt-oss-20b-mxfp4.gguf", "gpt-oss-20b-F16.gguf", "gpt-oss-20b-Q8_0.gguf")
QWEN = files(
    *shards("qwen2.5-7b-instruct-q4_k_m", 2),
    "qwen2.5-7b-instruct-q3_k_m.gguf",
    *shards("qwen2.5-7b-instruct-q8_0", 3),
)
ONLY_F16 = files("model-f16.gguf", "eagle3-model-Q4_K_M.gguf")
UNKNOWN = files("b.gguf", "a.gguf")
TWO_NAMES = (
    *("m-4b-Q4_0.gguf", "m-14b-Q4_0.gguf", "other-Q4_0.gguf"),
    *("mmproj-m-4b-F16.gguf", "mmproj-m-14b-BF16.gguf", "mmproj-m-14b-F32.gguf"),
)
TWO_SIZES = files(*TWO_NAMES)


def of(sizes: dict[str, float]) -> list[RemoteFile]:
    """Files by their sizes in GB."""
    return [RemoteFile(path, "", int(size * 10**9), "0" * 64) for path, size in sizes.items()]


@pytest.mark.parametrize(
    ("repo", "tag", "chosen", "label"),
    [
        # nothing asked for
        (BARTOWSKI, None, "Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        (BARTOWSKI, "latest", "Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        (UNSLOTH, None, "gemma-3-27b-it-Q4_K_M.gguf", "Q4_K_M"),
        (FOLDERS, None, "UD-Q4_K_XL/big-UD-Q4_K_XL-00001-of-00005.gguf", "UD-Q4_K_XL"),
        (THEBLOKE, None, "llama-2-7b.Q4_K_M.gguf", "Q4_K_M"),
        (GGML_ORG, None, "gemma-3-4b-it-q4_k_m.gguf", "Q4_K_M"),
        (GPT_OSS, None, "gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        (QWEN, None, "qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", "Q4_K_M"),
        (ONLY_F16, None, "model-f16.gguf", "F16"),
        (UNKNOWN, None, "a.gguf", ""),
        (files("m-Q8_0.gguf", "m-BF16.gguf"), None, "m-Q8_0.gguf", "Q8_0"),
        (files("x/m-Q4_0.gguf", "m-Q4_0.gguf"), None, "m-Q4_0.gguf", "Q4_0"),
        # names that are not llama.cpp's
        (of({"V_F16.gguf": 16, "V_Q4.gguf": 4.7, "V_Q8.gguf": 8.5}), None, "V_Q4.gguf", "Q4"),
        (of({"m-F16.gguf": 16, "m-4bit.gguf": 4.7}), None, "m-4bit.gguf", "4BIT"),
        (of({"m-fp16.gguf": 16, "m-int4.gguf": 4.7}), None, "m-int4.gguf", "INT4"),
        (of({"m.F16.gguf": 16, "m.Q4_K.gguf": 4.7}), None, "m.Q4_K.gguf", "Q4_K"),
        (of({"m.F16.gguf": 16, "m.Q6_K_XL.gguf": 7}), None, "m.Q6_K_XL.gguf", "Q6_K_XL"),
        (of({"m-F16.gguf": 16, "m.gguf": 4.7}), None, "m.gguf", ""),  # by its size
        (of({"a.gguf": 16, "b.gguf": 8.5, "c.gguf": 4.7}), None, "c.gguf", ""),
        (of({"m-F16.gguf": 16, "vocabulary.gguf": 0.01}), None, "m-F16.gguf", "F16"),
        (of({"m-Q4.gguf": 4.7, "m-Q4_K_M.gguf": 4.9}), None, "m-Q4_K_M.gguf", "Q4_K_M"),
        (of({"V_F16.gguf": 16, "V_Q4.gguf": 4.7}), "q4", "V_Q4.gguf", "Q4"),
        # drafters beside the model
        (of({"g-Q8_0.gguf": 4, "MTP/g-MTP-Q8_0.gguf": 0.4}), "Q8_0", "g-Q8_0.gguf", "Q8_0"),
        (of({"g-F16.gguf": 4, "MTP/g-Q4_K_M.gguf": 0.4}), None, "g-F16.gguf", "F16"),
        (of({"m-F16.gguf": 4, "m-draft-Q4_K_M.gguf": 0.4}), None, "m-F16.gguf", "F16"),
        (of({"m-F16.gguf": 4, "draft/a-Q4_K_M.gguf": 4}), None, "m-F16.gguf", "F16"),
        (of({"m-F16.gguf": 4, "m.Q4_0.eagle3.gguf": 0.4}), None, "m-F16.gguf", "F16"),
        (of({"m-F16.gguf": 4, "m-Speculator-Q4_0.gguf": 0.4}), None, "m-F16.gguf", "F16"),
        (of({"m-F16.gguf": 4, "nextn/m-Q4_K_M.gguf": 0.4}), None, "m-F16.gguf", "F16"),
        (of({"m-F16.gguf": 4, "m-assistant-Q4_K_M.gguf": 0.4}), None, "m-F16.gguf", "F16"),
        (of({"m-F16.gguf": 4, "m-spec-Q4_K_M.gguf": 0.4}), None, "m-F16.gguf", "F16"),
        (of({"m-q4f16.gguf": 2, "m-q8.gguf": 4, "m-w2a16.gguf": 1}), None, "m-q4f16.gguf", "Q4F16"),
        # a model that has its MTP layers in it, a model for itself, and a word that begins so
        (of({"m-F16.gguf": 4, "m-MTP-Q4_0.gguf": 3}), None, "m-MTP-Q4_0.gguf", "Q4_0"),
        (of({"m-draft-Q4_0.gguf": 0.4}), None, "m-draft-Q4_0.gguf", "Q4_0"),
        (of({"m-F16.gguf": 4, "assistant-Q4_0.gguf": 3}), None, "assistant-Q4_0.gguf", "Q4_0"),
        (of({"m-F16.gguf": 4, "draftsman-Q4_0.gguf": 1}), None, "draftsman-Q4_0.gguf", "Q4_0"),
        # a quantisation
        (BARTOWSKI, "q4_0", "Llama-3.2-1B-Instruct-Q4_0.gguf", "Q4_0"),
        (BARTOWSKI, "Q4_K_L", "Llama-3.2-1B-Instruct-Q4_K_L.gguf", "Q4_K_L"),
        (BARTOWSKI, "Q6_K_L", "Llama-3.2-1B-Instruct-Q6_K_L.gguf", "Q6_K_L"),
        (BARTOWSKI, "F16", "Llama-3.2-1B-Instruct-f16.gguf", "F16"),
        (UNSLOTH, "bf16", "BF16/gemma-3-27b-it-BF16-00001-of-00002.gguf", "BF16"),
        (UNSLOTH, "UD-Q4_K_XL", "gemma-3-27b-it-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        (UNSLOTH, "Q4_K_XL", "gemma-3-27b-it-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),  # a part of the name
        (FOLDERS, "Q8_0", "Q8_0/big-Q8_0-00001-of-00009.gguf", "Q8_0"),
        # a name
        (THEBLOKE, "llama-2-7b.Q2_K", "llama-2-7b.Q2_K.gguf", "Q2_K"),
        (THEBLOKE, "LLAMA-2-7B.Q2_K.GGUF", "llama-2-7b.Q2_K.gguf", "Q2_K"),
        (FOLDERS, "q2_k/big-q2_k-00002-of-00003.gguf", "Q2_K/big-Q2_K-00001-of-00003.gguf", "Q2_K"),
        (FOLDERS, "big-Q2_K", "Q2_K/big-Q2_K-00001-of-00003.gguf", "Q2_K"),
        # of several, the plainest
        (files("long/m-Q5_0.gguf", "m-a-Q5_0.gguf", "m-Q5_0.gguf"), "Q5_0", "m-Q5_0.gguf", "Q5_0"),
        (files(*shards("m-Q5_0", 2), "mm-Q5_0.gguf"), "Q5_0", "mm-Q5_0.gguf", "Q5_0"),
    ],
)
def test_what_a_tag_means(repo: list[RemoteFile], tag: str | None, chosen: str, label: str) -> None:
    choice = choose(repo, tag)
    assert (choice.weights[0].path, choice.label) == (chosen, label)
    assert chosen in choice.reason


def test_all_parts_in_order() -> None:
    choice = choose(FOLDERS, "Q2_K")
    assert [each.path[-8:] for each in choice.weights] == ["003.gguf"] * 3
    assert [each.path for each in choice.weights] == sorted(each.path for each in choice.weights)
    assert choice.reason.endswith("as asked for with Q2_K, in 3 parts")


@pytest.mark.parametrize(
    ("repo", "tag", "kind", "message"),
    [
        (BARTOWSKI, "Q9", RemoteNotFound, "there is no Q9, choose one of: IQ3_M, IQ4_XS"),
        (BARTOWSKI, "Q4_K", InvalidRequest, "Q4_K can mean .*Q4_K_L.gguf, .*Q4_K_M.gguf"),
        (BARTOWSKI, "Q5_K_M", RemoteNotFound, "there is no Q5_K_M"),
        (GGML_ORG, "mmproj-model-f16", RemoteNotFound, "there is no mmproj-model-f16"),
        (files("a-Q4_0.gguf", "b-Q4_0.gguf"), "Q4_0", InvalidRequest, "can mean a-Q4_0.gguf, b-Q4"),
        (files(*shards("m-Q4_0", 3, 2)), None, RemoteNotFound, "lacks .*m-Q4_0-00002-of-00003"),
        (files("b.gguf", *shards("m-Q4_0", 3, 2)), "Q4_0", RemoteNotFound, "lacks parts"),
        (files("README.md", "model.safetensors"), None, RemoteNotFound, "ends in -GGUF"),
        (files("mmproj-F16.gguf"), "F16", RemoteNotFound, "no GGUF file"),
        (files("m-00001-of-99999.gguf"), None, RemoteNotFound, "lacks parts of its model"),
        ([], None, RemoteNotFound, "no GGUF file"),
        (of({"g-Q4_0.gguf": 4, "MTP/g-MTP-Q8_0.gguf": 0.4}), "Q8_0", RemoteNotFound, "no Q8_0"),
        (files(*shards("m-Q4_0", 3, 2), "m-draft-Q4_0.gguf"), None, RemoteNotFound, "lacks parts"),
    ],
)
def test_what_cannot_be_chosen(
    repo: list[RemoteFile], tag: str | None, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        choose(repo, tag)


@pytest.mark.parametrize(
    ("repo", "tag", "mmproj"),
    [
        (UNSLOTH, None, "mmproj-F16.gguf"),
        (UNSLOTH, "BF16", "mmproj-F16.gguf"),  # in the folder above
        (GGML_ORG, None, "mmproj-model-f16.gguf"),
        (files("m.gguf", "mmproj-Q8_0.gguf", "mmproj-BF16.gguf"), None, "mmproj-BF16.gguf"),
        (files("a/m.gguf", "mmproj-F16.gguf", "a/mmproj-F32.gguf"), None, "a/mmproj-F32.gguf"),
        (files("a/m.gguf", "b/mmproj-F16.gguf"), None, None),
        (files("ab/m.gguf", "a/mmproj-F16.gguf"), None, None),
        (BARTOWSKI, None, None),
        # the name that fits
        (TWO_SIZES, "m-4b-Q4_0", "mmproj-m-4b-F16.gguf"),
        (TWO_SIZES, "m-14b-Q4_0", "mmproj-m-14b-BF16.gguf"),
        (TWO_SIZES, "other-Q4_0", None),
        (files(*TWO_NAMES, "mmproj-model-f16.gguf"), "other-Q4_0", "mmproj-model-f16.gguf"),
        (
            files(
                "vicuna-7b-q5_k.gguf",
                "mistral-7b-q5_k.gguf",
                "mmproj-vicuna7b-f16.gguf",
                "mmproj-mistral7b-f16.gguf",
            ),
            "vicuna-7b-q5_k",
            "mmproj-vicuna7b-f16.gguf",
        ),
        (
            files("llava-v1.5-7b-Q4_K.gguf", "llava-v1.5-7b-mmproj-Q8_0.gguf"),
            None,
            "llava-v1.5-7b-mmproj-Q8_0.gguf",
        ),
        (
            files("m2-text-model-f16_ct-vicuna_20250414.gguf", "m2-mmproj-f16-20250414.gguf"),
            None,
            "m2-mmproj-f16-20250414.gguf",
        ),
        (
            files("gemma-3-4b-it-Q4_0.gguf", "mmproj-google_gemma-3-4b-it-f16.gguf"),
            None,
            "mmproj-google_gemma-3-4b-it-f16.gguf",
        ),
        (
            files(
                "m-8b-Q4_0.gguf", "mmproj-m-8b-instruct-F16.gguf", "mmproj-m-8b-thinking-F16.gguf"
            ),
            None,
            None,
        ),
        (
            files(
                "m-8b-instruct-Q4_0.gguf", "mmproj-m-8b-F16.gguf", "mmproj-m-8b-instruct-F32.gguf"
            ),
            None,
            "mmproj-m-8b-instruct-F32.gguf",
        ),
        # the only ones of their kinds, whatever their names
        (
            files("Tuned-m-8b-Q4_0.gguf", "Tuned-m-8b-Q8_0.gguf", "mmproj-m-8b-it-F16.gguf"),
            None,
            "mmproj-m-8b-it-F16.gguf",
        ),
        (
            files("Tuned-m-8b-Q4_0.gguf", "text-8b-Q8_0.gguf", "mmproj-m-8b-it-F16.gguf"),
            "Q4_0",
            None,
        ),
    ],
)
def test_the_projector_beside_it(
    repo: list[RemoteFile], tag: str | None, mmproj: str | None
) -> None:
    choice = choose(repo, tag)
    assert (choice.mmproj.path if choice.mmproj else None) == mmproj
    assert (mmproj is not None) == ("with the projector" in choice.reason)


def test_tags_that_can_be_asked_for() -> None:
    assert tags(THEBLOKE) == ["Q2_K", "Q4_0", "Q4_K_M"]  # by size
    assert tags(UNKNOWN) == ["b", "a"]
