"""A stored model as one value, and what it can do."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import InvalidModel
from ollamapy.formats.configuration import Config
from ollamapy.formats.gguf import Header
from ollamapy.models.spec import capabilities
from ollamapy.types import Message, Options
from tests.models.stored import JINJA_TOOLS, models, replace_layer, show
from tests.small_models import CHATML, GO_CHATML, install


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
    assert spec.files.weights.path.read_bytes() == scripted.read_bytes()
    assert spec.files.weights.path.name == spec.files.weights.digest.replace(":", "-")
    assert spec.header.context_length == 2048
    assert spec.template.kind != "plain"
    assert spec.files.projector is None and spec.files.adapters == ()


def test_a_model_with_nothing_but_weights(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "plain", plain)
    spec = asyncio.run(models(tmp_path).load("plain"))
    assert (spec.go_template, spec.jinja_template, spec.system) == (None, None, None)
    assert (spec.messages, spec.options, dict(spec.parameters)) == ((), Options(), {})
    answer = show(tmp_path, "plain")
    assert answer["template"] == "{{ .Prompt }}"  # a client sees that it only continues text
    assert answer["modelfile"].endswith("\nTEMPLATE {{ .Prompt }}\n")
    absent = {"license", "parameters", "system", "messages", "projector_info", "requires"}
    assert not absent & answer.keys()


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


def header(**metadata: Any) -> Header:
    values = {key.replace("__", "."): value for key, value in metadata.items()}
    return Header(3, {"general.architecture": "a", **values}, (), 0, 0)


def projector(*senses: str) -> Header:
    values = {f"clip.has_{sense}_encoder": True for sense in senses}
    return Header(3, {"general.architecture": "clip", **values}, (), 0, 0)


GO_THINKING = "{{ range .Messages }}{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ end }}"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, "completion"),
        ({"header": header(a__pooling_type=1)}, "embedding"),
        ({"header": header(a__pooling_type=0)}, "embedding"),
        ({"header": header(a__vision__block_count=2)}, "completion vision"),
        ({"projector": projector()}, "completion"),
        ({"projector": projector("vision")}, "completion vision"),
        ({"projector": projector("audio")}, "completion audio"),
        ({"projector": projector("audio", "vision")}, "completion vision audio"),
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
    assert time.perf_counter() - start < 60
