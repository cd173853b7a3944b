"""HTTP load for a server with Ollama's API, or a llama-server: streams, timed at the client. Standard library only."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.models import SYLLABLES


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass(frozen=True)
class Answer:
    """One stream: the times of the request and of each line, in seconds of one clock, and the server's counts."""

    began: float
    lines: tuple[float, ...]
    prompt_tokens: int
    tokens: int

    @property
    def first(self) -> float:
        """Seconds from the request to its first text."""
        return self.lines[0] - self.began

    @property
    def total(self) -> float:
        """Seconds from the request to its end."""
        return self.lines[-1] - self.began

    @property
    def decode_rate(self) -> float:
        """Tokens a second after the first, as the client saw them arrive."""
        return (self.tokens - 1) / (self.total - self.first) if self.tokens > 1 else 0.0


def rate_together(answers: Sequence[Answer]) -> float:
    """Tokens a second of all streams while all of them run: from the latest first line to the earliest end.

    Before that time is prefill, not decoding; the last line of a stream has no token.
    """
    begin, end = max(each.lines[0] for each in answers), min(each.lines[-1] for each in answers)
    tokens = 0.0
    for each in answers:
        inside = sum(begin < line <= end for line in each.lines[:-1])
        tokens += inside * each.tokens / (len(each.lines) - 1)
    return tokens / (end - begin)


def words(n: int, salt: int = 0) -> str:
    """A prompt of ``n`` tokens for the bench models (each word is one token).

    The first two words write the salt, so that prompts of different salts (below 50,625) share no prefix.
    """
    numbers = [salt % 225, salt // 225 % 225]
    numbers += [(i * 7 + salt) % 15 * 15 + (i * 3 + salt * 11 + i // 15) % 15 for i in range(2, n)]
    return "".join(f" {SYLLABLES[each // 15]}{SYLLABLES[each % 15]}" for each in numbers[:n])


class Server:
    """A server at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._split = urlsplit(url)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One JSON answer."""
        connection = http.client.HTTPConnection(
            self._split.hostname or "", self._split.port, timeout=900
        )
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(connection.getresponse().read() or b"{}")
        connection.close()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def load(self, model: str, **options: Any) -> float:
        """Load a model; seconds."""
        began = time.perf_counter()
        self.post("/api/generate", {"model": model, "options": options, "keep_alive": "30m"})
        return time.perf_counter() - began

    def unload(self, model: str) -> None:
        """Unload a model and wait until it is unloaded."""
        self.post("/api/generate", {"model": model, "keep_alive": 0})
        while any(each["name"].startswith(model) for each in self.get("/api/ps")["models"]):
            time.sleep(0.05)

    def get(self, path: str) -> Any:
        """One JSON answer."""
        connection = http.client.HTTPConnection(
            self._split.hostname or "", self._split.port, timeout=60
        )
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())

    def stream(self, model: str, prompt: str, n: int, **options: Any) -> Answer:
        """Request ``n`` tokens and read them as they arrive."""
        body = {
            "model": model,
            "prompt": prompt,
            "raw": True,
            "keep_alive": "30m",
            "options": {"num_predict": n, "seed": 7, "temperature": 0.8} | options,
        }
        began, lines = self._lines("/api/generate", body)
        final: dict[str, Any] = json.loads(lines[-1][1])
        if "error" in final:
            raise RuntimeError(final["error"])
        return Answer(
            began,
            tuple(when for when, _ in lines),
            final.get("prompt_eval_count", 0),
            final.get("eval_count", 0),
        )

    def _lines(self, path: str, body: dict[str, Any]) -> tuple[float, list[tuple[float, bytes]]]:
        """When a request was sent, and the lines of its answer, each with the time at which it came; empty ones are left out."""
        connection = http.client.HTTPConnection(
            self._split.hostname or "", self._split.port, timeout=900
        )
        began = time.perf_counter()
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        lines = [(time.perf_counter(), line) for line in answer if line.strip()]
        connection.close()
        return began, lines

    def streams(
        self, model: str, prompts: Sequence[str], n: int, clients: int, **options: Any
    ) -> tuple[float, list[Answer]]:
        """All prompts, with so many clients at once: the wall time, and the answers in the order of the prompts."""
        answers: dict[int, Answer] = {}
        todo = iter(enumerate(prompts))
        lock = threading.Lock()

        def client() -> None:
            while True:
                with lock:
                    number, prompt = next(todo, (-1, ""))
                if number < 0:
                    return
                answers[number] = self.stream(model, prompt, n, **options)

        threads = [threading.Thread(target=client) for _ in range(clients)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall = time.perf_counter() - began
        if len(answers) < len(prompts):
            raise RuntimeError("a client failed, see above")
        return wall, [answers[i] for i in range(len(prompts))]


class LlamaServer(Server):
    """A llama-server, which was started with one model and has no loading of its own; by its own API (``/completion``)."""

    def load(self, model: str, **options: Any) -> float:
        """It is loaded already: 0 seconds."""
        return 0.0

    def stream(self, model: str, prompt: str, n: int, **options: Any) -> Answer:
        """Ask for ``n`` tokens and read them as they come, with the sampler's settings that Ollama's API has by default."""
        sampler = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "seed": 7}
        body = {"prompt": prompt, "n_predict": n, "stream": True, "cache_prompt": True, **sampler}
        began, lines = self._lines("/completion", body)
        final: dict[str, Any] = json.loads(lines[-1][1].removeprefix(b"data: "))
        if "timings" not in final:
            raise RuntimeError(lines[-1][1].decode(errors="replace"))
        timings = final["timings"]
        prompt_tokens = timings["prompt_n"] + timings.get("cache_n", 0)
        return Answer(
            began, tuple(when for when, _ in lines), prompt_tokens, timings["predicted_n"]
        )
