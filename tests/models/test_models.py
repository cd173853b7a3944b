"""Stored models as values, in the list and in `show`, on real stores with real GGUF files."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ollamapy.errors import InvalidModel, InvalidName, ModelNotFound, StoreError
from ollamapy.formats.gguf import Header
from ollamapy.formats.parameters import print_parameters
from ollamapy.models.models import (
    Config,
    Models,
    capabilities,
    parse_config,
    print_modelfile,
    print_time,
    shown_template,
)
from ollamapy.names import Name
from ollamapy.registry.manifest import Layer, parse_manifest, print_manifest
from ollamapy.registry.store import Store
from ollamapy.types import Message, Options
from tests.small_models import CHATML, GO_CHATML, install, random_model

OLLAMAS = Path(__file__).parent.parent / "data" / "store"

JINJA_TOOLS = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}<think></think>"


def models(root: Path) -> Models:
    return Models(Store([root]))


def show(root: Path, name: str, **how: Any) -> dict[str, Any]:
    """The answer of `show` as a client gets it."""
    answer = asyncio.run(models(root).show(name, **how))
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(answer))
    return decoded


# One model


def test_everything_about_a_model(tmp_path: Path, scripted: Path) -> None:
    install(
        tmp_path,
        "user/Brief:v1",
        scripted,
        template=GO_CHATML,
        system="Be brief.",
        params={"temperature": 0, "stop": ["##"], "num_ctx": 1024, "odd": 1, "top_k": "many"},
        messages=[{"role": "User", "content": "q"}, {"role": "assistant", "content": "a"}],
        license="MIT",
    )
    spec = asyncio.run(models(tmp_path).load("USER/brief:V1"))
    assert spec.name.display == "user/Brief:v1"
    assert spec.go_template == GO_CHATML and spec.jinja_template == CHATML
    assert spec.system == "Be brief."
    assert spec.messages == (Message("user", "q"), Message("assistant", "a"))
    assert spec.options == Options(temperature=0.0, stop=("##",), num_ctx=1024)
    assert spec.parameters["odd"] == 1
    assert spec.licenses == ("MIT",)
    assert spec.capabilities == ("completion",)
    assert spec.config.model_family == "llama"
    assert spec.model_path.read_bytes() == scripted.read_bytes()
    assert spec.model_path.name == spec.model_digest.replace(":", "-")
    assert spec.header.context_length == 2048
    assert not spec.joins_messages
    assert spec.projector_path is None and spec.adapter_paths == ()


def test_a_model_with_nothing_but_weights(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "plain", plain)
    spec = asyncio.run(models(tmp_path).load("plain"))
    assert (spec.go_template, spec.jinja_template, spec.system) == (None, None, None)
    assert (spec.messages, spec.options, dict(spec.parameters)) == ((), Options(), {})
    answer = show(tmp_path, "plain")
    assert "template" not in answer  # a client sees that it only continues text
    assert answer["modelfile"].endswith("\nTEMPLATE {{ .Prompt }}\n")
    absent = {"license", "parameters", "system", "messages", "projector_info", "requires"}
    assert not absent & answer.keys()


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("nosuch", ModelNotFound, "^model 'nosuch' not found$"),
        ("NoSuch:Tag", ModelNotFound, "^model 'NoSuch:Tag' not found$"),
        ("", ModelNotFound, "^model '' not found$"),
        ("a b/c", InvalidName, "^invalid model name"),
        ("../../etc/passwd", InvalidName, "^invalid model name"),
    ],
)
def test_names_that_lead_nowhere(
    tmp_path: Path, name: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        asyncio.run(models(tmp_path).load(name))


def test_show_names_the_tag_of_what_it_does_not_find(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="^model 'nosuch:latest' not found$"):
        show(tmp_path, "nosuch")


def replace_layer(root: Path, name: str, kind: str, content: bytes) -> None:
    """Give an installed model another layer of that kind ("config" for its configuration)."""
    store = Store([root])
    old = store.manifest(Name.parse(name))
    media_type = "" if kind == "config" else f"application/vnd.ollama.image.{kind}"
    new = Layer(media_type, store.add_blob(content), len(content))
    layers = [layer for layer in old.layers if layer.kind != kind]
    config = new if kind == "config" else old.config
    store.write_manifest(
        Name.parse(name), print_manifest(config, layers if kind == "config" else [new, *layers])
    )


@pytest.mark.parametrize(
    ("kind", "content", "text"),
    [
        ("config", b"nonsense", "model 'm:latest': its configuration is not a JSON object"),
        ("config", b'{"model_family":"\\ud800"}', "its configuration is not a JSON object"),
        ("config", b'{"model_format":"safetensors"}', "its format is safetensors and only gguf"),
        ("params", b"[1]", "model 'm:latest': its parameters are not a JSON object"),
        ("params", b"[" * 100_000, "its parameters are not a JSON object"),
        ("model", b"GGUF", "model 'm:latest': the model file cannot be used: "),
        ("model", b"<!DOCTYPE html>", "a web page instead of the model"),
        ("projector", b"no GGUF", "the model file cannot be used"),
    ],
)
def test_damaged_parts_are_named(
    tmp_path: Path, plain: Path, kind: str, content: bytes, text: str
) -> None:
    install(tmp_path, "m", plain, params={})
    replace_layer(tmp_path, "m", kind, content)
    with pytest.raises(InvalidModel, match=text) as caught:
        asyncio.run(models(tmp_path).load("m"))
    assert str(caught.value).startswith("model 'm:latest': ")
    way_out = str(caught.value).replace(";", ",").rpartition(", ")[2]
    assert way_out.startswith(("get ", "convert ", "check "))
    assert [each.name for each in asyncio.run(models(tmp_path).list())] == ["m:latest"]


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        (b"{}", ()),
        (b"nonsense", ()),
        (b'[1,{"role":"user"},{"role":5,"content":"x"},{"role":"user","content":"ok"}]', ("ok",)),
    ],
)
def test_messages_that_make_no_sense_are_passed_over(
    tmp_path: Path, plain: Path, messages: bytes, found: tuple[str, ...]
) -> None:
    install(tmp_path, "m", plain, messages=[])
    replace_layer(tmp_path, "m", "messages", messages)
    spec = asyncio.run(models(tmp_path).load("m"))
    assert tuple(each.content for each in spec.messages) == found


def test_one_stop_may_be_a_text_and_huge_numbers_hurt_nobody(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "m", plain, params={"stop": "##", "seed": 10**400, "top_k": None})
    spec = asyncio.run(models(tmp_path).load("m"))
    assert spec.options == Options(stop=("##",))
    assert show(tmp_path, "m")["parameters"] == 'stop                           "##"'


def test_a_config_of_odd_types_is_read_as_far_as_it_goes() -> None:
    value = {
        "model_format": "gguf",
        "model_family": 5,
        "model_families": ["a", 1, "b"],
        "capabilities": "completion",
        "context_length": -4,
        "embedding_length": True,
        "unknown": {},
    }
    assert parse_config(json.dumps(value).encode()) == Config(
        model_format="gguf", model_families=("a", "b")
    )


# Remembering


def test_a_model_is_read_once_until_its_manifest_changes(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "m", plain)
    found = models(tmp_path)
    first = asyncio.run(found.load("m"))
    assert asyncio.run(found.load("M")) is first
    install(tmp_path, "m", plain, system="New.")
    assert asyncio.run(found.load("m")).system == "New."
    first.model_path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        asyncio.run(found.load("m"))


def test_the_event_loop_never_waits_for_the_disk(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "m", plain)
    threads = set()

    class Watched(Store):
        def manifest(self, name: Name) -> Any:
            threads.add(threading.current_thread())
            return super().manifest(name)

        def models(self) -> Any:
            threads.add(threading.current_thread())
            return super().models()

    async def use() -> None:
        found = Models(Watched([tmp_path]))
        await asyncio.gather(found.load("m"), found.list(), found.show("m", verbose=True))

    asyncio.run(use())
    assert threads and threading.current_thread() not in threads


# The list


def test_a_new_daemon_lists_without_reading_files_again(tmp_path: Path, plain: Path) -> None:
    root, remembered = tmp_path / "models", tmp_path / "facts.json"
    install(root, "m", plain)
    (before,) = asyncio.run(Models(Store([root]), remembered).list())
    for path in (root / "blobs").iterdir():
        if path.stat().st_size == plain.stat().st_size:
            path.write_bytes(b"not read")
    (after,) = asyncio.run(Models(Store([root]), remembered).list())
    assert after == before and after.details.context_length
    (anew,) = asyncio.run(Models(Store([root])).list())
    assert not anew.details.context_length


def test_the_list_is_as_ollamas(tmp_path: Path, scripted: Path) -> None:
    install(tmp_path, "hello", scripted, template=GO_CHATML)
    (listed,) = asyncio.run(models(tmp_path).list())
    value = json.loads(msgspec.json.encode(listed))
    manifest = parse_manifest((tmp_path / "manifests" / Name.parse("hello").path).read_bytes())
    assert value.pop("modified_at")
    assert value == {
        "name": "hello:latest",
        "model": "hello:latest",
        "size": manifest.size,
        "digest": manifest.digest,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "448K",
            "quantization_level": "F32",
            "context_length": 2048,
            "embedding_length": 256,
        },
        "capabilities": ["completion"],
    }


def test_damage_is_listed_as_far_as_it_is_known_and_logged_once(
    tmp_path: Path, plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(OLLAMAS, tmp_path, dirs_exist_ok=True)  # its weights are not there
    install(tmp_path, "good", plain)
    found = models(tmp_path)
    with caplog.at_level(logging.WARNING):
        asyncio.run(found.list())
        listed = {each.name: each for each in asyncio.run(found.list())}
    assert listed.keys() == {"hello:latest", "tool:latest", "good:latest"}
    assert listed["hello:latest"].details.parameter_size == "452K"
    assert listed["hello:latest"].details.context_length == 0
    assert listed["good:latest"].details.context_length == 512
    assert len(caplog.records) == 2
    with pytest.raises(StoreError, match="is missing"):
        asyncio.run(found.load("hello"))


def test_what_arrives_later_is_listed(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "m", plain)
    found = models(tmp_path)
    path = asyncio.run(found.load("m")).model_path
    hidden = path.rename(tmp_path / "hidden")
    assert asyncio.run(found.list())[0].details.context_length == 0
    hidden.rename(path)
    assert asyncio.run(found.list())[0].details.context_length == 512


# What a model can do


def header(**metadata: Any) -> Header:
    values = {key.replace("__", "."): value for key, value in metadata.items()}
    return Header(3, {"general.architecture": "a", **values}, (), 0, 0)


PROJECTOR = Header(
    3, {"general.architecture": "clip", "clip.has_audio_encoder": True}, (), 0, 0
)  # fmt: skip


GO_THINKING = "{{ range .Messages }}{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ end }}"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, "completion"),
        ({"header": header(a__pooling_type=1)}, "embedding"),
        ({"header": header(a__pooling_type=0)}, "embedding"),
        ({"header": header(a__vision__block_count=2)}, "completion vision"),
        ({"projector": header()}, "completion vision"),
        ({"projector": PROJECTOR}, "completion vision audio"),
        ({"header": header(a__audio__block_count=2)}, "completion audio"),
        ({"jinja_template": JINJA_TOOLS}, "tools thinking completion"),
        ({"jinja_template": CHATML}, "completion"),
        ({"go_template": "{{ if .Tools }}{{ end }}"}, "completion tools"),
        ({"go_template": "{{ $.tools }}"}, "completion tools"),
        ({"go_template": "{{ range $i, $tools := .X }}{{ end }}"}, "completion"),
        ({"go_template": "{{ range $i, $tools := .X }}{{ $tools }}{{ end }}"}, "completion"),
        ({"go_template": "{{ .Tools }}{{ end }}"}, "completion"),  # no template
        ({"go_template": GO_THINKING}, "completion thinking"),
        ({"go_template": "{{ .Prompt }} .Tools"}, "completion"),
        ({"go_template": '{{ print ".Tools" }}{{/* .Tools */}}{{ `.Tools` }}'}, "completion"),
        ({"go_template": "{{ .ToolCalls }}"}, "completion"),
        ({"go_template": "<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}"}, "completion insert"),
        ({"config": Config(capabilities=("image", "completion"))}, "image completion"),
        ({"config": Config(model_family="gptoss")}, "completion thinking"),
        (
            {"jinja_template": JINJA_TOOLS, "go_template": "{{ .Tools }}{{ .Suffix }}"},
            "tools thinking completion insert",
        ),
    ],
)
def test_capabilities(found: dict[str, Any], expected: str) -> None:
    given = {
        "config": Config(),
        "header": header(),
        "projector": None,
        "go_template": None,
        "jinja_template": None,
        **found,
    }
    assert " ".join(capabilities(given.pop("config"), given.pop("header"), **given)) == expected


def test_a_template_of_nothing_but_openings_takes_no_time() -> None:
    start = time.perf_counter()
    for text in ("{{" * 1_000_000, '{{"' * 500_000, "{{/*" * 500_000, '{{ "' + "\\" * 1_000_000):
        capabilities(Config(), header(), projector=None, go_template=text, jinja_template=None)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("go", "jinja", "shown"),
    [
        (None, None, ""),
        (None, CHATML, CHATML),
        (GO_CHATML, None, GO_CHATML),
        (GO_CHATML, CHATML, GO_CHATML),
        (GO_CHATML, JINJA_TOOLS, JINJA_TOOLS),  # it can do more
        ("{{ .Tools }}", "{{ tools }}", "{{ .Tools }}"),
    ],
)
def test_which_template_is_shown(go: str | None, jinja: str | None, shown: str) -> None:
    assert shown_template(go, jinja) == shown


# show


def test_show_is_as_ollamas(tmp_path: Path, scripted: Path) -> None:
    install(
        tmp_path,
        "brief",
        scripted,
        template=GO_CHATML,
        system="Be brief.",
        params={"temperature": 0, "stop": ["##", "<|im_end|>"], "num_ctx": 1024, "top_p": 0.95},
        messages=[{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}],
        license="MIT",
    )
    answer = show(tmp_path, "brief")
    path = asyncio.run(models(tmp_path).load("brief")).model_path
    assert answer["modelfile"] == (
        '# Modelfile generated by "ollama show"\n'
        "# To build a new Modelfile based on this, replace FROM with:\n"
        "# FROM brief:latest\n"
        "\n"
        f"FROM {path}\n"
        f'TEMPLATE "{GO_CHATML}"\n'
        "SYSTEM Be brief.\n"
        "PARAMETER num_ctx 1024\n"
        "PARAMETER stop ##\n"
        "PARAMETER stop <|im_end|>\n"
        "PARAMETER temperature 0\n"
        "PARAMETER top_p 0.95\n"
        "LICENSE MIT\n"
        "MESSAGE user q\n"
        "MESSAGE assistant \n"
    )
    assert answer["parameters"].split("\n") == [
        "num_ctx                        1024",
        'stop                           "##"',
        'stop                           "<|im_end|>"',
        "temperature                    0",
        "top_p                          0.95",
    ]
    assert (answer["license"], answer["system"], answer["template"]) == (
        "MIT",
        "Be brief.",
        GO_CHATML,
    )
    assert answer["messages"] == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": ""},
    ]
    assert answer["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "448K",
        "quantization_level": "F32",
    }
    info = answer["model_info"]
    assert info["general.parameter_count"] == 447744
    assert info["llama.attention.layer_norm_rms_epsilon"] == 1e-5
    assert info["tokenizer.ggml.tokens"] is None
    assert not {"general.name", "tokenizer.chat_template"} & info.keys()
    assert {"name": "token_embd.weight", "type": "F32", "shape": [256, 265]} in answer["tensors"]
    assert answer["capabilities"] == ["completion"]
    assert answer["modified_at"].startswith("2")


def test_verbose_shows_the_vocabulary(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "m", plain)
    info = show(tmp_path, "m", verbose=True)["model_info"]
    assert len(info["tokenizer.ggml.tokens"]) == 400
    assert info["tokenizer.ggml.tokens"][:3] == ["<unk>", "<s>", "</s>"]


def test_what_the_request_gives_goes_into_the_modelfile_only(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "m", plain, system="Old.", params={"top_k": 1, "seed": 5})
    answer = show(tmp_path, "m", system="New.", options={"top_k": 2, "stop": ["a", "b"]})
    assert answer["system"] == "Old."
    assert answer["parameters"].split() == ["seed", "5", "top_k", "1"]
    assert answer["modelfile"].split("\n")[6:] == [
        "SYSTEM New.",
        "PARAMETER seed 5",
        "PARAMETER stop a",
        "PARAMETER stop b",
        "PARAMETER top_k 2",
        "",
    ]


@pytest.mark.parametrize(
    ("user_agent", "name"), [("GitHubCopilotChat/0.32", "M"), ("ollama-python/0.5", None)]
)
def test_copilot_finds_the_name_it_asked_for(
    tmp_path: Path, plain: Path, user_agent: str, name: str | None
) -> None:
    install(tmp_path, "m", plain)
    info = show(tmp_path, "M", user_agent=user_agent)["model_info"]
    assert info.get("general.basename") == name
    assert "general.basename" not in show(tmp_path, "m")["model_info"]


def test_a_projector_is_shown(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "m", plain)
    projector = random_model(tmp_path / "clip.gguf", vocab=300, architecture="clip")
    replace_layer(tmp_path, "m", "projector", projector.read_bytes())
    answer = show(tmp_path, "m")
    assert answer["projector_info"]["general.architecture"] == "clip"
    assert answer["capabilities"] == ["completion", "vision"]
    assert answer["modelfile"].count("\nFROM ") == 2


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain", "plain"),
        ('say "hi"', 'say "hi"'),
        ("two\nlines", '"two\nlines"'),
        ('two\n"lines"', '"""two\n"lines""""'),
        (" spaced", '" spaced"'),
        ("spaced ", '"spaced "'),
        ("", ""),
        ('"quoted"', '""""quoted""""'),  # bare in Ollama's, which reads back without the quotes
    ],
)
def test_values_in_a_modelfile_read_back(
    tmp_path: Path, plain: Path, text: str, printed: str
) -> None:
    install(tmp_path, "m", plain)
    spec = asyncio.run(models(tmp_path).load("m"))
    modelfile = print_modelfile(spec, system=None, parameters={"stop": [text]})
    assert modelfile.endswith(f"\nPARAMETER stop {printed}\n")


def test_parameters_are_printed_as_go_does() -> None:
    values = {"b": True, "f": 1e-5, "n": 1_048_576, "s": 'a"b\n', "list": ["x", 1], "none": None}
    assert print_parameters(values) == "\n".join(
        f"{name:30} {value}"
        for name, value in [
            ("b", "true"),
            ("f", "1e-05"),
            ("list", '"x"'),
            ("list", "1"),
            ("n", "1.048576e+06"),
            ("s", r'"a\"b\n"'),
        ]
    )


@pytest.mark.parametrize(
    ("zone", "seconds", "printed"),
    [
        ("UTC", 1795249039.0, "2026-11-21T08:17:19Z"),
        ("UTC", 1795249039.5, "2026-11-21T08:17:19.5Z"),
        ("UTC", 1e15, "9999-01-01T00:00:00Z"),
        ("UTC", -5.0, "1970-01-01T00:00:00Z"),
        ("Europe/Berlin", 1795249039.25, "2026-11-21T09:17:19.25+01:00"),
    ],
)
def test_times_are_printed_as_go_does(
    monkeypatch: pytest.MonkeyPatch, zone: str, seconds: float, printed: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        assert print_time(seconds) == printed
    time.tzset()
