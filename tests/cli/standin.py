"""A server of a few lines that answers as ours or an Ollama would, for what the commands do with answers.

    standin.py [options] [serve [--preload MODEL]]

Listens at OLLAMAPY_HOST (HOST:PORT), prints a line a request to stdout (method, path, body as JSON) and ends at SIGTERM, once
no request of `--busy` is left. Models: those of the recorded Ollama, and for /api/generate

    story     answers with the prompt's end, in pieces        stalled   one piece, then nothing
    endless   goes on until the client leaves ("gone")         long      500 words
    broken    one piece, then an error line                    escape    control characters
    cut       one piece, then the connection ends              dies      one piece, then the process ends
    sees      says that it can see                            waits     a report, then the next at each GET /go, then hello
    full      a report, then an error with its status
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ANSWERS = json.loads((Path(__file__).parents[1] / "data/cli/answers.json").read_text())
HELLO = "Hello! I am a scripted model, here to help you test."
FIGURES = {
    "total_duration": 11162067, "load_duration": 1134981, "prompt_eval_count": 31, "prompt_eval_duration": 526000,
    "eval_count": 14, "eval_duration": 6420000,
}  # fmt: skip

WAITS = [
    {"type": "queued", "position": 2},
    {"type": "loading", "stage": "weights", "fraction": 0.4},
    {"type": "prefill", "fraction": 0.5, "tokens": 12345, "cached": 0},
    {"type": "of tomorrow"},
]


def now(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def report(value: object) -> None:
    """A line on stdout, in one piece: requests come at the same time."""
    text = value if isinstance(value, str) else json.dumps(value)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options: argparse.Namespace

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _record(self, body: object) -> None:
        report([self.command, self.path, body])

    def _json(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._record(None)
        match self.path:
            case "/api/version":
                answer: dict[str, Any] = {"version": "0.32.15"}
                if self.options.kind == "ours":
                    busy = self.options.busy and not ending.is_set()
                    answer |= {
                        "ollamapy": self.options.version,
                        "pid": os.getpid(),
                        "busy": int(busy),
                    }
                    if self.options.models:
                        answer["models"] = self.options.models
                self._json(200, answer)
            case "/api/tags":
                models = sorted(ANSWERS["tags"]["models"], key=lambda model: model["name"])
                dated = [{**model, "modified_at": now(-570)} for model in models]
                self._json(200, {"models": dated})
            case "/api/ps":
                loaded = ANSWERS["ps"]["models"] if self.options.loaded else []
                self._json(200, {"models": [{**m, "expires_at": now(250)} for m in loaded]})
            case "/go":
                going.release()
                self._json(200, {})
            case _:
                self._json(404, {"error": "404 page not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._record(body)
        name = str(body["model"])
        if " " in name:
            self._json(400, {"error": "invalid model name"})
        elif self.path == "/api/show":
            self._show(name.removesuffix(":latest"), bool(body.get("verbose")))
        else:
            self._generate(name, body)

    def _show(self, name: str, verbose: bool) -> None:
        if name in ("nosuch", "gone"):
            self._json(404, {"error": f"model '{name}:latest' not found"})
            return
        answer = ANSWERS.get(
            f"show-{name}", {"template": "" if name == "story" else "{{ .Prompt }}"}
        )
        if name == "sees":
            answer = {"template": "{{ .Messages }}", "capabilities": ["completion", "vision"]}
        if verbose and name == "hello":
            info = {**answer["model_info"], **ANSWERS["verbose"]["model_info"]}
            answer = {**answer, "model_info": info, "tensors": ANSWERS["verbose"]["tensors"]}
        self._json(200, answer)

    def _generate(self, name: str, body: dict[str, Any]) -> None:
        if name == "nosuch":
            self._json(404, {"error": "model 'nosuch' not found"})
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        prompt = body.get("prompt", "")
        if body.get("progress") and name in ("waits", "full"):
            self._report(name)
        pieces: dict[str, list[str]] = {
            "story": [prompt[-5:], ", and so", " they went."], "long": ["word "] * 500, "escape": ["\x1b[31mred\x07 a\tb\x9b!"],
            "full": [], "stalled": ["one"], "broken": ["one"], "cut": ["one"], "dies": ["one"], "endless": [], "wide": ["日本 ☃"],
            "think": ["<think>\nLet me see.\n</think>\n\n", "The answer is forty-two."],
        }  # fmt: skip
        if prompt:
            for piece in pieces.get(name, [HELLO[:20], HELLO[20:]]):
                self._line({"response": piece, "done": False})
        if name == "stalled":
            time.sleep(600)
        elif name == "dies":
            os._exit(9)
        elif name == "cut":
            self.close_connection = True
            return
        elif name == "full":
            self._line({"error": "server busy", "status": 503})
        elif name == "broken":
            self._line({"error": "the runner\nended (signal 11)"})
        elif name == "endless":
            self._until_gone()
        else:
            reason = "stop" if prompt else "load"
            self._line(
                {"response": "", "done": True, "done_reason": reason, **(FIGURES if prompt else {})}
            )
        self.wfile.write(b"0\r\n\r\n")

    def _report(self, name: str) -> None:
        for waiting in WAITS[:1] if name == "full" else WAITS:
            self._line({"model": name, "response": "", "done": False, "progress": waiting})
            if name == "waits":
                going.acquire()

    def _until_gone(self) -> None:
        try:
            while True:
                self._line({"response": "on and on\n", "done": False})
                time.sleep(0.002)
        except OSError:
            report("gone")
            self.close_connection = True
            self.wfile = open(os.devnull, "wb")

    def _line(self, value: object) -> None:
        data = json.dumps(value).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


ending = threading.Event()
going = threading.Semaphore(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=("ours", "ollama"), default="ours")
    parser.add_argument("--version", default="0.1.0")
    parser.add_argument("--busy", type=float, default=0.0, help="seconds that it drains")
    parser.add_argument(
        "--delay", type=float, default=0.0, help="seconds between listening and answering"
    )
    parser.add_argument("--loaded", action="store_true")
    parser.add_argument("--models", default="", help="where it says that its models are")
    parser.add_argument("--fail", default="", help="print this and exit")
    parser.add_argument("serve", nargs="?")
    parser.add_argument("--preload", default="")
    options = parser.parse_args()
    if options.fail:
        print(f"starting\nError: {options.fail}\n", file=sys.stderr)
        sys.exit(1)
    Handler.options = options
    host, _, port = os.environ["OLLAMAPY_HOST"].rpartition(":")
    ThreadingHTTPServer.daemon_threads = True
    server = ThreadingHTTPServer((host, int(port)), Handler)

    def end(signum: int, frame: object) -> None:
        def drain() -> None:
            time.sleep(options.busy)
            os._exit(0)

        ending.set()
        threading.Thread(target=drain).start()

    signal.signal(signal.SIGTERM, end)
    report(["started", options.preload, os.getcwd(), os.getppid()])
    time.sleep(options.delay)
    server.serve_forever()


if __name__ == "__main__":
    main()
