"""Benchmarks of downloads and the store: against one connection, against curl, per gigabyte, and with a thousand models.

    python -m benchmarks.download [--size BYTES] [--json FILE]       about a minute; scripts/bench runs it, too

    parallel     8 connections throttled to 20 MB/s each, against one             aim >= 7.5 times as fast
    loopback     unthrottled, against `curl` into a file and then sha256sum       aim >= 0.8 of its rate
    cpu          processor seconds a gigabyte, hashing and writing included       aim <= 2.5
    again        a pull of a stored model: requests, bytes and seconds            aim 1, 0, < 0.3 s
    list         `ollamapy list` with a thousand models in the store              aim < 0.2 s

The server is a process of its own that sends from the page cache (sendfile) and costs the client nothing. Times are of whole
downloads in fresh processes: import, hashing, flushing to the disk and renaming included.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MB, GB = 10**6, 10**9
THROTTLE = 20 * MB
COMMIT = "c" * 40


# The server


def serve(path: str, sha256: str, rate: int, ports: Any, counts: Any) -> None:
    """Serve until killed: a hub's listing of one file, and the file, complete or by ranges, with at most `rate` bytes a second
    for each connection (0: unlimited). `counts` are the requests and the bytes of the file."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    ports.put(listener.getsockname()[1])
    size = os.path.getsize(path)
    lfs = {"sha256": sha256, "size": size, "pointerSize": 134}
    files = [{"rfilename": "m-Q4_0.gguf", "size": size, "blobId": "b" * 40, "lfs": lfs}]
    listing = json.dumps({"id": "user/m", "sha": COMMIT, "siblings": files}).encode()

    def connection(client: socket.socket) -> None:
        file = os.open(path, os.O_RDONLY)
        reader = client.makefile("rb")
        try:
            while request := reader.readline():
                headers = iter(reader.readline, b"\r\n")
                lines = b"".join(headers).decode("latin-1")
                with counts.get_lock():
                    counts[0] += 1
                if b"/api/models/" in request:
                    client.sendall(_head(200, len(listing), "") + listing)
                    continue
                found = re.search(r"(?im)^range: bytes=(\d+)-(\d*)", lines)
                start, end = 0, size
                if found:
                    start, end = int(found[1]), int(found[2] or size - 1) + 1
                    client.sendall(_head(206, end - start, f"bytes {start}-{end - 1}/{size}"))
                else:
                    client.sendall(_head(200, size, ""))
                if not request.startswith(b"HEAD"):
                    with counts.get_lock():
                        counts[1] += end - start
                    send(client, file, start, end, rate)
        except OSError:
            pass  # the client closed the connection
        finally:
            os.close(file)
            client.close()

    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=connection, args=(client,), daemon=True).start()


def _head(status: int, length: int, content_range: str) -> bytes:
    lines = [f"HTTP/1.1 {status} OK", f"Content-Length: {length}", "Accept-Ranges: bytes"]
    lines += [f"Content-Range: {content_range}"] if content_range else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def send(client: socket.socket, file: int, start: int, end: int, rate: int) -> None:
    """Send bytes of a file, at most `rate` a second."""
    began, position = time.monotonic(), start
    while position < end:
        most = min(end - position, 1 << 16 if rate else 1 << 22)
        position += os.sendfile(client.fileno(), file, position, most)
        if rate:
            time.sleep(max(0.0, began + (position - start) / rate - time.monotonic()))


@contextmanager
def served(path: Path, sha256: str, rate: int = 0) -> Iterator[tuple[str, Any]]:
    """A server in a process of its own: its address, and its counts of requests and bytes."""
    context = multiprocessing.get_context("spawn")
    ports, counts = context.Queue(), context.Array("q", 2)
    process = context.Process(target=serve, args=(str(path), sha256, rate, ports, counts))
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get()}", counts
    finally:
        process.kill()
        process.join()


# Measurements


def in_child(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def download(url: str, store: str, connections: int) -> dict[str, float]:
    """A pull of the file without the daemon: seconds, and processor seconds, of listing, fetching and publishing."""
    cpu, began = os.times(), time.perf_counter()
    from ollamapy.registry import hub
    from ollamapy.registry.download import fetch
    from ollamapy.registry.http import Access
    from ollamapy.registry.limits import Limits
    from ollamapy.registry.store import Store

    access = Access(url)
    (file,) = hub.list_files(hub.Repo("user/m"), access).files
    fetch(file, access, Store([Path(store)]), limits=Limits(connections=connections))
    seconds, now = time.perf_counter() - began, os.times()
    return {"seconds": seconds, "cpu": now.user + now.system - cpu.user - cpu.system}


def curl(url: str, target: Path) -> dict[str, float]:
    """The same file with curl, piped to a file, and sha256sum after it."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    address = f"{url}/user/m/resolve/{COMMIT}/m-Q4_0.gguf"
    with target.open("wb") as out:
        subprocess.run(["curl", "-s", address], stdout=out, check=True)
        os.fsync(out.fileno())
    subprocess.run(["sha256sum", str(target)], stdout=subprocess.DEVNULL, check=True)
    seconds, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    target.unlink()
    cpu = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu}


def measure_downloads(folder: Path, size: int, turns: int) -> dict[str, float]:
    """All measurements except the list; the best of `turns`."""
    path = folder / "file"
    block, summed = os.urandom(1 << 20), hashlib.sha256()
    with path.open("wb") as out:
        for start in range(0, size, len(block)):
            chunk = block[: size - start]
            out.write(chunk)
            summed.update(chunk)
    sha256, results = summed.hexdigest(), dict[str, float]()

    def fresh(url: str, connections: int) -> dict[str, float]:
        shutil.rmtree(folder / "store", ignore_errors=True)
        found: dict[str, float] = in_child(download, url, str(folder / "store"), connections)
        return found

    with served(path, sha256) as (url, counts):
        ours, theirs = list[dict[str, float]](), list[dict[str, float]]()
        for _ in range(turns):
            ours.append(fresh(url, 8))
            theirs.append(curl(url, folder / "curl"))
        single = fresh(url, 1)
        results["loopback_rate"] = size / min(each["seconds"] for each in ours)
        results["curl_rate"] = size / min(each["seconds"] for each in theirs)
        results["cpu_per_gb"] = min(each["cpu"] for each in ours) / size * GB
        results["cpu_per_gb_1"] = single["cpu"] / size * GB
        results["curl_cpu_per_gb"] = min(each["cpu"] for each in theirs) / size * GB
        before = list(counts)
        again = in_child(download, url, str(folder / "store"), 8)
        results["again_seconds"] = again["seconds"]
        results["again_requests"] = counts[0] - before[0]
        results["again_bytes"] = counts[1] - before[1]
    # large enough that a download's fixed costs matter little; a tenth of it for one connection
    for name, part, connections in (("parallel_8", 2 * size, 8), ("parallel_1", size // 5, 1)):
        os.truncate(path, part)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with served(path, sha256, THROTTLE) as (url, _):
            results[name] = part / fresh(url, connections)["seconds"]
    return results


def measure_list(folder: Path, count: int = 1000) -> dict[str, float]:
    """Seconds to list a store of so many models, in a fresh process, again in the same process, and with the command.

    The models share one file, with a header as large as real ones; each has a manifest of its own.
    """
    from benchmarks.models import vocabulary
    from ollamapy.formats.writer import Weight, write
    from ollamapy.names import Name
    from ollamapy.registry.manifest import CONFIG_TYPE, LAYER_PREFIX, Layer, print_manifest
    from ollamapy.registry.store import Store

    tokens = vocabulary()
    metadata = {
        "context_length": 4096,
        "embedding_length": 32,
        "block_count": 1,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": [1] * len(tokens),
    }
    weight = Weight("output_norm.weight", (32,), "F32", lambda: [bytes(128)])
    write(folder / "listed.gguf", "llama", metadata, [weight])
    model = (folder / "listed.gguf").read_bytes()
    store, config = Store([folder / "many"]), b'{"model_format":"gguf","model_family":"llama"}'
    blobs = {"model": model, "template": b"{{ .Prompt }}", "license": b"MIT"}
    layers = [
        Layer(LAYER_PREFIX + kind, store.add_blob(blob), len(blob)) for kind, blob in blobs.items()
    ]
    first = Layer(CONFIG_TYPE, store.add_blob(config), len(config))
    for number in range(
        count
    ):  # not through the store, which is slow because it flushes to the disk
        params = json.dumps({"seed": number}).encode()
        digest = f"sha256:{hashlib.sha256(params).hexdigest()}"
        (folder / "many" / "blobs" / digest.replace(":", "-")).write_bytes(params)
        own = Layer(LAYER_PREFIX + "params", digest, len(params))
        path = folder / "many" / "manifests" / Name.parse(f"user{number % 50}/m{number}").path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(print_manifest(first, [*layers, own]))
    found, again = in_child(list_models, str(folder / "many"))
    results = {"list_first": found, "list_again": again}
    [results["list_command_ever"], *_] = list_command(folder, 1)
    [results["list_command_first"], *later] = list_command(folder, 6)
    return results | {"list_command": statistics.median(later)}


def list_command(folder: Path, times: int) -> list[float]:
    """Seconds of `ollamapy list` for that store, so many times after the start of a daemon."""
    from benchmarks.load import free_port

    host = f"127.0.0.1:{free_port()}"
    own = {"OLLAMAPY_HOME": str(folder), "OLLAMAPY_MODELS": str(folder / "many")}
    environment = {**os.environ, **own, "OLLAMAPY_HOST": host}
    ollamapy = [sys.executable, "-m", "ollamapy"]
    quiet: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL}
    daemon = subprocess.Popen([*ollamapy, "serve"], stderr=subprocess.DEVNULL, **quiet)
    try:
        status = [*ollamapy, "daemon", "status"]
        while subprocess.run(status, stderr=subprocess.DEVNULL, **quiet).returncode:
            time.sleep(0.05)
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            subprocess.run([*ollamapy, "list"], check=True, **quiet)
            seconds.append(time.perf_counter() - began)
    finally:
        daemon.terminate()
        daemon.wait()
    return seconds


def list_models(root: str) -> tuple[float, float]:
    """Seconds of the first list and of the second."""
    from ollamapy.registry.store import Store

    store, times = Store([Path(root)]), []
    for _ in range(2):
        began = time.perf_counter()
        assert len(store.models()) == 1000
        times.append(time.perf_counter() - began)
    return times[0], times[1]


def measure(size: int = GB, turns: int = 3) -> dict[str, float]:
    """All measurements, in a temporary directory."""
    with tempfile.TemporaryDirectory() as folder:
        return measure_downloads(Path(folder), size, turns) | measure_list(Path(folder))


def table(found: dict[str, float]) -> str:
    """The results as text, each with its aim."""
    rows = [
        ("8 connections of 20 MB/s against 1", found["parallel_8"] / found["parallel_1"], "times", ">= 7.5"),
        ("loopback against curl and sha256sum", found["loopback_rate"] / found["curl_rate"], "times", ">= 0.8"),
        ("loopback", found["loopback_rate"] / MB, "MB/s", ""),
        ("processor, 8 connections at most", found["cpu_per_gb"], "s/GB", "<= 2.5"),
        ("processor, 1 connection", found["cpu_per_gb_1"], "s/GB", ""),
        ("processor, curl and sha256sum", found["curl_cpu_per_gb"], "s/GB", ""),
        ("second pull", found["again_seconds"], "s", "< 0.3"),
        ("second pull, requests", found["again_requests"], "", "1"),
        ("second pull, bytes of the file", found["again_bytes"], "", "0"),
        ("1,000 models: listed by a new process", found["list_first"], "s", ""),
        ("1,000 models: listed again", found["list_again"], "s", ""),
        ("1,000 models: ollamapy list", found["list_command"], "s", "< 0.2"),
        ("1,000 models: its first after serve", found["list_command_first"], "s", "< 0.2"),
        ("1,000 models: the first of all", found["list_command_ever"], "s", ""),
    ]  # fmt: skip
    lines = [
        f"  {what:38}{value:10.3f} {unit:6}{f'  aim {aim}' if aim else ''}"
        for what, value, unit, aim in rows
    ]
    return "\n".join(["downloads", *lines])


def main() -> None:
    """Measure, print, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=GB, help="bytes of the file")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.size, arguments.turns)
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
