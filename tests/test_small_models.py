"""The makers of test models keep their word: layout of the store, and what real llama.cpp says."""

from __future__ import annotations

import ctypes
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ollamapy.formats.gguf import read_header
from tests.small_models import CHATML, install, random_model, scripted_model

HELLO = "Hello! I am a scripted model, here to help you test."
SCRIPTS: list[Any] = [
    HELLO,
    "ok",
    "ha ha ha ha ha ha ha!",
    "日本語のテキスト 🎉 done",
    ["A ", "€".encode(), "sign", " STOP", "after"],
]


def test_the_same_seed_makes_the_same_file(tmp_path: Path) -> None:
    files = [random_model(tmp_path / f"{index}.gguf", seed=index % 2) for index in range(3)]
    assert files[0].read_bytes() == files[2].read_bytes() != files[1].read_bytes()


@pytest.mark.parametrize("script", [["a", "b", "a"], [b"\x0a\x0a"], "a" * 5])
def test_a_script_cannot_repeat_a_token(tmp_path: Path, script: Any) -> None:
    if script == "a" * 5:  # cut as one piece of five
        assert read_header(scripted_model(tmp_path / "m.gguf", script)).vocab_size == 262
        return
    with pytest.raises(ValueError, match="only once"):
        scripted_model(tmp_path / "m.gguf", script)


def test_install_lays_a_store_out_as_ollama_does(tmp_path: Path) -> None:
    gguf = scripted_model(tmp_path / "m.gguf", HELLO)
    name = install(
        tmp_path / "store",
        "hello",
        gguf,
        template="{{ .Prompt }}",
        system="Be brief.",
        params={"stop": ["<|im_end|>"]},
        messages=[{"role": "user", "content": "q"}],
        license="MIT",
    )
    assert name.display == "hello:latest"
    path = tmp_path / "store/manifests/registry.ollama.ai/library/hello/latest"
    raw = path.read_bytes()
    assert (
        raw.startswith(b'{"schemaVersion":2,"mediaType":"application/vnd.docker.')
        and raw[-1:] == b"\n"
    )
    manifest = json.loads(raw)
    kinds = [layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]]
    assert kinds == ["model", "template", "system", "params", "messages", "license"]
    for layer in [manifest["config"], *manifest["layers"]]:
        content = (tmp_path / "store/blobs" / layer["digest"].replace(":", "-")).read_bytes()
        assert layer["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert layer["size"] == len(content)
    params = tmp_path / "store/blobs" / manifest["layers"][3]["digest"].replace(":", "-")
    assert params.read_bytes() == b'{"stop":["\\u003c|im_end|\\u003e"]}'


@pytest.mark.llama
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("script", SCRIPTS, ids=ascii)
def test_a_script_is_spoken_to_its_end(tmp_path: Path, script: Any, temperature: float) -> None:
    path = scripted_model(tmp_path / "m.gguf", script)
    prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    pieces = [script] if isinstance(script, str) else script
    expected = b"".join(each.encode() if isinstance(each, str) else each for each in pieces)
    assert speak(path, prompt, temperature) == (expected, True)


@pytest.mark.llama
@pytest.mark.parametrize("dtype", ["F32", "F16", "Q8_0"])
def test_random_models_speak_words(tmp_path: Path, dtype: str) -> None:
    path = random_model(tmp_path / "m.gguf", dtype=dtype, chat_template=CHATML)
    said, _ = speak(path, "zura bamo", 0.0)
    assert len(said) > 20 and said.decode().replace(" ", "").isalpha()
    assert speak(path, "zura bamo", 0.0)[0] == said


def speak(path: Path, prompt: str, temperature: float) -> tuple[bytes, bool]:
    """At most 40 tokens after `prompt`, and whether they ended by themselves."""
    import llama_cpp.llama_cpp as llama

    quiet = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(quiet, ctypes.c_void_p())
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    options = llama.llama_context_default_params()
    options.n_ctx, options.n_threads, options.n_threads_batch = 256, 1, 1
    context = llama.llama_init_from_model(model, options)
    vocab = llama.llama_model_get_vocab(model)
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    if temperature:
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_temp(temperature))
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(1))
    else:
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
    raw, tokens = prompt.encode(), (llama.llama_token * 256)()
    count = llama.llama_tokenize(vocab, raw, len(raw), tokens, 256, True, True)
    said, ended = b"", False
    piece = ctypes.create_string_buffer(64)
    for _ in range(40):
        assert llama.llama_decode(context, llama.llama_batch_get_one(tokens, count)) == 0
        token = llama.llama_sampler_sample(chain, context, -1)
        if llama.llama_vocab_is_eog(vocab, token):
            ended = True
            break
        length = llama.llama_token_to_piece(vocab, token, piece, 64, 0, True)
        said += piece.raw[:length]
        tokens, count = (llama.llama_token * 1)(token), 1
    llama.llama_sampler_free(chain)
    llama.llama_free(context)
    llama.llama_model_free(model)
    return said, ended
