"""What a conversation costs beside the answer itself: the speed of a long answer, stored as it comes, and the HTML of answers.

    python -m benchmarks.chats [--turns 3] [--json FILE]        # a minute or two

A small model that counts says 5,900 tokens of five characters by /api/chat, for a chat, and for a chat with its HTML, in turns over
one daemon; the best turn of each counts. ``last`` is the speed of the last thousand tokens against that of the first thousand: it
falls with the length for /api/chat, too, because attention looks back over the whole answer. The HTML is measured in this process, in
seconds of the processor.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ollamapy.web.page.markdown import rendered
from tests.page.models import MARKDOWN
from tests.served import Daemon, serve
from tests.small_models import install, scripted_model

TOKENS = 5900
PIECE = 5  # characters of a token
STEP = 1000

TEXTS = {
    "an answer with everything": MARKDOWN,
    "20,000 small paragraphs": "".join(f"Some words {number}.\n\n" for number in range(20_000)),
    "1,000 small paragraphs": "".join(f"Some words {number}.\n\n" for number in range(1_000)),
    "200 lines of Python": "```python\n"
    + "".join(f"    total += values[{number}] * {number}  # term\n" for number in range(200))
    + "```\n",
    "a table of 300 rows": "| a | b |\n|---|---|\n" + "| one | `two` |\n" * 300,
}


def answers(daemon: Daemon, kind: str) -> Iterator[str]:
    """The texts of a long answer as they come. ``kind``: "chat" (/api/chat), "stored" (for a chat), "html"."""
    options = {"num_ctx": 8192, "num_predict": TOKENS}
    if kind == "chat":
        body = {"model": "count", "messages": [{"role": "user", "content": "Hi"}]}
        response = daemon.open("POST", "/api/chat", {**body, "options": options}).response
        for line in response:
            yield json.loads(line)["message"]["content"]
        return
    made = daemon.ask("POST", "/api/chats", {"model": "count", "options": options}).json()
    path = f"/api/chats/{made['id']}/messages" + ("?html=true" if kind == "html" else "")
    for line in daemon.open("POST", path, {"content": "Hi"}).response:
        if line.startswith(b"data: "):
            yield json.loads(line[6:]).get("text", "")


def speed(daemon: Daemon, kind: str) -> tuple[float, float]:
    """Tokens a second of an answer, and the speed of its last thousand against that of its first."""
    marks: list[tuple[int, float]] = []
    count = 0
    for text in answers(daemon, kind):
        count += len(text)
        if text and (not marks or count >= marks[-1][0] + STEP * PIECE):
            marks.append((count, time.perf_counter()))
    ended = time.perf_counter()
    assert count == TOKENS * PIECE, count
    rates = [
        (after - before) / PIECE / (end - begin)
        for (before, begin), (after, end) in zip(marks, marks[1:], strict=False)
    ]
    return TOKENS / (ended - marks[0][1]), rates[-1] / rates[0]


def measure(turns: int) -> dict[str, Any]:
    """Tokens a second of each kind, and processor seconds of HTML."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        words = [f"{number:04d} " for number in range(6000)]
        install(root / "models", "count", scripted_model(root / "count.gguf", words, n_ctx=8192))
        (root / "home").mkdir()
        with serve(root / "home", root / "models") as daemon:
            for _ in range(turns):
                for kind in ("chat", "stored", "html"):
                    found[kind].append(speed(daemon, kind))
    best = {kind: max(rates) for kind, rates in found.items()}
    return {
        "tokens": TOKENS,
        "rate": {kind: rate for kind, (rate, _) in best.items()},
        "last": {kind: last for kind, (_, last) in best.items()},
        "all": found,
        "html": {name: _seconds(text) for name, text in TEXTS.items()},
    }


def _seconds(text: str) -> float:
    """Processor seconds for the HTML of a text, at best."""
    times = []
    for _ in range(3):
        began = time.thread_time()
        rendered(text)
        times.append(time.thread_time() - began)
    return min(times)


def table(found: dict[str, Any]) -> str:
    """What was measured, to be read."""
    rate, last = found["rate"], found["last"]
    lines = [f"an answer of {found['tokens']:,} tokens: tokens a second, last thousand / first"]
    for kind, what in (("chat", "/api/chat"), ("stored", "a chat"), ("html", "a chat with HTML")):
        ratio = rate[kind] / rate["chat"]
        lines.append(f"  {what:30}{rate[kind]:8.0f}{last[kind]:8.2f}   {ratio:.3f} of /api/chat")
    lines.append("HTML of a text, processor seconds")
    lines += [f"  {name:30}{seconds:8.3f}" for name, seconds in found["html"].items()]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = measure(given.turns)
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
