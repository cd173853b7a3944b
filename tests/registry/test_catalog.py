"""The catalogue: every file that is shipped, the prompts of its formats, and what is said of a file that is wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from ollamapy.chat import golang
from ollamapy.config import Settings, builtin_library
from ollamapy.errors import InvalidCatalog
from ollamapy.names import Name
from ollamapy.registry.catalog import MAX_FILE, Catalog, CatalogFile, guessed_size
from ollamapy.types import parse_options

SHIPPED = Catalog((builtin_library(),))
FAMILIES = SHIPPED.families()
FORMATS = sorted(path.stem for path in (builtin_library() / "formats").glob("*.yaml"))

TALK = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "u1"},
    {"role": "assistant", "content": " a1"},
    {"role": "user", "content": "u2"},
]
ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite"
    " answers to the user's questions."
)


def prompt(name: str, messages: list[dict[str, Any]], *, default_system: bool = False) -> str:
    entry = SHIPPED.find(Name.parse(name))
    assert entry is not None
    if default_system:
        messages = [{"role": "system", "content": entry.system}, *messages]
    return golang.parse(entry.template).execute(messages=messages)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("lama3.2", "llama3.2"),
        ("llma3.2:1b", "llama3.2"),
        ("llama32", "llama3.2"),
        ("llama-3.2", "llama3.2"),
        ("Lllama3.2", "llama3.2"),
        ("mistrel", "mistral"),
        ("mistarl", "mistral"),
        ("llama3.2", None),  # there it is
        ("llama9.9", None),  # another version
        ("mistrallite", None),  # another model
        ("me/lama3.2", None),
        ("box.example/library/lama3.2", None),
        ("zzz", None),
    ],
)
def test_what_was_meant(text: str, meant: str | None) -> None:
    assert SHIPPED.similar(Name.parse(text)) == meant


# Every file


def test_there_are_all_families() -> None:
    assert len(FAMILIES) == 107
    assert {"tinystories", "llama2", "alpaca", "vicuna", "mistral", "gpt2", "all-minilm"} <= set(
        FAMILIES
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_sound(name: str) -> None:
    family = SHIPPED.family(name)
    assert family is not None and family.about
    assert sum("latest" in entry.tags for entry in family.entries) == 1
    for entry in family.entries:
        assert SHIPPED.find(entry.name) == entry
        for tag in entry.tags:
            Name.parse(f"{name}:{tag}")
        others = (entry.mmproj, entry.tokenizer, entry.adapter)
        for file in (*entry.files, *entry.alternatives, *(each for each in others if each)):
            check_file(file)
        assert (entry.kind == "builtin") == (not entry.files)
        assert (entry.kind == "llama2c") == (entry.tokenizer is not None)
        suffix = ".bin" if entry.kind == "llama2c" else ".gguf"
        assert all(file.path.lower().endswith(suffix) for file in entry.files)
        assert parse_options(entry.parameters)[1] == []
        if entry.template:
            golang.parse(entry.template)
        if entry.use in ("embedding", "rerank", "text"):
            assert not entry.template and not entry.stop
        size = guessed_size(entry)
        assert size is None or size > 1000


def check_file(file: CatalogFile) -> None:
    assert bool(file.url) != bool(file.repo)
    assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert file.url or re.fullmatch("main|[0-9a-f]{40}", file.revision)
    assert file.size is None or 1000 < file.size < 10**12


@pytest.mark.parametrize("name", FORMATS)
def test_stops_are_marks_of_the_format(name: str, tmp_path: Path) -> None:
    user = tmp_path / "x.yaml"
    user.write_text(f"format: {name}\ntags: {{latest: {{repo: a/b, file: c.gguf}}}}\n")
    entry = Catalog((tmp_path, builtin_library())).find(Name.parse("x"))
    assert entry is not None
    text = golang.parse(entry.template).execute(messages=TALK)
    ends = {"<|endoftext|>"}  # ends a sequence, and so is in no prompt
    assert [stop for stop in entry.stop if stop not in text and stop not in ends] == []


def test_every_format_is_used() -> None:
    used = set()
    for path in builtin_library().glob("*.yaml"):
        used.update(re.findall(r"^ *format: (\S+)$", path.read_text(), re.MULTILINE))
    assert used - {"none"} == set(FORMATS)


def test_tinystories_is_built_in_and_more() -> None:
    entry = SHIPPED.find(Name.parse("tinystories"))
    assert entry is not None and entry.kind == "builtin" and not entry.files
    fifteen = SHIPPED.find(Name.parse("tinystories:15M"))
    assert fifteen is not None and fifteen.kind == "gguf" and fifteen.size == 19_077_344
    checkpoint = SHIPPED.find(Name.parse("tinystories:110m"))
    assert checkpoint is not None and checkpoint.kind == "llama2c"
    assert checkpoint.repo == "karpathy/tinyllamas" and checkpoint.tokenizer is not None
    tensoic = SHIPPED.find(Name.parse("tinystories:tensoic"))
    assert tensoic is not None
    assert (tensoic.kind, tensoic.repo) == ("llama2c", "Tensoic/Tiny-Stories")


def test_a_model_that_sees_has_its_projector() -> None:
    entry = SHIPPED.find(Name.parse("llava:7b-v1.6"))
    assert entry is not None and entry.mmproj is not None
    assert entry.mmproj.repo == entry.repo == "cjpais/llava-1.6-mistral-7b-gguf"


def test_shards_are_in_order() -> None:
    entry = SHIPPED.find(Name.parse("qwen3-coder-next"))
    assert entry is not None and entry.size == 48_410_992_032
    assert [file.path[-19:-14] for file in entry.files] == ["00001", "00002", "00003", "00004"]


# Prompts


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            "llama2",
            "[INST] <<SYS>>\nS\n<</SYS>>\n\nu1 [/INST] a1 </s><s>[INST] u2 [/INST]",
        ),
        (
            "codellama:13b",
            "[INST] <<SYS>>\nS\n<</SYS>>\n\nu1 [/INST] a1 </s><s>[INST] u2 [/INST]",
        ),
        (
            "alpaca",
            "S\n\n### Instruction:\nu1\n\n### Response: a1</s>\n\n### Instruction:\nu2\n\n### Response:",
        ),
        ("vicuna", "S USER: u1 ASSISTANT: a1</s>USER: u2 ASSISTANT:"),
        ("mistral:v0.1", " [INST] S\n\nu1 [/INST] a1</s> [INST] u2 [/INST]"),
        ("mistral:v0.2", " [INST] S\n\nu1 [/INST] a1</s> [INST] u2 [/INST]"),
        ("mixtral", " [INST] S\n\nu1 [/INST] a1</s> [INST] u2 [/INST]"),
        ("mistral", "[INST] S\n\nu1[/INST] a1</s>[INST] u2[/INST]"),
        ("codestral", "[INST] S\n\nu1[/INST] a1</s>[INST] u2[/INST]"),
        ("mistral-nemo", "[INST]S\n\nu1[/INST]a1</s>[INST]u2[/INST]"),
        (
            "llama3",
            "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nu1<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\na1<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nu2<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "gemma2",
            "<start_of_turn>user\nS\n\nu1<end_of_turn>\n<start_of_turn>model\n a1<end_of_turn>\n"
            "<start_of_turn>user\nu2<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "phi3",
            "<|system|>\nS<|end|>\n<|user|>\nu1<|end|>\n<|assistant|>\n a1<|end|>\n<|user|>\nu2<|end|>\n<|assistant|>\n",
        ),
        (
            "tinyllama",
            "<|system|>\nS</s>\n<|user|>\nu1</s>\n<|assistant|>\n a1</s>\n<|user|>\nu2</s>\n<|assistant|>\n",
        ),
        (
            "openchat",
            "S<|end_of_turn|>GPT4 Correct User: u1<|end_of_turn|>GPT4 Correct Assistant: a1<|end_of_turn|>"
            "GPT4 Correct User: u2<|end_of_turn|>GPT4 Correct Assistant:",
        ),
        (
            "orca2",
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nu1<|im_end|>\n<|im_start|>assistant\n a1<|im_end|>\n"
            "<|im_start|>user\nu2<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
)
def test_a_conversation_is_written_as_its_authors_do(model: str, expected: str) -> None:
    assert prompt(model, TALK) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("llama2", "[INST] u1 [/INST]"),
        ("alpaca", f"{ALPACA}\n\n### Instruction:\nu1\n\n### Response:"),
        ("vicuna", f"{VICUNA} USER: u1 ASSISTANT:"),
        ("mistral:v0.1", " [INST] u1 [/INST]"),
        ("mistral", "[INST] u1[/INST]"),
    ],
)
def test_a_single_prompt_with_the_system_message_of_the_model(model: str, expected: str) -> None:
    entry = SHIPPED.find(Name.parse(model))
    assert entry is not None
    assert prompt(model, TALK[1:2], default_system=bool(entry.system)) == expected


def test_llama_2_strips_texts_and_leaves_an_open_answer_open() -> None:
    talk = [
        {"role": "user", "content": "  é u1 \n\n"},
        {"role": "assistant", "content": "\n a1é 🙂 \t"},
    ]
    assert prompt("llama2", talk) == "[INST] é u1 [/INST] a1é 🙂"
    assert prompt("llama2", [{"role": "user", "content": "\n" * 50 + "u"}]) == "[INST] u [/INST]"


# The user's own folder, and speed


def test_the_users_folder_comes_first(tmp_path: Path) -> None:
    (tmp_path / "llama2.yaml").write_text(
        "tags:\n  latest:\n    also: [7B]\n    repo: me/mine\n    file: mine.gguf\n"
    )
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "odd.yaml").write_text('template: "<{{ .Prompt }}>"\nstop: ["<"]\n')
    (tmp_path / "new.yaml").write_text(
        "format: odd\nparameters: {temperature: 0.5}\ntags: {x: {repo: me/new, file: f/n.gguf, also: [latest]}}\n"
    )
    catalog = Catalog((tmp_path, builtin_library()))
    mine = catalog.find(Name.parse("Llama2"))
    assert mine is not None and mine.repo == "me/mine" and mine.template == ""
    theirs = catalog.find(Name.parse("llama2:13b"))
    assert theirs is not None and theirs.repo == "TheBloke/Llama-2-13B-chat-GGUF"
    new = catalog.find(Name.parse("new"))
    assert new is not None and (new.template, new.stop) == ("<{{ .Prompt }}>", ("<",))
    assert new.parameters == {"temperature": 0.5, "stop": ["<"]}
    assert "new" in catalog.families()
    family = catalog.family("llama2")
    assert family is not None and family.about == "Llama 2 by Meta, chat and base models"
    tags = [tag.lower() for entry in family.entries for tag in entry.tags]
    assert len(tags) == len(set(tags)) and family.entries[0].repo == "me/mine"


def test_where_the_users_folder_is(tmp_path: Path) -> None:
    def first(**environ: str) -> Path:
        return Settings.from_env(environ).library[0]

    assert first(OLLAMAPY_HOME="/h") == Path("/h/library")
    assert first(OLLAMAPY_HOME="/h", OLLAMAPY_LIBRARY="/l") == Path("/l")
    assert first().name == "library"


@pytest.mark.parametrize(
    "name",
    [
        "hf.co/library/llama2",
        "me/llama2",
        "example.com/library/llama2",
        "llama2:nope",
        "readme",
        "formats",
    ],
)
def test_other_names_are_not_in_it(name: str) -> None:
    assert SHIPPED.find(Name.parse(name)) is None


def test_only_the_family_that_is_asked_for_is_read(tmp_path: Path) -> None:
    opened: list[str] = []
    active = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event == "open" and str(arguments[0]).endswith(".yaml"):
            opened.append(Path(str(arguments[0])).name)

    sys.addaudithook(watch)
    SHIPPED.find(Name.parse("gpt2"))
    active = False
    assert opened == ["gpt2.yaml"]


# Files that are wrong


FILE = "repo: a/b, file: c.gguf"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x.yaml: it is not a mapping"),
        ("- a", "x.yaml: it is not a mapping"),
        ("tags: {a: {", "x.yaml is not YAML"),
        ("tags: !!python/object/apply:os.system ['true']", "x.yaml is not YAML"),
        ("about: x", "tags is missing"),
        ("tags: {}", "tags has 0 tags"),
        (f"tags: {{a: {{{FILE}}}, a: {{{FILE}}}}}", "the key 'a' in line 1 is there twice"),
        (f"y: &y {{{FILE}}}\ntags: {{a: {{<<: *y}}}}", "the key '<<' in line 2 is not allowed"),
        (f"tag: {{a: {{{FILE}}}}}", "unknown key 'tag', one of: about"),
        (f"tags: {{a: {{{FILE}, sha: x}}}}", "tags.a has an unknown key 'sha'"),
        (f"tags: {{7: {{{FILE}}}}}", "tags has 7, which is not a tag: write it in quotes"),
        (f"tags: {{'../a': {{{FILE}}}}}", "which is not a tag"),
        (f"tags: {{a: {{{FILE}, also: [B]}}, b: {{{FILE}}}}}", "tags.b names the tag b a second time"),
        ("tags: {a: {repo: a/b}}", "tags.a.file is missing"),
        ("tags: {a: {file: c.gguf}}", "tags.a.repo is missing"),
        ("tags: {a: {repo: a, file: c.gguf}}", "tags.a.repo is 'a', which is no repository"),
        ("tags: {a: {repo: a/b, file: ../c}}", "tags.a.file is '../c', which leaves its folder"),
        ("tags: {a: {repo: a/b, file: /c}}", "which leaves its folder"),
        (f"tags: {{a: {{{FILE}, sha256: ABC}}}}", "tags.a.sha256 is 'ABC', which is no sha256"),
        (f"tags: {{a: {{{FILE}, size: -1}}}}", "tags.a.size is not a number above 0"),
        (f"tags: {{a: {{{FILE}, size: 1.5}}}}", "tags.a.size is not a number above 0"),
        (f"tags: {{a: {{{FILE}, size: true}}}}", "tags.a.size is not a number above 0"),
        (f"tags: {{a: {{{FILE}, kind: zip}}}}", "tags.a.kind is 'zip', one of: gguf"),
        (f"tags: {{a: {{{FILE}, kind: builtin}}}}", "is builtin, which has no file"),
        (f"tags: {{a: {{{FILE}, use: fun}}}}", "tags.a.use is 'fun', one of: chat"),
        (f"tags: {{a: {{{FILE}, format: nope}}}}", "there is no formats/nope.yaml"),
        (f"tags: {{a: {{{FILE}, stop: x}}}}", "tags.a.stop is not a list of texts"),
        (f"tags: {{a: {{{FILE}, template: 5}}}}", "tags.a.template is not a text"),
        (f"tags: {{a: {{{FILE}, parameters: {{heat: 1}}}}}}", "parameters has heat, which is not an option"),
        (f"tags: {{a: {{{FILE}, parameters: {{top_k: x}}}}}}", 'option "top_k" must be of type'),
        (f"tags: {{a: {{{FILE}, shards: [{{file: a}}]}}}}", "is there beside shards"),
        ("tags: {a: {repo: a/b, shards: [{file: a}]}}", "has less than two files"),
        (f"tags: {{a: {{{FILE}, mmproj: x.gguf}}}}", "tags.a.mmproj is not a mapping"),
        (f"tags: {{a: {{{FILE}, mmproj: {{url: 'http://x/y'}}}}}}", "url is not an https:// address"),
        ("[" * 3000, "x.yaml is not YAML"),
        ("a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\ntags: *c", "unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    catalog = Catalog((tmp_path, builtin_library()))
    with pytest.raises(InvalidCatalog) as raised:
        catalog.find(Name.parse("x:a"))
    assert said in str(raised.value) and str(tmp_path / "x.yaml") in str(raised.value)
    assert "\n" not in str(raised.value)
    assert catalog.find(Name.parse("llama2")) is not None


def test_a_file_that_is_too_large_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"#" * (MAX_FILE + 1))
    (tmp_path / "y.yaml").mkdir()
    catalog = Catalog((tmp_path,))
    with pytest.raises(InvalidCatalog, match="more than 1048576 bytes"):
        catalog.find(Name.parse("x"))
    with pytest.raises(InvalidCatalog, match="is a directory"):
        catalog.find(Name.parse("y"))
    assert Catalog((tmp_path / "none",)).families() == []
