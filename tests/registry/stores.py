"""Stores for tests: models made through the store itself, later times, what a check finds, work in a child process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock  # noqa: F401  (imported before a child gives up its rights to read files)

from ollamapy.names import Name
from ollamapy.registry import verify
from ollamapy.registry.manifest import (
    CONFIG_TYPE,
    LAYER_PREFIX,
    Layer,
    print_manifest,
)
from ollamapy.registry.store import Store
from ollamapy.registry.verify import Checked
from ollamapy.registry.work import GRACE


def put(store: Store, name: str, weights: bytes = b"weights", config: bytes = b"{}") -> Name:
    """Install a model of two blobs through the store itself."""
    layers = [
        Layer(media_type, store.add_blob(content), len(content))
        for media_type, content in ((CONFIG_TYPE, config), (LAYER_PREFIX + "model", weights))
    ]
    return store.write_manifest(Name.parse(name), print_manifest(layers[0], layers[1:]))


M = Name.parse("m")


def later(store: Store, seconds: float = GRACE + 60) -> Store:
    """The same store after a while."""
    return Store(store.roots, now=lambda: time.time() + seconds)


def check(store: Store, name: Name | None = None) -> list[Checked]:
    return verify.verify(store, name)


def faults(store: Store) -> list[str]:
    return [each.fault for each in check(store) if each.fault]


def weights(store: Store, name: Name = M) -> Path:
    return store.blob_path(store.manifest(name).layers[0].digest)


_FORKING = threading.Lock()
"""filelock refuses a fork while another thread forks."""


def in_child(work: Callable[[], str]) -> tuple[int, str]:
    """Run `work` in a forked process: its exit status as waitpid gives it, and its result."""
    reader, writer = os.pipe()
    with _FORKING:
        child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.write(writer, work().encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        result = pipe.read().decode()
    return os.waitpid(child, 0)[1], result


def steps_until_done(
    tmp_path: Path, before: Path, do: Callable[[Path], None]
) -> Iterator[tuple[int, Path]]:
    """Copies of a store in which a child was killed at its 1st, 2nd... step, until one comes to its end."""
    watched = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"}

    def child(root: Path, last_step: int) -> Callable[[], str]:
        def work() -> str:
            step = 0

            def watch(event: str, arguments: tuple[Any, ...]) -> None:
                nonlocal step
                writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
                if (writes or event in watched) and str(root) in str(arguments[0]):
                    step += 1
                    if step == last_step:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(watch)
            do(root)
            return str(step)

        return work

    status, step = 1, 0
    while status != 0:
        step += 1
        root = tmp_path / str(step)
        shutil.copytree(before, root)
        status, said = in_child(child(root, step))
        assert status in (0, signal.SIGKILL), said
        yield step, root
    assert step > 4


def damage(path: Path, *offsets: int) -> None:
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(b"\0\0\0\0\0\0\0\0")
