"""How smooth the page is while an answer comes, and how soon a long chat is there: measured in a real browser.

    python -m benchmarks.page                      # 8,000 tokens at 1,000 a second, and a chat of 500 messages; half a minute
    python -m benchmarks.page --tokens 2000 --rate 300 --json FILE

Needs chromium (scripts/judges) and the packages of the tests (scripts/setup dev). The page and the chats come from a real daemon.
The events of the measured answer come from a server in this process at an exact rate, because no model here writes a thousand
tokens a second steadily; the daemon's own code makes their HTML (web/page/html_events.py). Measured are the tasks of the main
thread that take more than 50 ms, by the clock and by the processor (which does not depend on what else the machine does), the longest
pause between two frames, how late the last text is shown, and the time from the click on a chat until its end is drawn, with its HTML.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from ollamapy.serving.chats.events import Event
from ollamapy.web.chats.wire import write_event
from ollamapy.web.page.html_events import with_html
from tests.page.chats import new_chat, stored_chat
from tests.page.hand import open_chat, say
from tests.page.models import MARKDOWN, make_models
from tests.served import serve

MESSAGES = 500
LONG = 50  # milliseconds of a task that a user may notice
TURNS = 5

OBSERVE = """
    window.tasks = [];
    window.frames = [];
    new PerformanceObserver(list => tasks.push(...list.getEntries().map(each => each.duration))).observe({type: "longtask"});
    let last = performance.now();
    requestAnimationFrame(function frame(now) { frames.push(now - last); last = now; requestAnimationFrame(frame); });
"""

OPENED = """async ([chat, count]) => {
  // Milliseconds from the click on a chat until the page has drawn its last answer with its table, and until all messages are there.
  const start = performance.now();
  const drawn = async (isThere) => {
    while (!isThere()) await new Promise(requestAnimationFrame);
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    return performance.now() - start;
  };
  document.querySelector(`nav [data-key="${chat}"]`).click();
  const end = await drawn(() => [...document.querySelectorAll("article.assistant")].at(-1)?.querySelector("table"));
  return [end, await drawn(() => document.querySelectorAll("article").length === count)];
}"""


def answer(tokens: int) -> Iterator[str]:
    """Pieces of about four characters of an answer with everything: paragraphs, lists, a long table, much code, formulas."""
    paragraph = "It is a **long** paragraph with `code`, $x^2$ and words, words, words. " * 12
    rows = "".join(f"| {n} | value {n} | `{n * n}` |\n" for n in range(60))
    lines = "".join(f"    total += values[{n}] * {n}  # term {n}\n" for n in range(80))
    part = (
        f"{MARKDOWN}\n{paragraph}\n\n| n | name | square |\n|---|---|---|\n{rows}\n"
        f"```python\ndef total(values):\n    total = 0\n{lines}    return total\n```\n\n"
        + "".join(f"{n}. item {n}\n" for n in range(40))
        + "\n"
    )
    text = part * (4 * tokens // len(part) + 1)
    for start in range(0, 4 * tokens, 4):
        yield text[start : start + 4]


async def _events(tokens: int, rate: float) -> AsyncGenerator[Event, None]:
    """The events of an answer at a rate, one for each token."""
    ids = {"user": "msg_u" + "A" * 21, "assistant": "msg_a" + "A" * 21}
    number = 1
    yield Event("message", {"chat": "", **ids, "parent": ids["user"]}, number)
    start = time.monotonic()
    for index, piece in enumerate(answer(tokens)):
        if (wait := start + index / rate - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        number += len(piece)
        yield Event("text", {"text": piece}, number)
    ending = {"stop_reason": "stop", "status": "done", "usage": None, "title": "T"}
    yield Event("done", ending, number)


@contextmanager
def event_server(tokens: int, rate: float) -> Iterator[str]:
    """A server that answers every request with the events of an answer; its URL."""
    loop = asyncio.new_event_loop()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        )
        async for event in with_html(_events(tokens, rate)):
            writer.write(write_event(event) + b"\n")
            await writer.drain()
        writer.close()

    thread = threading.Thread(target=loop.run_forever)  # Playwright's own loop runs in this one
    thread.start()
    starting = asyncio.start_server(serve_one, "127.0.0.1", 0)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result()
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def measure_stream(page: Page, chat: str, tokens: int, rate: float) -> dict[str, Any]:
    """How an answer comes: milliseconds of the long tasks and of the longest pause between frames, frames a second, and the
    seconds from the moment when the last token was due until the answer is complete."""
    with event_server(tokens, rate) as url:
        page.route("**/messages?html=true", lambda route: route.continue_(url=url))
        open_chat(page, chat)
        page.evaluate(OBSERVE)
        browser = page.context.browser
        assert browser is not None
        browser.start_tracing(page=page, categories=["toplevel"])
        start = time.monotonic()
        say(page, "Go")
        page.wait_for_selector("article.live")
        page.wait_for_selector("article.live", state="detached", timeout=600_000)
        took = time.monotonic() - start
        tasks, frames = page.evaluate("[tasks, frames]")
        busy = processor_times(browser.stop_tracing())
        page.unroute("**/messages?html=true")
    shown = str(page.locator("article.assistant .text").text_content())
    assert "values[79]" in shown and len(shown) > 2 * tokens, len(shown)
    return {
        "tokens": tokens,
        "rate": rate,
        "late": took - tokens / rate,
        "long_tasks": sorted(round(each) for each in tasks),
        "long_by_processor": [round(each) for each in busy if each > LONG],
        "longest_by_processor": busy[-1],
        "processor_share": sum(busy) / 1000 / took,
        "frames": len(frames) / took,
        "longest_pause": max(frames),
    }


def processor_times(trace: bytes) -> list[float]:
    """Milliseconds of the processor that each task of the page's main thread took, ascending; of the busiest renderer's."""
    events = json.loads(trace)["traceEvents"]
    threads = [
        (each["pid"], each["tid"])
        for each in events
        if each.get("name") == "thread_name" and each["args"]["name"] == "CrRendererMain"
    ]
    times: dict[tuple[int, int], list[float]] = {thread: [] for thread in threads}
    for each in events:
        thread = (each.get("pid"), each.get("tid"))
        if thread in times and each.get("name") == "ThreadControllerImpl::RunTask":
            times[thread].append(each.get("tdur", 0) / 1000)
    return sorted(max(times.values(), key=sum))


def measure_opening(page: Page, chat: str, short: str) -> dict[str, Any]:
    """How soon a chat is there: milliseconds until its end is drawn, and until all of it can be scrolled to and searched. The
    first time its HTML has to be made, then the daemon and the page have it."""
    browser = page.context.browser
    assert browser is not None
    open_chat(page, short)
    times, busy = [], []
    for _ in range(1 + TURNS):
        browser.start_tracing(page=page, categories=["toplevel"])
        times.append(page.evaluate(OPENED, [chat, MESSAGES]))
        busy.append(processor_times(browser.stop_tracing()))
        page.evaluate("id => document.querySelector(`nav [data-key='${id}']`).click()", short)
        page.wait_for_function("() => document.querySelectorAll('article').length === 2")
    first, *later = times
    return {
        "messages": MESSAGES,
        "first": first[0],
        "first_all": first[1],
        "again": statistics.median(end for end, _ in later),
        "again_all": statistics.median(whole for _, whole in later),
        "processor_first": sum(busy[0]),
        "processor_again": statistics.median(map(sum, busy[1:])),
        "longest_by_processor": max(each[-1] for each in busy),
        "all": times,
    }


def measure(tokens: int, rate: float) -> dict[str, Any]:
    """Both, in one browser over one daemon."""
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        root = Path(temporary)
        for name in ("models", "gguf", "home"):
            (root / name).mkdir()
        make_models(root / "models", root / "gguf", only=("hello",))
        with serve(root / "home", root / "models") as daemon:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
            page = browser.new_page(base_url=daemon.url)
            texts = [f"Question {n}" if n % 2 == 0 else MARKDOWN for n in range(MESSAGES)]
            long = stored_chat(daemon, *texts, title="Long")
            short = stored_chat(daemon, "Short", "Yes")
            opening = measure_opening(page, long, short)
            stream = measure_stream(page, new_chat(daemon), tokens, rate)
            browser.close()
    return {"stream": stream, "opening": opening}


def table(found: dict[str, Any]) -> str:
    """What was measured, to be read."""
    stream, opening = found["stream"], found["opening"]
    longest = f", the longest {stream['long_tasks'][-1]} ms" if stream["long_tasks"] else ""
    by_processor = (
        f"{len(stream['long_by_processor'])}, the longest {stream['longest_by_processor']:.0f} ms"
    )
    return (
        f"{stream['tokens']:,} tokens at {stream['rate']:,.0f}/s: complete {stream['late']:.2f} s after the last one was due\n"
        f"  tasks over 50 ms: {len(stream['long_tasks'])}{longest}; by the processor: {by_processor}\n"
        f"  the main thread is busy for {100 * stream['processor_share']:.0f} % of the time\n"
        f"  frames: {stream['frames']:.0f} a second, the longest pause {stream['longest_pause']:.0f} ms\n"
        f"{opening['messages']} messages: their end is there after {opening['first']:.0f} ms, then after {opening['again']:.0f} ms;"
        f" all of them after {opening['first_all']:.0f} and {opening['again_all']:.0f} ms\n"
        f"  processor of the main thread: {opening['processor_first']:.0f} ms, then {opening['processor_again']:.0f} ms; the longest task"
        f" {opening['longest_by_processor']:.0f} ms"
    )


def main() -> None:
    """Measure, print, and write JSON with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = measure(given.tokens, given.rate)
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
