"""The benchmark suite: ollamapy against the bare loop, in one run on one machine; prints a table and writes JSON.

    scripts/bench                     everything (about 12 minutes on 2 cores)
    scripts/bench --models 15m        the small model only (2 minutes)
    scripts/bench --against URL       the same HTTP load to another server and to ollamapy, in turns: one that speaks Ollama's API
                                      and has bench-15m and bench-1b, or with --kind llama-server one that was started with the model

The results are ratios, because absolute numbers vary on shared machines. The two sides of a ratio take turns, and the best turn
of each counts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks import bare, constrained, download, models
from benchmarks.load import LlamaServer, Server, free_port, rate_together, words

N_CTX = 2048
N_SLOTS = 8
ANSWER = {True: 160, False: 400}
"""Whether the model is big -> tokens of an answer whose speed is measured: long enough that the first and the last steps, in
which not all streams run, matter little."""

TURNS = 3
MOST = ("decode1", "decode8", "prefill")
"""Rates of the load on a server: of these the most of the turns counts, of its seconds the least."""

LEAST = ("load", "rss", "first8")
"""Measurements whose minimum over the turns counts; of the others the maximum."""

OLLAMAPY = [sys.executable, "-m", "ollamapy"]


def in_child(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run a measurement in a process of its own, so that its memory is freed and its threads end."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def bare_decode(path: str, n_seq: int, steps: int) -> float:
    """Tokens a second of the bare loop for ``n_seq`` sequences in a batch, with the same lengths as over HTTP."""
    loop = bare.Bare(Path(path), n_ctx=N_CTX, n_seq=N_SLOTS, flash=True)
    rates = []
    for _ in range(2):
        for sequence in range(N_SLOTS):
            loop.clear(sequence)
        for sequence in range(n_seq):
            loop.prefill(sequence, 21)
        rates.append(n_seq / statistics.mean(loop.decode(list(range(n_seq)), steps)))
    return max(rates)


def bare_prefill(path: str, n: int) -> dict[str, float]:
    """The bare loop's load seconds, prefill rate over ``n`` tokens and resident bytes."""
    loop = bare.Bare(Path(path), n_ctx=N_CTX, n_seq=N_SLOTS, flash=True)
    loop.prefill(1, 32)  # warm
    rate = n / loop.prefill(0, n)
    return {"load": loop.load_seconds, "prefill": rate, "rss": psutil.Process().memory_info().rss}


class Own:
    """A daemon for the benchmark, with a temporary home and a free port."""

    def __init__(self, store: Path) -> None:
        self._home = tempfile.TemporaryDirectory()
        host = f"127.0.0.1:{free_port()}"
        env = os.environ | {
            "OLLAMAPY_HOME": self._home.name,
            "OLLAMAPY_MODELS": str(store),
            "OLLAMAPY_HOST": host,
            "OLLAMAPY_NUM_PARALLEL": str(N_SLOTS),
        }
        self.process = subprocess.Popen([*OLLAMAPY, "serve"], env=env, stderr=subprocess.DEVNULL)
        self.server = Server(f"http://{host}")
        while True:
            try:
                self.server.get("/api/version")
                return
            except OSError:
                time.sleep(0.05)

    def runner(self) -> psutil.Process:
        """The runner's process."""
        children = psutil.Process(self.process.pid).children()
        return max(children, key=lambda child: child.memory_info().rss)

    def close(self) -> None:
        """Stop the daemon and delete its home."""
        self.process.terminate()
        self.process.wait()
        self._home.cleanup()


def decode_1(server: Server, model: str, big: bool, salt: int) -> float:
    """Tokens a second of one client."""
    return server.stream(model, words(20, salt), ANSWER[big], num_ctx=N_CTX).decode_rate


def decode_8(server: Server, model: str, big: bool, salt: int) -> tuple[float, float]:
    """Tokens a second of eight clients together while all of them decode, and their median seconds to the first token."""
    prompts = [words(20, salt + i) for i in range(8)]
    _, answers = server.streams(model, prompts, ANSWER[big], 8, num_ctx=N_CTX)
    return rate_together(answers), statistics.median(each.first for each in answers)


def prompts_load(server: Server, model: str, big: bool, turn: int = 0) -> dict[str, float]:
    """Long prompts: cold, with a cached prefix, and shared by sixteen requests of eight clients; seconds.

    Each turn has prompts of its own, which a server that stays cannot have cached.
    """
    salt = 1000 * (turn + 1)
    cold = server.stream(model, words(1220, salt), 4, num_ctx=N_CTX)
    out = {"first_cold": cold.first, "prefill": cold.prompt_tokens / cold.first}
    cached = server.stream(model, words(1200, salt) + words(20, salt + 1), 4, num_ctx=N_CTX)
    out["first_cached"] = cached.first
    system = words(600, salt + 2)
    shared = [system + words(20, salt + 10 + i) for i in range(16)]
    out["shared_wall"], _ = server.streams(model, shared, 16, 8, num_ctx=N_CTX)
    n = 8 if big else 16
    separate = [words(620, salt + 100 + i) for i in range(n)]
    wall, _ = server.streams(model, separate, 16, 8, num_ctx=N_CTX)
    out["separate_wall"] = wall * 16 / n
    return out


def http_load(server: Server, model: str, big: bool, turn: int = 0) -> dict[str, float]:
    """The same load for another server."""
    server.load(model, num_ctx=N_CTX)
    server.stream(model, words(20, 99), 8, num_ctx=N_CTX)
    out = {"decode1": max(decode_1(server, model, big, salt) for salt in (1, 2, 3))}
    out["decode8"], out["first8"] = max(decode_8(server, model, big, salt) for salt in (10, 40))
    return out | prompts_load(server, model, big, turn)


def start_up(repeat: int = 7) -> dict[str, float]:
    """Seconds of the command line: nothing running -> first text of tinystories, ``list``, ``--version``."""
    with tempfile.TemporaryDirectory() as home:
        host = f"127.0.0.1:{free_port()}"
        env = os.environ | {"OLLAMAPY_HOME": home, "OLLAMAPY_HOST": host}
        cold, lists = [], []
        for _ in range(repeat):
            began = time.perf_counter()
            daemon = subprocess.Popen(
                [*OLLAMAPY, "serve", "--preload", "tinystories"], env=env, stderr=subprocess.DEVNULL
            )
            # `run` starts a daemon only at the default address, so the daemon and the command are started separately:
            # the command polls until the daemon answers, as it does for one that it started.
            cold.append(first_text(env) - began)
            lists.append(timed([*OLLAMAPY, "list"], env))
            daemon.terminate()
            daemon.wait()
        return {
            "cold_first_text": statistics.median(cold),
            "list": statistics.median(lists),
            "version": statistics.median(
                timed([*OLLAMAPY, "--version"], env) for _ in range(repeat)
            ),
        }


def first_text(env: dict[str, str]) -> float:
    """The time of the first output of ``run tinystories``."""
    while True:
        child = subprocess.Popen(
            [*OLLAMAPY, "run", "tinystories", "Once upon a time"],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert child.stdout is not None
        got = child.stdout.read(1)
        now = time.perf_counter()
        child.kill()
        child.wait()
        child.stdout.close()
        if got:
            return now


def timed(command: list[str], env: dict[str, str]) -> float:
    """Seconds of a whole command."""
    began = time.perf_counter()
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def measure(name: str, path: Path, store: Path) -> dict[str, Any]:
    """One model. The bare loop and ollamapy take turns, so that other load on the machine affects both."""
    big, model, steps = name == "1b", f"bench-{name}", ANSWER[name == "1b"]
    base: dict[str, list[float]] = defaultdict(list)
    ours: dict[str, list[float]] = defaultdict(list)
    own = Own(store)
    server = own.server
    try:
        idle = psutil.Process(own.process.pid).memory_info().rss
        server.load(model, num_ctx=N_CTX)
        server.stream(model, words(20, 99), 8, num_ctx=N_CTX)
        for turn in range(TURNS):
            base["decode1"].append(in_child(bare_decode, str(path), 1, steps))
            ours["decode1"].append(decode_1(server, model, big, turn))
            base["decode8"].append(in_child(bare_decode, str(path), 8, steps))
            rate, first = decode_8(server, model, big, 10 + 10 * turn)
            ours["decode8"].append(rate)
            ours["first8"].append(first)
        prompts = prompts_load(server, model, big)
        runner = own.runner().memory_info().rss
        for turn in range(TURNS):  # idle slots hold the long prompts now
            base["decode1"].append(in_child(bare_decode, str(path), 1, steps))
            ours["idle_full"].append(decode_1(server, model, big, 50 + turn))
        for _ in range(TURNS):
            for key, value in in_child(bare_prefill, str(path), 1220).items():
                base[key].append(value)
            server.unload(model)
            ours["load"].append(server.load(model, num_ctx=N_CTX))
        cold = server.stream(model, words(1220, 4), 4, num_ctx=N_CTX)
        prompts["prefill"] = max(prompts["prefill"], cold.prompt_tokens / cold.first)
    finally:
        own.close()
    return {
        "bare": best(base),
        "ollamapy": best(ours) | prompts | {"daemon_idle": idle, "runner_rss": runner},
        "all": {"bare": base, "ollamapy": ours},
    }


def best(turns: dict[str, list[float]]) -> dict[str, float]:
    """The best turn of each measurement."""
    return {key: (min if key in LEAST else max)(values) for key, values in turns.items()}


def model_table(name: str, got: dict[str, Any]) -> str:
    """The results of ``measure`` for a model, each ratio with its aim."""
    b, o, big = got["bare"], got["ollamapy"], name == "1b"
    aims = (">= 0.97", "<= 0.03") if big else (">= 0.92", "")
    lines = [
        f"bench-{name}",
        row("decode, 1 client", b["decode1"], o["decode1"], "tok/s", aims[0]),
        row("decode, 8 clients", b["decode8"], o["decode8"], "tok/s", ">= 0.95"),
        row("decode, 1 beside full idle slots", b["decode1"], o["idle_full"], "tok/s", ""),
        row("prefill", b["prefill"], o["prefill"], "tok/s", ">= 0.97"),
        row("load", b["load"], o["load"], "s", "<= 1.3"),
        row("first token: cold, cached prefix", o["first_cold"], o["first_cached"], "s", aims[1]),
        row(
            "16 requests: separate, shared prompt",
            o["separate_wall"],
            o["shared_wall"],
            "s",
            "<= 0.3",
        ),
        f"  {'median first token, 8 clients':38}{'':10}{o['first8']:10.3f} s",
        f"  {'runner beyond the bare loop':38}{'':10}{(o['runner_rss'] - b['rss']) / 1e6:10.0f} MB    aim < 35",
        f"  {'daemon, idle':38}{'':10}{o['daemon_idle'] / 1e6:10.0f} MB    aim < 45",
    ]
    return "\n".join(lines)


def start_table(start: dict[str, float]) -> str:
    """The results of ``start_up``."""
    lines = [
        "start-up",
        f"  {'nothing running -> first text':38}{'':10}{start['cold_first_text']:10.3f} s     aim < 0.45",
        f"  {'list':38}{'':10}{start['list']:10.3f} s     aim <= 0.15",
        f"  {'--version':38}{'':10}{start['version']:10.3f} s     aim <= 0.1",
    ]
    return "\n".join(lines)


def against(server: Server, name: str, store: Path) -> dict[str, dict[str, float]]:
    """The load on another server and on ollamapy, in turns; the best turn of each counts."""
    big, model = name == "1b", f"bench-{name}"
    found: dict[str, dict[str, list[float]]] = {
        "theirs": defaultdict(list),
        "ours": defaultdict(list),
    }
    for turn in range(TURNS - 1):
        for who in ("theirs", "ours"):
            own = Own(store) if who == "ours" else None
            try:
                load = http_load(own.server if own else server, model, big, turn)
            finally:
                if own:
                    own.close()
            for key, value in load.items():
                found[who][key].append(value)
    return {
        who: {key: (max if key in MOST else min)(values) for key, values in keys.items()}
        for who, keys in found.items()
    }


def against_table(name: str, url: str, got: dict[str, dict[str, float]]) -> str:
    """What another server and ollamapy did with the load."""
    theirs, ours = got["theirs"], got["ours"]
    return "\n".join(
        [
            f"bench-{name} at {url}, and ollamapy",
            row("decode, 1 client", theirs["decode1"], ours["decode1"], "tok/s", ""),
            row("decode, 8 clients", theirs["decode8"], ours["decode8"], "tok/s", ""),
            row("prefill", theirs["prefill"], ours["prefill"], "tok/s", ""),
            row("first token, 8 clients", theirs["first8"], ours["first8"], "s", ""),
            row("first token, cold", theirs["first_cold"], ours["first_cold"], "s", ""),
            row(
                "first token, cached prefix", theirs["first_cached"], ours["first_cached"], "s", ""
            ),
            row(
                "16 requests, separate prompts",
                theirs["separate_wall"],
                ours["separate_wall"],
                "s",
                "",
            ),
            row("16 requests, shared prompt", theirs["shared_wall"], ours["shared_wall"], "s", ""),
        ]
    )


def form_table(got: dict[str, float]) -> str:
    """The results of ``constrained.py``; the ratio is the median of its turns."""
    lines = ["answers in a form, bench-15m"]
    for clients in ("1", "8"):
        free, form, ratio = (got[key + clients] for key in ("free", "form", "ratio"))
        what = f"free, in a form; clients: {clients}"
        lines.append(f"  {what:38}{free:10.3f}{form:10.3f} {'tok/s':6}{ratio:7.3f}  aim >= 0.9")
    lines.append(f"  {'a first form delays the answer by':38}{'':10}{got['first_later']:10.3f} s")
    return "\n".join(lines)


def row(what: str, base: float, ours: float, unit: str, aim: str) -> str:
    """One line: both sides and their ratio."""
    return f"  {what:38}{base:10.3f}{ours:10.3f} {unit:6}{ours / base:7.3f}" + (
        f"  aim {aim}" if aim else ""
    )


def stored(name: str, store: Path) -> Path:
    """The file of a bench model, which is made and installed where it is missing."""
    files = store / "bench"
    files.mkdir(parents=True, exist_ok=True)
    path = models.make(name, files / f"bench-{name}-{models.RECIPE}.gguf")
    models.install(store, name, path)
    return path


def main() -> None:
    """Run the benchmarks that the arguments select."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="15m,1b", help="the bench models, separated by commas")
    parser.add_argument(
        "--against", metavar="URL", help="another server, which has the bench models"
    )
    parser.add_argument(
        "--kind",
        choices=("ollama", "llama-server"),
        default="ollama",
        help="what --against is: a server with Ollama's API, or a llama-server (%(default)s)",
    )
    parser.add_argument(
        "--store",
        type=Path,
        default=Path(tempfile.gettempdir()) / "ollamapy-bench",
        help="the folder of the bench models (%(default)s)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("benchmarks/results.json"),
        help="the file for the results (%(default)s)",
    )
    parser.add_argument(
        "--no-start", action="store_true", help="skip the start-up of the command line"
    )
    parser.add_argument("--no-downloads", action="store_true", help="skip downloads and lists")
    arguments = parser.parse_args()
    names = [name for name in arguments.models.split(",") if name]
    results: dict[str, Any] = {"cores": os.cpu_count(), "time": time.strftime("%Y-%m-%dT%H:%M:%S")}

    def keep(part: str, got: Any, shown: str) -> None:
        """Print a part's results and write all results so far: a part may take minutes."""
        results[part] = got
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
        print(shown, flush=True)

    if arguments.against:
        kind = LlamaServer if arguments.kind == "llama-server" else Server
        server = kind(arguments.against.rstrip("/"))
        for name in names:
            stored(name, arguments.store)
            load = against(server, name, arguments.store)
            keep(f"bench-{name} at {server.url}", load, against_table(name, server.url, load))
        return
    for name in names:
        path = stored(name, arguments.store)
        got = measure(name, path, arguments.store)
        keep(f"bench-{name}", got, model_table(name, got))
        if name == "15m":  # masks cost most with a fast model
            forms = constrained.measure(path)
            keep("forms", forms, form_table(forms))
    if not arguments.no_start:
        start = start_up()
        keep("start-up", start, start_table(start))
    if not arguments.no_downloads:
        downloads = download.measure()
        keep("downloads", downloads, download.table(downloads))


if __name__ == "__main__":
    main()
