"""Images in requests: a real daemon, a small model that sees, and every dialect."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pictures import gif, png
from tests.served import Daemon, serve
from tests.small_models import CHATML, GO_CHATML, install, random_model
from tests.small_projectors import bitmap, projector, seeing_model, wave

pytestmark = pytest.mark.llama
CAT, DOG = bitmap(64, 48, seed=1), bitmap(64, 48, seed=2)
ROWS = 16
"""Tokens of an image."""
COLD = {"temperature": 0, "num_predict": 12}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    weights, sight = seeing_model(home, "mlp")
    install(home / "models", "sees", weights, projector=sight)
    install(home / "models", "go", weights, projector=sight, template=GO_CHATML)
    install(home / "models", "short", weights, projector=sight, params={"num_ctx": 256})
    install(home / "models", "blind", random_model(home / "blind.gguf", chat_template=CHATML))
    install(
        home / "models", "broken", weights, projector=projector(home / "w.gguf", "mlp", width=32)
    )
    weights, ears = seeing_model(home, "qwen2a")
    install(home / "models", "hears", weights, projector=ears)
    return home


@pytest.fixture(scope="module")
def daemon(home: Path) -> Iterator[Daemon]:
    with serve(home, home / "models") as running:
        yield running


def encoded(file: bytes) -> str:
    return base64.b64encode(file).decode()


def chat(daemon: Daemon, content: str = "ba ke?", *files: bytes, model: str = "sees") -> Any:
    """The answer of /api/chat to one message."""
    message = {"role": "user", "content": content, "images": [encoded(file) for file in files]}
    body = {"model": model, "messages": [message], "stream": False, "options": COLD}
    answer = daemon.ask("POST", "/api/chat", body)
    assert answer.status == 200, answer.body
    return answer.json()


def said(daemon: Daemon, *files: bytes, model: str = "sees") -> str:
    return str(chat(daemon, "ba ke?", *files, model=model)["message"]["content"])


def refused(daemon: Daemon, *files: bytes, model: str = "sees", **more: Any) -> str:
    """The error of /api/chat about files, which is a 400."""
    message = {"role": "user", "content": "ba", "images": [encoded(file) for file in files]}
    body = {"model": model, "messages": [message], "stream": False, "options": COLD, **more}
    answer = daemon.ask("POST", "/api/chat", body)
    assert answer.status == 400, answer.body
    return str(answer.json()["error"])


# ---- the dialects ----------------------------------------------------------------------------------------------------


def test_an_image_changes_the_answer_and_its_order_does_too(daemon: Daemon) -> None:
    answers = [
        said(daemon),
        said(daemon, CAT),
        said(daemon, DOG),
        said(daemon, CAT, DOG),
        said(daemon, DOG, CAT),
    ]

    assert len(set(answers)) == 5
    assert said(daemon, CAT) == answers[1]


def test_the_usage_counts_the_rows_of_images(daemon: Daemon) -> None:
    without, one, two = (chat(daemon, "lo mi", *files) for files in ((), (CAT,), (CAT, DOG)))

    assert one["prompt_eval_count"] - without["prompt_eval_count"] in (ROWS, ROWS + 1)
    assert two["prompt_eval_count"] == one["prompt_eval_count"] + ROWS


def test_go_templates_have_images_before_the_text(daemon: Daemon) -> None:
    assert said(daemon, CAT, model="go") == said(daemon, CAT)


def test_generate_takes_images(daemon: Daemon) -> None:
    body = {"model": "sees", "prompt": "ba ke?", "stream": False, "options": COLD}
    texts = [
        daemon.ask("POST", "/api/generate", {**body, "images": images}).json()["response"]
        for images in ([], [encoded(CAT)])
    ]

    assert texts[1] == said(daemon, CAT) != texts[0]


def test_a_raw_prompt_has_tags(daemon: Daemon) -> None:
    def raw(prompt: str, *files: bytes) -> str:
        body = {
            "model": "sees", "prompt": prompt, "raw": True, "stream": False,
            "images": [encoded(file) for file in files], "options": COLD,
        }  # fmt: skip
        answer = daemon.ask("POST", "/api/generate", body)
        assert answer.status == 200, answer.body
        return str(answer.json()["response"])

    assert raw("ba [img-1] ke [img-0]", DOG, CAT) == raw("ba [img-0] ke [img-1]", CAT, DOG)
    assert raw("ba ke", CAT) == raw("[img-0]ba ke", CAT) != raw("ba ke")


def test_openai_and_anthropic_get_the_same_answers(daemon: Daemon) -> None:
    url = f"data:image/png;base64,{encoded(CAT)}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "ba ke?"}]
    openai = daemon.ask(
        "POST",
        "/v1/chat/completions",
        {
            "model": "sees",
            "messages": [{"role": "user", "content": parts}],
            "temperature": 0,
            "max_tokens": 12,
        },
    ).json()
    source = {"type": "base64", "media_type": "image/png", "data": encoded(CAT)}
    blocks = [{"type": "image", "source": source}, {"type": "text", "text": "ba ke?"}]
    asked = {"model": "sees", "messages": [{"role": "user", "content": blocks}]}
    anthropic = daemon.ask(
        "POST", "/v1/messages", {**asked, "temperature": 0, "max_tokens": 12}
    ).json()
    counted = daemon.ask("POST", "/v1/messages/count_tokens", asked).json()

    apart = [
        {"role": "user", "content": "", "images": [encoded(CAT)]},
        {"role": "user", "content": "ba ke?"},
    ]
    body = {"model": "sees", "messages": apart, "stream": False, "options": COLD}
    in_parts = daemon.ask("POST", "/api/chat", body).json()

    assert openai["choices"][0]["message"]["content"] == in_parts["message"]["content"]
    assert openai["usage"]["prompt_tokens"] == in_parts["prompt_eval_count"]
    assert anthropic["content"][0]["text"] == said(daemon, CAT)
    assert chat(daemon, "ba ke?", CAT)["prompt_eval_count"] == counted["input_tokens"]


def test_a_sound_is_heard(daemon: Daemon) -> None:
    low, high = wave(0.5, 300), wave(0.5, 900)

    assert said(daemon, low, model="hears") != said(daemon, high, model="hears")


# ---- what is reused --------------------------------------------------------------------------------------------------


def test_the_next_turn_reuses_the_image(daemon: Daemon) -> None:
    image = {"role": "user", "content": "zu ti?", "images": [encoded(bitmap(64, 48, seed=5))]}
    body: dict[str, Any] = {"model": "sees", "messages": [image], "temperature": 0, "max_tokens": 8}
    first = daemon.ask("POST", "/v1/chat/completions", body | {"messages": [_parts(image)]}).json()
    answer = {"role": "assistant", "content": first["choices"][0]["message"]["content"]}
    later = [_parts(image), answer, {"role": "user", "content": "ra mo?"}]
    second = daemon.ask("POST", "/v1/chat/completions", body | {"messages": later}).json()

    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= first["usage"]["prompt_tokens"] - 1


def _parts(message: dict[str, Any]) -> dict[str, Any]:
    url = f"data:image/png;base64,{message['images'][0]}"
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": message["content"]},
    ]
    return {"role": message["role"], "content": content}


def test_a_chat_with_an_image_goes_on_after_a_restart(tmp_path: Path) -> None:
    weights, sight = seeing_model(tmp_path, "mlp")
    install(tmp_path / "models", "sees", weights, projector=sight)
    question = "ba ke li mo ra zu ti vo se nu " * 20
    answers = []
    for _ in range(2):
        with serve(tmp_path, tmp_path / "models") as running:
            answers.append(chat(running, question, CAT))
            message = {"role": "user", "content": question, "images": [encoded(CAT)]}
            parts = {"model": "sees", "messages": [_parts(message)], "max_tokens": 2}
            usage = running.ask("POST", "/v1/chat/completions", parts).json()["usage"]
            assert running.end() == 0
    first, second = answers

    assert first["message"] == second["message"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1
    assert second["prompt_eval_duration"] > 0


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (b"hello there", "no image"),
        (png(9_000, 9_000), "at most 50 megapixels"),
        (png(30, 20)[:50], "broken"),
        (png(30, 20, rows=4_000), "more pixels"),
        (gif(30, 20), "broken"),
        (wave(), "cannot hear"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", ""),
    ],
    ids=["text", "bomb", "half", "more rows", "empty gif", "sound", "webp"],
)
def test_a_file_that_cannot_be_seen_is_a_clear_400(daemon: Daemon, file: bytes, why: str) -> None:
    assert why in refused(daemon, file)
    assert said(daemon, CAT)


def test_a_model_that_does_not_see_says_so(daemon: Daemon) -> None:
    assert "does not support multimodal requests" in refused(daemon, CAT, model="blind")


def test_images_count_when_a_prompt_is_too_long(daemon: Daemon) -> None:
    error = refused(daemon, *[CAT] * 20, model="short")

    assert "longer than the context" in error and "> 256" in error


def test_the_oldest_messages_go_with_their_images(daemon: Daemon) -> None:
    turns: list[dict[str, Any]] = []
    for word in ("ba", "be", "bi"):
        turns += [
            {"role": "user", "content": word, "images": [encoded(CAT)] * 6},
            {"role": "assistant", "content": word},
        ]
    turns[-1:] = []
    body = {"model": "short", "messages": turns, "stream": False, "options": {"num_predict": 2}}
    answer = daemon.ask("POST", "/api/chat", body).json()

    assert 6 * ROWS < answer["prompt_eval_count"] < 256
    assert answer["message"]["content"]


def test_a_projector_that_does_not_fit_says_so(daemon: Daemon) -> None:
    body = {"model": "broken", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    answer = daemon.ask("POST", "/api/chat", body)

    assert answer.status >= 400 and "mismatch" in answer.json()["error"]


IMAGES, SOUNDS = (CAT, png(40, 30), wave(0.2), gif(20, 20)), (wave(0.2), png(40, 30))


def damaged(daemon: Daemon, n: int, seed: int, model: str, files: tuple[bytes, ...]) -> None:
    """Send damaged files: each is answered, or refused with a reason, and the runner lives."""
    chance = random.Random(seed)
    daemon.generate(model, "ba", options={"num_predict": 1})
    before = {runner.pid for runner in daemon.runners()}
    for _ in range(n):
        file = bytearray(chance.choice(files))
        for _ in range(chance.randint(1, 12)):
            file[min(chance.randrange(len(file)), chance.randrange(400))] = chance.randrange(256)
        message = {"role": "user", "content": "ba", "images": [encoded(bytes(file))]}
        body = {
            "model": model, "messages": [message], "stream": False, "options": {"num_predict": 1},
        }  # fmt: skip
        answer = daemon.ask("POST", "/api/chat", body)
        assert answer.status in (200, 400), answer.body
        assert answer.status == 200 or answer.json()["error"]
    assert before <= {runner.pid for runner in daemon.runners()}


def test_damaged_files_do_not_harm_the_runner(daemon: Daemon) -> None:
    damaged(daemon, 80, 1, "sees", IMAGES)
    damaged(daemon, 20, 1, "hears", SOUNDS)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_thousand_damaged_files_do_not_harm_the_runner(daemon: Daemon) -> None:
    damaged(daemon, 800, 2, "sees", IMAGES)
    damaged(daemon, 200, 2, "hears", SOUNDS)
