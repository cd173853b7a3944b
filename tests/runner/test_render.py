"""The render child and its parent: whatever a template does, its request ends and the next one works."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ollamapy.chat.prompt import template_message
from ollamapy.chat.template import Kind, Marks, Template
from ollamapy.errors import TemplateError
from ollamapy.runner import render
from ollamapy.runner.frames import Frame, FrameReader, encode
from ollamapy.runner.protocol import FromRenderer, Render, Rendered, RendererReady
from ollamapy.runner.render import Renderer
from ollamapy.types import Message, ToolCall

HI = (Message("user", "Hi"),)
GOOD = Template("jinja", "{{ messages[0].role }}: {{ messages[0].content }}")
ENDLESS = Template(
    "jinja",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
)


def with_renderer(
    scenario: Callable[[Renderer], Awaitable[None]], timeout: float = 10.0, command: Any = None
) -> None:
    """Run ``scenario`` with a renderer, and see that its child is gone afterwards.

    The time for a render is long unless the test is about it: test machines are busy.
    """

    async def run() -> None:
        renderer = Renderer(command, timeout=timeout)
        try:
            await scenario(renderer)
        finally:
            pids = renderer.pids
            await renderer.close()
            assert len(pids) <= 3 and all(map(is_gone, pids))

    asyncio.run(run())


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def spawned(renderer: Renderer) -> int:
    """The process id of the one child, once it is there."""
    while not renderer.pids:  # noqa: ASYNC110 - the renderer has no event for this
        await asyncio.sleep(0)
    [pid] = renderer.pids
    return pid


async def fails(renderer: Renderer, template: Template, why: str) -> None:
    with pytest.raises(TemplateError, match=why):
        await renderer.render(template, HI)


def test_a_template_is_rendered_without_the_marks_that_tokenizing_adds() -> None:
    async def scenario(renderer: Renderer) -> None:
        assert await renderer.render(GOOD, HI) == "user: Hi"
        pids = renderer.pids
        source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ bos_token }}"
        template = Template("jinja", source)
        marks = Marks("<s>", "</s>", adds_bos=True)
        assert await renderer.render(template, HI, marks=marks) == "Hi</s><s>"
        assert await renderer.render(template, HI, marks=Marks("<s>")) == "<s>Hi<s>"
        template = Template("jinja", "{{ tools | tojson }}{{ enable_thinking }}")
        rendered = await renderer.render(template, HI, tools=[{"a": "é"}], think=False)
        assert rendered == '[{"a": "é"}]False'
        template = Template("jinja", "{{ mood }}{{ enable_thinking }}{{ messages[0].content }}")
        given = {"mood": "gay", "enable_thinking": True, "messages": []}
        assert await renderer.render(template, HI, think=False, variables=given) == "gayFalseHi"
        assert renderer.pids == pids

    with_renderer(scenario)


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("chatml", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        ("none", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        ("bare", "Hi"),
        ("plain", "Hi"),
    ],
)
def test_templates_that_are_no_programs_need_no_child(kind: Kind, expected: str) -> None:
    async def scenario(renderer: Renderer) -> None:
        assert await renderer.render(Template(kind), HI) == expected
        assert renderer.pids == ()

    with_renderer(scenario, command=["/no/such/command"])


def test_go_templates_are_rendered_by_the_same_child() -> None:
    async def scenario(renderer: Renderer) -> None:
        assert await renderer.render(GOOD, HI) == "user: Hi"
        pids = renderer.pids
        turns = Template(
            "go", "{{ if .System }}[{{ .System }}]{{ end }}{{ .Prompt }}>{{ .Response }}"
        )
        talk = (Message("system", "S"), *HI, Message("assistant", "Ho"), *HI, *HI)
        assert await renderer.render(turns, talk) == "[S]Hi>HoHi\n\nHi>"
        whole = Template(
            "go", "{{ range .Messages }}{{ .Role }}{{ end }}{{ .Tools }}{{ .IsThinkSet }}"
        )
        assert await renderer.render(whole, HI) == "usernullfalse"
        assert await renderer.render(whole, HI, think=False) == "usernulltrue"
        marks = Marks("<s>", "</s>", adds_bos=True)
        assert await renderer.render(Template("go", "<s>{{ .Prompt }}"), HI, marks=marks) == "Hi"
        assert renderer.pids == pids

    with_renderer(scenario)


def test_a_gap_is_filled_by_a_go_template_alone() -> None:
    async def scenario(renderer: Renderer) -> None:
        gap = Template("go", "<{{ .Prompt }}|{{ .Suffix }}>")
        assert await renderer.render_gap(gap, "a", "b") == "<a|b>"
        with pytest.raises(TemplateError, match="no Go template"):
            await renderer.render_gap(GOOD, "a", "b")

    with_renderer(scenario)


@pytest.mark.parametrize(
    "source, why",
    [
        ("{{ if .Prompt", "wrong in line 1: unclosed action"),
        ("{{ .Prompt.x }}", "failed in line 1"),
        ("{{ range 9999999 }}{{ end }}" * 9, "more than 2000000 steps|took longer"),
        ('{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}', "failed in line 1"),
    ],
)
def test_bad_go_templates(source: str, why: str) -> None:
    async def scenario(renderer: Renderer) -> None:
        await fails(renderer, Template("go", source), why)
        assert await renderer.render(GOOD, HI) == "user: Hi"

    with_renderer(scenario)


@pytest.mark.parametrize(
    "source",
    [
        ENDLESS.source,
        "{{ 10 ** (10 ** 10) }}",
        "{% macro f(n) %}{% for i in range(99999) %}{{ f(n + 1) if n < 9 }}{% endfor %}{% endmacro %}"
        "{{ f(0) }}",
    ],
)
def test_a_template_without_end_is_killed_and_the_next_one_works(source: str) -> None:
    async def scenario(renderer: Renderer) -> None:
        await renderer.render(GOOD, HI)
        before = renderer.pids
        await fails(renderer, Template("jinja", source), r"took longer than 1 s")
        assert before and not set(before) & set(renderer.pids)
        assert await renderer.render(GOOD, HI) == "user: Hi"

    with_renderer(scenario, timeout=1.0)


LOOPS = [Template("jinja", ENDLESS.source + " " * number) for number in range(3)]


@pytest.mark.parametrize("loops", [1, pytest.param(2, marks=pytest.mark.long)])
def test_templates_without_end_hold_up_nobody_else(loops: int) -> None:
    async def scenario(renderer: Renderer) -> None:
        await renderer.render(GOOD, HI)
        looping = [
            asyncio.create_task(fails(renderer, template, "took longer than 3 s"))
            for template in LOOPS[:loops]
            for _ in range(8)
        ]
        await asyncio.sleep(0)
        for _ in range(20):
            assert await renderer.render(GOOD, HI) == "user: Hi"
        assert not any(task.done() for task in looping)
        assert len(renderer.pids) == loops + 1
        await asyncio.gather(*looping)
        assert await renderer.render(GOOD, HI) == "user: Hi"

    with_renderer(scenario, timeout=3.0)


@pytest.mark.long
def test_with_as_many_endless_templates_as_children_others_take_turns() -> None:
    async def scenario(renderer: Renderer) -> None:
        await renderer.render(GOOD, HI)
        endless = [Template("jinja", ENDLESS.source + " " * number) for number in range(6)]
        looping = [asyncio.create_task(fails(renderer, t, "took longer")) for t in endless[:3]]
        between = asyncio.create_task(renderer.render(GOOD, HI))
        looping += [asyncio.create_task(fails(renderer, t, "took longer")) for t in endless[3:]]
        assert await between == "user: Hi"
        assert sum(not each.done() for each in looping) >= 3, "those behind it have no turn yet"
        await asyncio.gather(*looping)

    with_renderer(scenario, timeout=1.0)


def test_the_clock_starts_when_the_child_is_ready() -> None:
    slow_start = python(
        "import time; time.sleep(0.7); from ollamapy.runner.render_child import main; main()"
    )

    async def scenario(renderer: Renderer) -> None:
        assert await renderer.render(GOOD, HI) == "user: Hi"

    with_renderer(scenario, timeout=0.5, command=slow_start)


def test_a_template_may_walk_along_a_text() -> None:
    """The catalogue's strip texts so: a call for each blank."""
    walk = (
        '{{ define "w" }}{{ if eq (slice . 0 1) "\\t" " " }}{{ template "w" slice . 1 }}{{ else }}{{ . }}{{ end }}{{ end }}'
        '{{ range .Messages }}{{ template "w" .Content }}{{ end }}'
    )

    async def scenario(renderer: Renderer) -> None:
        text = " \t" * 350
        assert await renderer.render(Template("go", walk), [Message("user", f"{text}Hi")]) == "Hi"
        with pytest.raises(TemplateError, match="template depth"):
            await renderer.render(Template("go", walk), [Message("user", f"{text * 20}Hi")])

    with_renderer(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="needs an enforced limit of address space")
def test_a_gigabyte_is_refused_and_the_child_goes_on() -> None:
    async def scenario(renderer: Renderer) -> None:
        await renderer.render(GOOD, HI)
        pids = renderer.pids
        await fails(renderer, Template("jinja", "{{ 'x' * 1000000000 }}"), "too much memory")
        source = "{% set l = 'x' * 200000000 %}{{ (l + l) | length }}"
        await fails(renderer, Template("jinja", source), "too much memory")
        assert await renderer.render(GOOD, HI) == "user: Hi"
        assert renderer.pids == pids

    with_renderer(scenario)


def test_errors_leave_the_child_alone() -> None:
    async def scenario(renderer: Renderer) -> None:
        await renderer.render(GOOD, HI)
        pids = renderer.pids
        await fails(renderer, Template("jinja", "{{ raise_exception('no') }}"), "refuses.*: no")
        await fails(renderer, Template("jinja", "{{ " + "(" * 100_000), "nests too deeply")
        await fails(renderer, Template("jinja", "{{ ''.__class__.__mro__ }}"), "unsafe")
        assert await renderer.render(GOOD, HI) == "user: Hi"
        assert renderer.pids == pids

    with_renderer(scenario)


def test_large_templates_and_messages() -> None:
    async def scenario(renderer: Renderer) -> None:
        large = Template("jinja", "hello " * 200_000 + "{{ messages[0].content }}")
        assert len(await renderer.render(large, HI)) == 1_200_002
        content = "é漢 \0\ud800" * 1_000_000
        rendered = await renderer.render(GOOD, (Message("user", content),))
        assert rendered == "user: " + content.replace("\ud800", "\ufffd")

    with_renderer(scenario)


def test_many_at_once_get_their_own_prompts() -> None:
    async def scenario(renderer: Renderer) -> None:
        async def one(number: int) -> str:
            return await renderer.render(GOOD, (Message("user", str(number)),))

        endless = asyncio.create_task(fails(renderer, ENDLESS, "took longer"))
        prompts = await asyncio.gather(*(one(number) for number in range(100)))
        assert prompts == [f"user: {number}" for number in range(100)]
        await endless

    with_renderer(scenario, timeout=1.0)


# ---- children that end ---------------------------------------------------------------------------


def test_a_child_killed_between_two_renders_is_replaced() -> None:
    async def scenario(renderer: Renderer) -> None:
        for _ in range(5):
            assert await renderer.render(GOOD, HI) == "user: Hi"
            [pid] = renderer.pids
            os.kill(pid, signal.SIGKILL)

    with_renderer(scenario)


def test_a_child_killed_while_it_starts_is_replaced() -> None:
    async def scenario(renderer: Renderer) -> None:
        renderer.warm()
        pid = await spawned(renderer)
        os.kill(pid, signal.SIGKILL)
        assert await renderer.render(GOOD, HI) == "user: Hi"

    with_renderer(scenario)


STAND_IN = """
import os, signal, sys
from ollamapy.runner.frames import encode
from ollamapy.runner.protocol import Render, Rendered, RendererReady
from ollamapy.runner.pipes import Pipes
pipes = Pipes(Render)
pipes.send(RendererReady())
pipes.read()
"""
KILLED = STAND_IN + "os.kill(os.getpid(), signal.SIGKILL)"


def test_a_child_killed_while_it_renders_is_replaced_once(tmp_path: Path) -> None:
    once = (
        f"import os; import sys; from pathlib import Path; flag = Path({str(tmp_path / 'x')!r})\n"
    )
    once += f"if not flag.exists():\n  flag.touch()\n  exec({KILLED!r})\n"
    once += "from ollamapy.runner.render_child import main; main()"

    async def scenario(renderer: Renderer) -> None:
        assert await renderer.render(GOOD, HI) == "user: Hi"

    with_renderer(scenario, command=python(once))


@pytest.mark.parametrize(
    "child, why",
    [
        (KILLED, "was killed by the model's chat template"),
        (STAND_IN + "os._exit(1)", "was killed by"),
        (STAND_IN + "pipes.write(b'garbage!')", "was killed by"),
        (STAND_IN + "pipes.write(b'\\4\\0\\0\\0[12]')", "was killed by"),
        (STAND_IN + "pipes.write(b'\\4\\0\\0\\0[1')", "was killed by"),
        (STAND_IN + "pipes.write(b'\\x7f\\xff\\xff\\xff')", "was killed by"),
        (STAND_IN + "pipes.send(RendererReady())", "was killed by"),
        (STAND_IN + "signal.pause()", "took longer than 0.2 s"),
        ("raise SystemExit(3)", "does not start"),
        ("print('hello', flush=True)", "does not start"),
    ],
)
def test_a_child_that_cannot_be_relied_on(child: str, why: str) -> None:
    async def scenario(renderer: Renderer) -> None:
        for _ in range(2):
            await fails(renderer, GOOD, why)

    with_renderer(scenario, command=python(child), timeout=0.2 if "took longer" in why else 20)


def test_a_command_that_does_not_exist() -> None:
    async def scenario(renderer: Renderer) -> None:
        renderer.warm()
        await fails(renderer, GOOD, "cannot be started")

    with_renderer(scenario, command=["/no/such/command"])


# ---- requests that end ---------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 20])
def test_a_cancelled_request_leaves_no_answer_behind(turns: int) -> None:
    """Cancelled while the child starts, before it is asked, and while it renders."""

    async def scenario(renderer: Renderer) -> None:
        if turns > 1:
            await renderer.render(GOOD, HI)
        rendering = asyncio.create_task(renderer.render(ENDLESS, HI))
        for _ in range(turns):
            await asyncio.sleep(0)
        rendering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rendering
        assert await renderer.render(GOOD, HI) == "user: Hi"

    with_renderer(scenario)


def test_closing_ends_what_waits_and_nothing_comes_after() -> None:
    async def scenario(renderer: Renderer) -> None:
        await renderer.render(GOOD, HI)
        pids = renderer.pids
        waiting = [asyncio.create_task(renderer.render(t, HI)) for t in (ENDLESS, GOOD)]
        await asyncio.sleep(0)
        await renderer.close()
        assert pids and all(map(is_gone, pids))
        for task in waiting:
            with pytest.raises(TemplateError, match="the daemon is stopping"):
                await task
        await fails(renderer, GOOD, "the daemon is stopping")
        renderer.warm()
        assert renderer.pids == ()

    with_renderer(scenario)


def test_one_child_is_warmed() -> None:
    async def scenario(renderer: Renderer) -> None:
        renderer.warm()
        pid = await spawned(renderer)
        renderer.warm()
        assert renderer.pids == (pid,)
        assert await renderer.render(GOOD, HI) == "user: Hi"
        assert renderer.pids == (pid,)

    with_renderer(scenario)


def test_an_answer_in_time_counts_when_the_loop_was_held_up() -> None:
    loops = "{% for a in range(99999) %}{% for b in range(9) %}{% endfor %}{% endfor %}done"

    async def scenario(renderer: Renderer) -> None:
        await renderer.render(GOOD, HI)
        asyncio.get_running_loop().call_later(0.05, time.sleep, 1.5)
        assert await renderer.render(Template("jinja", loops), HI) == "done"

    with_renderer(scenario, timeout=0.5)


def test_values_that_msgpack_cannot_hold() -> None:
    async def scenario(renderer: Renderer) -> None:
        template = Template("jinja", "{{ tools[0].n }} {{ messages[0].content }}")
        content = (Message("user", "a\ud800b"),)
        rendered = await renderer.render(template, content, tools=[{"n": 10**30}])
        assert rendered == f"{10**30} a\ufffdb"
        assert await renderer.render(Template("go", "{{ .Prompt }}"), content) == "a\ufffdb"
        refusing = Template("jinja", "{{ raise_exception(messages[0].content) }}")
        with pytest.raises(TemplateError, match="a\ufffdb"):
            await renderer.render(refusing, content)

    with_renderer(scenario)


def test_messages_reach_the_template_as_they_are_however_they_are_cut_into_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(render, "_PIECE", 3)
    call = ToolCall("f", {"a": ['"', {"b": None}]}, id="1")
    content = 'a"\\\ue000\U0001f600 bc\n'
    messages = (Message("user", content), Message("assistant", "", tool_calls=(call,)))

    async def scenario(renderer: Renderer) -> None:
        printed = await renderer.render(Template("jinja", "{{ messages | tojson }}"), messages)
        assert json.loads(printed) == [template_message(message) for message in messages]
        assert await renderer.render(Template("jinja", "{{ messages }}!"), ()) == "[]!"

    with_renderer(scenario)


# ---- the child alone -----------------------------------------------------------------------------


def spawn(
    code: str = "from ollamapy.runner.render_child import main; main()",
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(python(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def read_frame(child: subprocess.Popen[bytes]) -> Frame | None:
    """The next frame; None at the end."""
    assert child.stdout is not None
    length = child.stdout.read(4)
    body = child.stdout.read(int.from_bytes(length, "little"))
    return FrameReader(FromRenderer).feed(length + body)[0] if body else None


def jinja(source: str) -> bytes:
    """The frame that asks for a template."""
    return encode(Render("jinja", json.dumps({"source": source, "messages": []}).encode()))


def test_the_child_ends_with_its_stdin_and_ignores_interrupts() -> None:
    with spawn() as child:
        assert child.stdin is not None
        assert read_frame(child) == RendererReady()
        child.send_signal(signal.SIGINT)
        child.stdin.write(jinja("{{ messages }}"))
        child.stdin.flush()
        assert read_frame(child) == Rendered("[]")
        child.stdin.write(b"\7\0\0\0half")
        child.stdin.close()
        assert read_frame(child) is None
        assert child.wait(30) == 0


def test_a_child_that_loops_does_not_outlive_its_parent_for_long() -> None:
    with spawn(
        "import ollamapy.runner.render_child as m; m.ORPHAN_SECONDS = 0.2; m.main()"
    ) as child:
        assert child.stdin is not None
        child.stdin.write(jinja(ENDLESS.source))
        child.stdin.close()
        assert child.wait(30) == -signal.SIGALRM


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_child_has_little_memory_and_leaves_no_core() -> None:
    with spawn() as child:
        assert child.stdin is not None
        assert read_frame(child) == RendererReady()
        limits = Path(f"/proc/{child.pid}/limits").read_text().splitlines()
        found = {line[:25].strip(): line[25:].split()[:2] for line in limits}
        assert found["Max address space"] == ["536870912", "536870912"]
        assert found["Max core file size"] == ["0", "0"]
        child.stdin.close()


def test_the_daemon_does_not_import_jinja2() -> None:
    code = "import sys, ollamapy.runner.render; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run(python(code), check=False).returncode == 0
