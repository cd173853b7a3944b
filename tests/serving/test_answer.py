"""Answers, loading and unloading, with a fake runner whose steps the test releases."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from msgspec.structs import replace

from ollamapy.chat import golang
from ollamapy.chat.template import MAX_TEMPLATE
from ollamapy.errors import InvalidRequest, ModelNotFound, OllamapyError, RunnerCrashed
from ollamapy.request import Request
from ollamapy.serving.answer import CONTEXTS_PER_ANSWER, answer, merge, render
from ollamapy.types import Chunk, Media, Message, Options, Prompt, Sampling, Usage
from tests.fakes import CALLER, FakeRunner, Made, made
from tests.requests_made import chat_request, conversation, generate_request
from tests.small_models import install, scripted_model


def chats(*messages: tuple[str, str], model: str = "hello", **more: Any) -> Request:
    return chat_request(model, tuple(Message(*message) for message in messages), **more)


def run(
    store: Path,
    test: Callable[[Made], Awaitable[None]],
    prepare: Callable[[FakeRunner], None] = lambda runner: None,
    **environ: str,
) -> None:
    """Run an async test over the store with fake runners."""

    async def inside() -> None:
        async with made(store, prepare, **environ) as services:
            await test(services)

    asyncio.run(inside())


async def collect(chunks: AsyncGenerator[Chunk, None]) -> list[Chunk]:
    return [chunk async for chunk in chunks]


@pytest.mark.parametrize(
    ("request_", "prompt"),
    [
        (generate_request("plain", "Hi", "ignored"), "Hi"),
        (generate_request("hello", "Hi", raw=True), "Hi"),
        (generate_request("hello", "Hi"), "<user>Hi<assistant>"),
        (generate_request("hello", "Hi", "S"), "<system>S<user>Hi<assistant>"),
        (generate_request("rules", "Hi"), "<system>Be kind.<user>a<assistant>b<user>Hi<assistant>"),
        (generate_request("rules", "Hi", "S"), "<system>S<user>a<assistant>b<user>Hi<assistant>"),
        # an earlier answer: its text comes first, and already contains the model's messages
        (generate_request("rules", "Hi", context=(65, 66)), "AB<system>Be kind.<user>Hi<assistant>"),
        (generate_request("rules", "Hi", context=()), "<system>Be kind.<user>Hi<assistant>"),
        (chats(("user", "Hi")), "<user>Hi<assistant>"),
        (chats(("user", "Hi"), think=True, think_is_optional=True), "<user>Hi<assistant>"),
        (chats(("user", "Hi"), model="plain"), "<user>Hi<assistant>"),  # ChatML, because the template is unknown
        (chats(("user", "Hi"), model="rules"), "<system>Be kind.<user>a<assistant>b<user>Hi<assistant>"),
        (chats(("system", "S"), ("user", "Hi"), model="rules"), "<user>a<assistant>b<system>S<user>Hi<assistant>"),
    ],
)  # fmt: skip
def test_the_prompt(model_store: Path, request_: Request, prompt: str) -> None:
    """The expected prompts have <role> for the marks of ChatML."""
    *turns, _ = prompt.split("<assistant>") if prompt.endswith("<assistant>") else (prompt, "")
    want = "<assistant>".join(turns)
    for role in ("system", "user", "assistant"):
        want = want.replace(f"<{role}>", f"\0<|im_start|>{role}\n")
    want = "".join(f"{part}<|im_end|>\n" if "<|im" in part else part for part in want.split("\0"))
    if prompt.endswith("<assistant>"):
        want += "<|im_start|>assistant\n"

    async def test(services: Made) -> None:
        rendered = await render(services.services, request_, CALLER)
        assert (rendered.prompt, rendered.tokens) == (want, 1 + len(want.encode()))
        await collect(answer(services.services, request_, CALLER))
        assert services.runners[0].generations[0].prompt == Prompt((want,))

    run(model_store, test)


GO = "{{ range .Messages }}{{ .Role }}={{ .Content }};{{ end }}"
GAP = "{{ if .Suffix }}<{{ .Prompt }}|{{ .Suffix }}>{{ else }}{{ .Prompt }}{{ end }}"


@pytest.mark.parametrize(
    ("request_", "prompt"),
    [
        (generate_request("go", "Hi"), "system=M;user=Hi;"),
        (chats(("user", "Hi"), ("user", "Ho"), model="go"), "system=M;user=Hi\n\nHo;"),
        (generate_request("go", "Hi", template="[{{ .Prompt }}]"), "[Hi]"),
        (generate_request("go", "Hi", template="{{ .System }}-{{ .Prompt }}", context=(65,)), "AM-Hi"),
        (generate_request("gap", "a", "ignored", suffix="b"), "<a|b>"),
        (generate_request("gap", "a", suffix="b", context=(65,)), "A<a|b>"),
        (generate_request("gap", "a", suffix="b", template="{{ .Suffix }}"), "b"),
        (generate_request("gap", "a", suffix="b", raw=True), "a"),
        (generate_request("gap", "a"), "a"),
    ],
)  # fmt: skip
def test_go_templates(tmp_path: Path, request_: Request, prompt: str) -> None:
    hello = scripted_model(tmp_path / "hello.gguf", "Hi")
    install(tmp_path / "store", "go", hello, template=GO, system="M")
    install(tmp_path / "store", "gap", hello, template=GAP)

    async def test(services: Made) -> None:
        assert (await render(services.services, request_, CALLER)).prompt == prompt

    run(tmp_path / "store", test)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (
            generate_request("hello", "a", suffix="b"),
            "library/hello:latest does not support insert",
        ),
        (generate_request("hello", "a", template="{{ .Prompt "), "template: .*unclosed action"),
        (
            generate_request("hello", "a", template="{{ .Prompt.x }}"),
            "template: .*failed in line 1",
        ),
    ],
)
def test_requests_that_the_template_does_not_support(
    model_store: Path, request_: Request, why: str
) -> None:
    async def test(services: Made) -> None:
        with pytest.raises(InvalidRequest, match=why):
            await render(services.services, request_, CALLER)

    run(model_store, test)


@pytest.mark.parametrize("template", ["x" * (MAX_TEMPLATE + 1), "é" * (MAX_TEMPLATE // 2 + 1)])
def test_a_long_template_is_refused_before_work_begins(model_store: Path, template: str) -> None:
    request = generate_request("hello", "a", template=template)

    async def test(services: Made) -> None:
        for work in (
            render(services.services, request, CALLER),
            collect(answer(services.services, request, CALLER)),
        ):
            with pytest.raises(InvalidRequest, match="template: it is longer than 262144 bytes"):
                await work
        assert services.runners == []

    run(model_store, test)


def test_templates_are_recognized_off_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recognizing a template may take 0.2 s, and other answers go on meanwhile."""
    install(
        tmp_path / "store",
        "go",
        scripted_model(tmp_path / "m.gguf", "Hi"),
        template=GO + "{{/* own */}}",
    )
    threads: list[bool] = []
    parse = golang.parse

    def noted(text: str) -> golang.GoTemplate:
        threads.append(threading.current_thread() is threading.main_thread())
        return parse(text)

    monkeypatch.setattr(golang, "parse", noted)

    async def test(services: Made) -> None:
        await collect(answer(services.services, chats(("user", "Hi"), model="go"), CALLER))
        template = "[{{ .Prompt }}{{/* of the request */}}]"
        await collect(
            answer(services.services, generate_request("go", "Hi", template=template), CALLER)
        )

    run(tmp_path / "store", test)
    assert len(threads) > 1 and not any(threads)


def test_the_chunks_and_their_usage(model_store: Path) -> None:
    async def test(services: Made) -> None:
        *words, last = await collect(
            answer(services.services, generate_request("plain", "Hi"), CALLER)
        )
        assert [chunk.text for chunk in words] == ["one", " two", " three"]
        assert all(chunk.finish_reason is None and chunk.usage is None for chunk in words)
        read = Usage(prompt_tokens=4, cached_tokens=2, context_length=512)
        assert [chunk.completion_tokens for chunk in words] == [1, 2, 3]
        assert [chunk.prompt_usage for chunk in words] == [read, *[None] * (len(words) - 1)]
        assert (last.text, last.finish_reason) == ("", "stop")
        assert last.context == tuple(b"Hione two three")
        assert last.usage is not None
        usage = last.usage
        assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (4, 2, 3)
        assert (usage.prompt_duration, usage.completion_duration) == (10, 20)
        assert 0 < usage.load_duration <= usage.total_duration

    run(model_store, test)


@pytest.mark.parametrize(
    "request_", [generate_request("plain", "Hi", raw=True), chats(("user", "Hi"), model="plain")]
)
def test_no_context_for_raw_prompts_and_chats(model_store: Path, request_: Request) -> None:
    async def test(services: Made) -> None:
        assert (await collect(answer(services.services, request_, CALLER)))[-1].context == ()

    run(model_store, test)


@pytest.mark.parametrize(
    ("model", "options", "sampling", "num_predict", "stop"),
    [
        ("hello", Options(), Sampling(), 20480, ()),
        ("rules", Options(), Sampling(temperature=0), 20480, ("scripted",)),
        ("rules", Options(temperature=2.0, stop=("x", "y")), Sampling(temperature=2.0), 20480, ("x", "y")),
        ("rules", Options(stop=()), Sampling(temperature=0), 20480, ()),
        ("hello", Options(num_predict=7, seed=3), Sampling(seed=3), 7, ()),
        ("hello", Options(num_predict=0), Sampling(), 20480, ()),
        ("hello", Options(num_predict=-2), Sampling(), 20480, ()),
        ("hello", Options(num_predict=10**6, num_ctx=256), Sampling(), 2560, ()),
    ],
)  # fmt: skip
def test_options(
    model_store: Path,
    model: str,
    options: Options,
    sampling: Sampling,
    num_predict: int,
    stop: tuple[str, ...],
) -> None:
    assert CONTEXTS_PER_ANSWER == 10

    async def test(services: Made) -> None:
        request = generate_request(model, "Hi", options=options, logprobs=2)
        await collect(answer(services.services, request, CALLER))
        [generation] = services.runners[0].generations
        seed = generation.sampling.seed if sampling.seed == -1 else sampling.seed  # one is chosen
        assert generation.sampling.seed != -1
        assert (generation.sampling, generation.num_predict, generation.stop) == (
            replace(sampling, seed=seed),
            num_predict,
            stop,
        )
        assert generation.logprobs == 2

    run(model_store, test)


@pytest.mark.parametrize(
    ("request_", "shift", "num_keep", "truncate"),
    [
        (generate_request("plain", "Hi"), True, 4, True),
        (generate_request("plain", "Hi", shift=False, truncate=False), False, 4, False),
        (generate_request("plain", "Hi", options=Options(num_keep=0)), True, 0, True),
        (chats(("user", "Hi")), True, 4, False),
    ],
)
def test_settings_for_a_full_context(
    model_store: Path, request_: Request, shift: bool, num_keep: int, truncate: bool
) -> None:
    async def test(services: Made) -> None:
        await collect(answer(services.services, request_, CALLER))
        [generation] = services.runners[0].generations
        assert (generation.shift, generation.num_keep, generation.truncate) == (
            shift,
            num_keep,
            truncate,
        )

    run(model_store, test)


def test_load_and_unload(model_store: Path) -> None:
    async def test(services: Made) -> None:
        scheduler = services.services.scheduler

        async def only(request: Request) -> Chunk:
            [chunk] = await collect(answer(services.services, request, CALLER))
            return chunk

        assert await only(generate_request("hello")) == Chunk(finish_reason="load")
        assert await only(chat_request("HELLO")) == Chunk(finish_reason="load")
        [loaded] = scheduler.loaded()
        assert loaded.name.display == "hello:latest" and len(services.runners) == 1
        assert await only(chat_request("hello", keep_alive=0)) == Chunk(finish_reason="unload")
        assert scheduler.loaded() == []
        assert await only(generate_request("hello", keep_alive=0.0)) == Chunk(
            finish_reason="unload"
        )
        with pytest.raises(ModelNotFound):
            await only(generate_request("nosuch", keep_alive=0))

    run(model_store, test)


def test_an_embedding_model_does_not_generate(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "bert.gguf", "bert")
    writer.add_uint32("bert.pooling_type", 1)
    writer.add_tensor("token_embd.weight", np.zeros((8, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    install(tmp_path, "embedder", tmp_path / "bert.gguf")

    async def test(services: Made) -> None:
        for request, what in (
            (generate_request("embedder", "Hi"), "generate"),
            (generate_request("embedder"), "generate"),
            (chats(("user", "Hi"), model="embedder"), "chat"),
        ):
            with pytest.raises(InvalidRequest, match=f'"embedder" does not support {what}'):
                await collect(answer(services.services, request, CALLER))
        assert not services.runners

    run(tmp_path, test)


@pytest.mark.parametrize("stage", ["loading", "prefill", "generating"])
def test_closing_cancels_at_every_stage(model_store: Path, stage: str) -> None:
    def hold(runner: FakeRunner) -> None:
        {"loading": runner.loaded, "prefill": runner.prefilled, "generating": runner.next_word}[
            stage
        ].clear()

    async def test(services: Made) -> None:
        chunks = answer(services.services, generate_request("plain", "Hi"), CALLER)
        task = asyncio.ensure_future(collect(chunks))
        runner = await services.runner()
        if stage != "loading":
            await runner.has(lambda runner: bool(runner.generations))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await services.idle()
        assert runner.endings == ([] if stage == "loading" else ["cancelled"])

    run(model_store, test, hold)


def test_closing_between_two_chunks_cancels(model_store: Path) -> None:
    async def test(services: Made) -> None:
        chunks = answer(services.services, generate_request("plain", "Hi"), CALLER)
        assert (await anext(chunks)).text == "one"
        await chunks.aclose()
        await services.idle()
        assert services.runners[0].endings == ["cancelled"]

    run(model_store, test)


def test_an_error_of_the_runner_releases_the_lease(model_store: Path) -> None:
    def prepare(runner: FakeRunner) -> None:
        runner.breaks_after = 1

    async def test(services: Made) -> None:
        chunks = answer(services.services, generate_request("plain", "Hi"), CALLER)
        assert (await anext(chunks)).text == "one"
        with pytest.raises(OllamapyError, match="the runner broke"):
            await anext(chunks)
        await services.idle()

    run(model_store, test, prepare)


@pytest.mark.parametrize(
    ("exit_code", "faults", "after", "starts"),
    [
        (-11, 1, 0, 2),  # tried once more
        (-11, 9, 0, 2),  # but not for ever
        (-11, 9, 1, 1),  # not after its first text
        (-9, 9, 0, 1),  # not when it was killed
    ],
)
def test_a_fault_before_the_first_text_is_tried_once_more(
    model_store: Path, exit_code: int, faults: int, after: int, starts: int
) -> None:
    made_so_far: list[FakeRunner] = []

    def prepare(runner: FakeRunner) -> None:
        made_so_far.append(runner)
        if len(made_so_far) <= faults:
            runner.breaks_after = after
            runner.error = RunnerCrashed("faulted", exit_code)

    async def test(services: Made) -> None:
        chunks = answer(services.services, generate_request("plain", "Hi"), CALLER)
        if faults == 1:
            assert merge(await collect(chunks)).text == "one two three"
        else:
            with pytest.raises(RunnerCrashed):
                await collect(chunks)
        await services.idle()
        assert len(services.runners) == starts

    run(model_store, test, prepare)


def test_merge() -> None:
    last = Chunk("!", finish_reason="length", context=(1, 2))
    assert merge([Chunk("a"), Chunk("b"), last]) == Chunk("ab!", (), "length", None, (1, 2))


TALK = tuple(("user" if at % 2 == 0 else "assistant", f"{at} " + "x" * 90) for at in range(9))


@pytest.mark.parametrize(
    ("request_", "kept", "dropped"),
    [
        (chats(*TALK), 9, 0),  # the context is large enough
        (chats(*TALK, options=Options(num_ctx=1024)), 7, 2),
        (chats(*TALK, options=Options(num_ctx=512)), 3, 6),
        (chats(*TALK, options=Options(num_ctx=256)), 1, 8),
        (chats(("system", "S"), *TALK, options=Options(num_ctx=512)), 3, 6),
        (chats(*TALK, options=Options(num_ctx=256), truncate=False), 9, 0),
        (chats(*TALK, options=Options(num_ctx=256, context_policy="error")), 9, 0),
        (chats(*TALK, options=Options(num_ctx=256, context_policy="shift")), 9, 0),
        (chats(("user", "x" * 600), options=Options(num_ctx=256)), 1, 0),  # the runner refuses it
    ],
)
def test_the_oldest_messages_are_left_out(
    model_store: Path, request_: Request, kept: int, dropped: int
) -> None:
    async def test(services: Made) -> None:
        *_, last = await collect(answer(services.services, request_, CALLER))
        generation = services.runners[0].generations[0]
        part = generation.prompt.parts[0]
        assert not isinstance(part, Media)
        given = (
            part.encode()
            if isinstance(part, str)
            else bytes(token for token in part if token < 256)
        )
        assert last.usage is not None and last.usage.dropped_messages == dropped
        assert given.count(b"<|im_start|>") - 1 == kept + (
            conversation(request_).messages[0].role == "system"
        )
        assert conversation(request_).messages[-1].content.encode() in given
        assert bool(last.usage.truncated_tokens) == bool(dropped)
        assert generation.truncate == (request_.options.context_policy == "shift")
        assert generation.n_ctx == (request_.options.num_ctx or services.runners[0].plan.n_ctx)

    run(model_store, test)


ALTERNATES = (
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize("num_ctx", [256, 512, 768])
def test_the_messages_left_begin_with_the_users(tmp_path: Path, num_ctx: int) -> None:
    store = tmp_path / "store"
    install(store, "strict", scripted_model(tmp_path / "m.gguf", "Hi", chat_template=ALTERNATES))

    async def test(services: Made) -> None:
        request_ = chats(*TALK, model="strict", options=Options(num_ctx=num_ctx))
        *_, last = await collect(answer(services.services, request_, CALLER))
        assert last.usage is not None and last.usage.dropped_messages in (2, 4, 8)

    run(store, test)
