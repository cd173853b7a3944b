"""What a loaded model takes at rest, and what eight clients wait when they come to it then.

    python -m benchmarks.rest [--json FILE]        # 3 minutes

SmolLM2 where ``scripts/judges`` has got it, and the 1.1B bench model. Memory is the resident memory of the runner after one short
answer, with the settings of Ollama's default (one slot of 4,096 tokens) and with ours. Eight clients ask at once, twice: the first
time the model is at rest, the second time it has all its slots.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.load import Server, words
from benchmarks.prefixes import installed
from tests import served

CLIENTS = 8
ONE_SLOT = {"NUM_PARALLEL": "1", "CONTEXT_LENGTH": "4096"}
served.PATIENCE = 900.0  # a 1.1B model on a busy machine


def resident(daemon: served.Daemon) -> int:
    """Bytes of memory that the runner has."""
    [runner] = daemon.runners()
    return int(runner.memory_info().rss)


def eight(server: Server, name: str, salt: int) -> float:
    """Seconds until eight clients that ask at once have their answers of 32 tokens to 60."""
    prompts = [words(60, salt + n) for n in range(CLIENTS)]
    wall, _ = server.streams(name, prompts, 32, CLIENTS)
    return wall


def measure(name: str, models: Path, settings: dict[str, str], *, clients: bool) -> dict[str, Any]:
    """Memory, the seconds of the load, and where they are wanted those of the clients."""
    with (
        tempfile.TemporaryDirectory() as home,
        served.serve(Path(home), models, **settings) as daemon,
    ):
        server = Server(daemon.url)
        began = time.perf_counter()
        server.stream(name, words(20), 2)
        found: dict[str, Any] = {"load": time.perf_counter() - began, "at rest": resident(daemon)}
        if clients:
            found["from rest"] = eight(server, name, 100)
            found["again"] = eight(server, name, 200)
            found["grown"] = resident(daemon)
        daemon.end()
    return found


def main() -> None:
    """Measure, print, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--store", type=Path, default=Path(tempfile.gettempdir()) / "ollamapy-bench"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in installed(root, given.store):
            one = measure(name, root / "models", ONE_SLOT, clients=False)
            ours = measure(name, root / "models", {}, clients=True)
            ratio = ours["at rest"] / one["at rest"]
            results[name] = {"one slot": one, "ours": ours, "ratio": ratio}
            print(
                f"{name}: {ours['at rest'] / 1e6:.0f} MB at rest, {ratio:.2f} of one slot's;"
                f" {ours['grown'] / 1e6:.0f} MB with all slots; {CLIENTS} clients"
                f" {ours['from rest']:.1f} s, again {ours['again']:.1f} s",
                flush=True,
            )
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
