"""What a saved prefix spares: the first token after a restart of the daemon and after a swap of models, and what saving costs.

    python -m benchmarks.prefixes [--turns 3] [--json FILE]        # 10 minutes

SmolLM2 and Gemma 3 270M where ``scripts/judges`` has got them, and the 1.1B bench model. A prompt of 1,500 tokens is read cold, then
again with twenty new tokens from the slot; then the daemon is restarted, or another model takes its place, and it is read again with
one new token (the same prompt: its last token is always computed) and with twenty. Each turn has prompts of its own; the median of
the turns counts. Models are loaded before a time is taken. Saving costs what a load with the cache needs more than without it, the
two in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.load import Server, words
from benchmarks.run import stored
from tests import served
from tests.small_models import install
from tests.test_real_models import GEMMA, SMOLLM2

N_CTX = 2048
SLOTS = 4
PREFIX = 1500  # tokens
served.PATIENCE = 900.0  # a 1.1B model on a busy machine


def places(root: Path, store: Path) -> dict[str, Path]:
    """The models' files by their names."""
    found = {"1b": stored("1b", store)}
    if SMOLLM2.exists():
        found["smollm2"] = SMOLLM2
    if all(part.exists() for part in GEMMA):
        found["gemma3"] = root / "gemma3.gguf"
        found["gemma3"].write_bytes(b"".join(part.read_bytes() for part in GEMMA))
    return found


def installed(root: Path, store: Path) -> list[str]:
    """Put the models into a store, ``models`` below ``root``; their names."""
    files = places(root, store)
    for name, path in files.items():
        install(root / "models", name, path)
    return list(files)


def prompt(server: Server, model: str, salt: int) -> str:
    """A text of about PREFIX tokens; its first words are the salt's."""
    text = words(PREFIX, salt)
    found = server.post("/api/tokenize", {"model": model, "text": text})
    share = PREFIX / len(found["tokens"])
    return "".join(f" {word}" for word in text.split()[: int(PREFIX * share)])


def first(server: Server, model: str, text: str) -> float:
    """Seconds to the first token of an answer; the model is loaded."""
    return server.stream(model, text, 1, num_ctx=N_CTX, temperature=0).first


def turn(home: Path, models: Path, name: str, other: str, salt: int) -> dict[str, float]:
    """The times of one turn, in seconds."""
    found: dict[str, float] = {}
    more = words(20, salt + 1)

    def loaded(daemon: served.Daemon) -> Server:
        server = Server(daemon.url)
        server.load(name, num_ctx=N_CTX)
        server.stream(name, words(20, salt + 2), 2, num_ctx=N_CTX)
        return server

    settings = {"NUM_PARALLEL": str(SLOTS), "MAX_LOADED_MODELS": "1"}
    with served.serve(home, models, **settings) as daemon:
        server = loaded(daemon)
        text = prompt(server, name, salt)
        found["cold"] = first(server, name, text)
        found["slot, 1 new"] = first(server, name, text)
        found["slot, 20 new"] = first(server, name, text + more)
        daemon.end()
    for what, new in (("1 new", ""), ("20 new", more)):
        with served.serve(home, models, **settings) as daemon:
            found[f"restart, {what}"] = first(loaded(daemon), name, text + new)
            daemon.end()
    with served.serve(home, models, **settings) as daemon:
        server = loaded(daemon)
        for what, new in (("1 new", ""), ("20 new", more)):
            server.load(other)
            assert [each["name"] for each in server.get("/api/ps")["models"]] == [f"{other}:latest"]
            server.load(name, num_ctx=N_CTX)
            found[f"swap, {what}"] = first(server, name, text + new)
        daemon.end()
    return found


def throughput(home: Path, models: Path, name: str, salt: int, cache: str) -> float:
    """Seconds for 24 prompts of 300 tokens and 32 tokens of answer each, by four clients."""
    settings = {"NUM_PARALLEL": str(SLOTS), "CACHE": cache}
    with served.serve(home, models, **settings) as daemon:
        server = Server(daemon.url)
        server.load(name, num_ctx=N_CTX)
        server.stream(name, words(20, salt), 2, num_ctx=N_CTX)
        prompts = [words(300, salt + n) for n in range(24)]
        wall, _ = server.streams(name, prompts, 32, SLOTS, num_ctx=N_CTX)
        daemon.end()
    return wall


def measure(name: str, turns: int, models: Path, other: str) -> dict[str, Any]:
    """All figures of one model."""
    times: list[dict[str, float]] = []
    walls: dict[str, list[float]] = {"4GiB": [], "0": []}
    for number in range(turns):
        with tempfile.TemporaryDirectory() as home:
            times.append(turn(Path(home), models, name, other, 100 * (number + 1)))
        for cache, seconds in walls.items():
            with tempfile.TemporaryDirectory() as home:
                salt = 10_000 + 100 * number
                seconds.append(throughput(Path(home), models, name, salt, cache))
    middle = {what: statistics.median(each[what] for each in times) for what in times[0]}
    return {
        "seconds": middle,
        "of cold": {what: seconds / middle["cold"] for what, seconds in middle.items()},
        "saving": min(walls["4GiB"]) / min(walls["0"]),
        "walls": walls,
        "turns": times,
    }


def table(name: str, found: dict[str, Any]) -> str:
    """What was measured, to be read."""
    lines = [f"{name}: seconds to the first token after {PREFIX:,} tokens, and of the cold time"]
    for what, seconds in found["seconds"].items():
        lines.append(f"  {what:20}{seconds:9.4f}{found['of cold'][what]:9.4f}")
    lines.append(f"  a load with saving takes {found['saving']:.3f} of the one without")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--models", default="smollm2,gemma3,1b")
    parser.add_argument(
        "--store", type=Path, default=Path(tempfile.gettempdir()) / "ollamapy-bench"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        there = installed(root, given.store)
        for name in given.models.split(","):
            if name in there:
                other = next(each for each in there if each != name)
                results[name] = measure(name, given.turns, root / "models", other)
                print(table(name, results[name]), flush=True)
                if given.json:
                    given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
