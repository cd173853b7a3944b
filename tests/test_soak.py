"""Many at once, and things that are killed at random: nothing is lost, nothing is mixed, nothing stays behind.

Short rounds by default. For the real thing: ``scripts/test tests/test_soak.py --soak 60`` runs sixty times as long (minutes of
500 streams, some 200 kills).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from tests.served import Daemon, serve, until

pytestmark = [pytest.mark.llama, pytest.mark.long, pytest.mark.soak, pytest.mark.timeout(7200)]

PROMPTS = [f"{a} {b}" for a in ("ba", "ke", "li", "mo", "ra") for b in ("zu", "is", "or", "el")]
GREEDY = {"temperature": 0, "num_predict": 16}
STREAMS, QUEUED = 500, 512


def body(prompt: str) -> dict[str, object]:
    return {"model": "plain", "prompt": prompt, "options": GREEDY}


def expected(daemon: Daemon) -> dict[str, str]:
    """What each prompt is answered when it is alone: an F32 model says the same among others."""
    return {p: daemon.generate("plain", p, options=GREEDY).json()["response"] for p in PROMPTS}


def raise_file_limit() -> None:
    """A thousand connections are a thousand files."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))


async def stream(client: httpx.AsyncClient, daemon: Daemon, prompt: str, leave: bool) -> str | None:
    """The text of a whole stream; None for who left before its end; "busy" for who was turned away."""
    async with client.stream("POST", f"{daemon.url}/api/generate", json=body(prompt)) as response:
        if response.status_code == 503:
            assert response.headers["retry-after"]
            return "busy"
        assert response.status_code == 200
        text, done = "", 0
        async for line in response.aiter_lines():
            if leave:
                return None
            chunk = json.loads(line)
            assert "error" not in chunk, chunk
            text += chunk["response"]
            done += chunk["done"]
        assert done == 1, "exactly one ending"
        return text


async def wave(daemon: Daemon, want: dict[str, str], rng: random.Random) -> Counter[str]:
    """As many as can stream and wait, at once; one in five leaves after its first line."""
    outcomes: Counter[str] = Counter()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:

        async def one(prompt: str, leave: bool) -> None:
            text = await stream(client, daemon, prompt, leave)
            if text is None or text == "busy":
                outcomes["left" if text is None else "busy"] += 1
            else:
                assert text == want[prompt], "mixed up with another"
                outcomes["whole"] += 1

        await asyncio.gather(
            *(one(rng.choice(PROMPTS), rng.random() < 0.2) for _ in range(STREAMS + QUEUED))
        )
    return outcomes


def resident(daemon: Daemon) -> int:
    """Bytes of the daemon and its runner."""
    family = [psutil.Process(daemon.process.pid), *daemon.runners()]
    return sum(process.memory_info().rss for process in family)


def test_a_thousand_at_once_lose_and_mix_nothing(
    tmp_path: Path, model_store: Path, soak: int
) -> None:
    raise_file_limit()
    rng = random.Random(1)
    with serve(tmp_path, model_store, NUM_PARALLEL=str(STREAMS // 2)) as daemon:
        want = expected(daemon)
        asyncio.run(wave(daemon, want, rng))
        before = resident(daemon)
        end = time.monotonic() + 4 * soak
        waves = 0
        while not waves or time.monotonic() < end:
            outcomes = asyncio.run(wave(daemon, want, rng))
            assert outcomes["busy"] == 0 and outcomes["whole"] > 0.7 * (STREAMS + QUEUED)
            waves += 1
        until(lambda: daemon.busy() == 0, "all leases are given back")
        assert resident(daemon) < before + 30e6, "memory is flat"


def test_requests_beyond_the_queue_get_a_503(tmp_path: Path, model_store: Path) -> None:
    raise_file_limit()
    with serve(tmp_path, model_store, NUM_PARALLEL="4", MAX_QUEUE="16") as daemon:
        want = expected(daemon)
        outcomes = asyncio.run(wave(daemon, want, random.Random(2)))
        assert outcomes["busy"] > 500 and outcomes["whole"] > 8
        assert (
            daemon.generate("plain", PROMPTS[0], options=GREEDY).json()["response"]
            == want[PROMPTS[0]]
        )


def test_slow_readers_delay_no_other(tmp_path: Path, model_store: Path) -> None:
    """Eight that read nothing of long answers take every slot; others still get theirs."""
    with serve(tmp_path, model_store, NUM_PARALLEL="12") as daemon:
        long = {"model": "long", "prompt": "Hi", "options": {"temperature": 0, "num_predict": 4000}}
        slow = [daemon.open("POST", "/api/generate", long) for _ in range(8)]
        until(lambda: daemon.busy() == 8, "they have begun")
        quick = daemon.generate("long", options={"num_predict": 5}).json()
        assert quick["eval_count"] == 5
        for answer in slow:
            answer.leave()
        until(lambda: daemon.busy() == 0, "who left is forgotten")


async def ending(daemon: Daemon, prompt: str) -> str:
    """How a stream ended: "done", "error" (said), "refused" (no connection) or "cut" (the daemon was killed)."""
    try:
        async with httpx.AsyncClient(timeout=60) as client:
            long = {"model": "long", "prompt": prompt, "options": {"num_predict": 400}}
            async with client.stream("POST", f"{daemon.url}/api/generate", json=long) as response:
                last: dict[str, object] = {}
                async for line in response.aiter_lines():
                    assert "error" not in last and not last.get("done"), "something after the end"
                    last = json.loads(line)
                if "error" in last:
                    return "error"
                return "done" if last.get("done") else "cut"
    except httpx.ConnectError:
        return "refused"
    except httpx.TransportError:
        return "cut"


@pytest.mark.parametrize("victim", ["runner", "daemon"])
def test_kills_at_random_points(tmp_path: Path, model_store: Path, soak: int, victim: str) -> None:
    rng = random.Random(victim)
    listed = None
    for number in range(max(4 * soak // 2, 4)):
        home = tmp_path / str(number)
        home.mkdir()
        with serve(home, model_store) as daemon:

            async def round_() -> list[str]:
                asked = [asyncio.ensure_future(ending(daemon, f"{i} ba")) for i in range(6)]
                await asyncio.sleep(rng.random() * 0.8)
                if victim == "daemon":
                    daemon.process.kill()
                elif runners := daemon.runners():
                    os.kill(runners[0].pid, rng.choice([signal.SIGKILL, signal.SIGSEGV]))
                return await asyncio.gather(*asked)

            family = daemon.children()
            endings = asyncio.run(round_())
            allowed = {"done", "error"} | ({"cut", "refused"} if victim == "daemon" else set())
            assert set(endings) <= allowed, endings
            if victim == "daemon":
                daemon.process.wait()
                family += [p for p in daemon.children() if p not in family]
                _, left = psutil.wait_procs(family, timeout=60)
                assert not left, "orphans"
            else:
                until(lambda: daemon.busy() == 0, "all leases are given back")
                names = sorted(m["name"] for m in daemon.ask("GET", "/api/tags").json()["models"])
                assert listed in (None, names)
                listed = names
                assert daemon.generate("hello").json()["done"]
