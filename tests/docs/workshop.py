"""Where the blocks of a page are run: a home of its own, a daemon at a port of its own, and a hub on this machine.

The hub has small models under the names that the pages pull. Only addresses of a block are changed before it is run, see
`Workshop.here`: 127.0.0.1:11434 may belong to a developer's daemon.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli.conftest import free_ports
from tests.clients.conftest import ANSWER, CALL, HELLO, THOUGHTS, TOOL_TEMPLATE
from tests.registry.fake_hub import FakeHub
from tests.registry.test_upload import elsewhere
from tests.served import PATIENCE, ROOT, serve, until
from tests.small_models import CHATML, bert_model, install, random_model, scripted_model

CATALOGUE = {
    "llama3.2": ("chat", "bartowski/Llama-3.2-3B-Instruct-GGUF"),
    "qwen3": ("chat", "Qwen/Qwen3-8B-GGUF"),
    "qwen2.5": ("chat", "Qwen/Qwen2.5-7B-Instruct-GGUF"),
    "nomic-embed-text": ("embedding", "nomic-ai/nomic-embed-text-v1.5-GGUF"),
    "bge-reranker-v2-m3": ("rerank", "gpustack/bge-reranker-v2-m3-GGUF"),
}
"""Families that the pages pull -> their use and their repository."""


def make_weights(folder: Path) -> dict[str, Path]:
    """A small model for each family, in one of its tools' forms."""
    return {
        "llama3.2": scripted_model(folder / "llama.gguf", HELLO),
        "qwen3": scripted_model(
            folder / "qwen3.gguf", f"<think>{THOUGHTS}</think>{ANSWER}", chat_template=TOOL_TEMPLATE
        ),
        "qwen2.5": scripted_model(folder / "qwen2.gguf", CALL, chat_template=TOOL_TEMPLATE),
        "nomic-embed-text": bert_model(folder / "vectors.gguf"),
        "bge-reranker-v2-m3": bert_model(folder / "rank.gguf", pooling="RANK"),
        "random": random_model(folder / "random.gguf", dtype="F16", chat_template=CHATML),
    }


def fill(hub: FakeHub, library: Path, weights: dict[str, Path]) -> None:
    """Put the weights into the hub, and into a catalogue that says where."""
    library.mkdir()
    for name, (use, repo) in CATALOGUE.items():
        hub.add_repo(repo, {"model-Q4_K_M.gguf": weights[name].read_bytes()})
        (library / f"{name}.yaml").write_text(
            f"about: a small model for tests\nuse: {use}\ntags:\n"
            f"  small: {{also: [latest], repo: {repo}, file: model-Q4_K_M.gguf}}\n"
        )
    hub.add_repo(
        "bartowski/Llama-3.2-1B-Instruct-GGUF",
        {"Llama-3.2-1B-Instruct-Q4_K_M.gguf": weights["llama3.2"].read_bytes()},
    )


@dataclass(frozen=True)
class Workshop:
    """A folder to run blocks in. ``variables`` are all of their environment.

    ``addresses``: those of the pages -> those of this workshop.
    """

    folder: Path
    variables: Mapping[str, str]
    addresses: Mapping[str, str]

    def here(self, code: str) -> str:
        """A block's code, with the addresses of this workshop."""
        for theirs, ours in self.addresses.items():
            code = code.replace(theirs, ours)
        return code

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command,
            env=self.variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def shell(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run shell code: it ends at the first command that fails."""
        return self.run("bash", "-euo", "pipefail", "-c", self.here(code))

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run Python code."""
        return self.run(sys.executable, "-c", self.here(code))

    def start(self) -> None:
        """Start the daemon, unless it runs."""
        started = self.shell("ollamapy daemon start")
        assert started.returncode == 0, started.stderr

    def serve(self, code: str, patience: float = PATIENCE) -> str:
        """Run a server until it says where it listens, then end it as a service manager does; what it wrote to stderr."""
        log = self.folder / "server.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {self.here(code)}"],
                env=self.variables,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )
        try:
            until(lambda: process.poll() is not None or b"listening at" in log.read_bytes(), code)
            process.send_signal(signal.SIGTERM)
            assert process.wait(patience) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
        return log.read_text()


@contextmanager
def workshop(folder: Path, weights: dict[str, Path]) -> Iterator[Workshop]:
    """A fresh workshop in an empty folder; its daemon ends with it."""
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    hub = FakeHub()
    fill(hub, folder / "library", weights)
    install(home / ".ollama" / "models", "mistral", weights["llama3.2"])
    (work / "weights.gguf").write_bytes(weights["random"].read_bytes())
    [port] = free_ports(1)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OLLAMA", "PYTHON", "XDG_"))}
    path = [str(command(folder)), str(Path(sys.executable).parent), os.environ["PATH"]]
    variables = kept | {
        "HOME": str(home),
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": str(ROOT),
        "OLLAMAPY_HOST": f"127.0.0.1:{port}",
        "OLLAMAPY_LIBRARY": str(folder / "library"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "",
        "HF_HUB_OFFLINE": "",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "http_proxy": "",
        "all_proxy": "",
        "https_proxy": "http://127.0.0.1:9",  # nothing beyond this machine is asked
    }
    other = folder / "other"
    other.mkdir()
    install(other / "models", "llama3.2", weights["llama3.2"])
    with serve(other, other / "models", SERVE_MODELS="1") as daemon, elsewhere() as registry:
        addresses = {
            "127.0.0.1:11434": f"127.0.0.1:{port}",
            "otherhost:11434": f"127.0.0.1:{daemon.port}",
            "localhost:5000": registry.url.removeprefix("http://"),
        }
        made = Workshop(work, variables, addresses)
        try:
            yield made
        finally:
            made.shell("ollamapy daemon stop")
            hub.close()
    assert hub.leaks == []


def command(folder: Path) -> Path:
    """A folder with the command ``ollamapy`` of this checkout."""
    script = folder / "bin" / "ollamapy"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ollamapy "$@"\n')
    script.chmod(0o755)
    return script.parent
