"""The bare loop that ollamapy is compared with: llama.cpp's ctypes layer only.

One process, one thread of Python, no slots, no queue, no text. Its speed is the limit that the hardware and llama.cpp set; the
difference is ollamapy's overhead. ``python -m benchmarks.bare kv`` prints the table of KV cache layouts.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import resource
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Bare:
    """A model and a context. ``unified``: one KV cache for all sequences, else one for each."""

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int,
        n_seq: int = 1,
        unified: bool = False,
        flash: bool = False,
        n_batch: int = 512,
        threads: int = 2,
    ) -> None:
        import llama_cpp.llama_cpp as lib

        self.lib = lib
        began = time.perf_counter()
        self._silent = lib.llama_log_callback(lambda *_: None)
        lib.llama_log_set(self._silent, None)
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.load_mode = lib.LLAMA_LOAD_MODE_NONE
        self.model = lib.llama_model_load_from_file(str(path).encode(), params)
        assert self.model, path
        self.vocab = lib.llama_model_get_vocab(self.model)
        context = lib.llama_context_default_params()
        context.n_ctx, context.n_seq_max = n_ctx * n_seq, n_seq
        context.n_batch = context.n_ubatch = n_batch
        context.n_threads = context.n_threads_batch = threads
        context.kv_unified, context.flash_attn_type = unified, int(flash)
        context.no_perf = True
        self.context = lib.llama_init_from_model(self.model, context)
        assert self.context
        self.load_seconds = time.perf_counter() - began
        self.memory = lib.llama_get_memory(self.context)
        self.batch = lib.llama_batch_init(max(n_batch, n_seq), 0, 1)
        self.n_batch = n_batch
        self.past = [0] * n_seq

    def close(self) -> None:
        """Free everything."""
        self.lib.llama_batch_free(self.batch)
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)

    def chain(self) -> Any:
        """The engine's default sampler chain: top-k 40, top-p 0.9, temperature 0.8, distribution."""
        lib = self.lib
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in (
            lib.llama_sampler_init_top_k(40),
            lib.llama_sampler_init_top_p(0.9, 0),
            lib.llama_sampler_init_temp(0.8),
            lib.llama_sampler_init_dist(7),
        ):
            lib.llama_sampler_chain_add(chain, sampler)
        return chain

    def feed(self, entries: Iterable[tuple[int, int, bool]]) -> None:
        """Decode one batch of (sequence, token, logits wanted)."""
        batch, n = self.batch, 0
        for sequence, token, wanted in entries:
            batch.token[n] = token
            batch.pos[n] = self.past[sequence]
            batch.n_seq_id[n] = 1
            batch.seq_id[n][0] = sequence
            batch.logits[n] = wanted
            self.past[sequence] += 1
            n += 1
        batch.n_tokens = n
        assert self.lib.llama_decode(self.context, batch) == 0

    def clear(self, sequence: int) -> None:
        """Remove the tokens of a sequence."""
        self.lib.llama_memory_seq_rm(self.memory, sequence, -1, -1)
        self.past[sequence] = 0

    def prefill(self, sequence: int, n: int) -> float:
        """Add ``n`` tokens to a sequence; returns the seconds."""
        began = time.perf_counter()
        done = 0
        while done < n:
            part = min(self.n_batch, n - done)
            self.feed(
                (sequence, 300 + (done + i) * 7 % 30_000, done + i == n - 1) for i in range(part)
            )
            done += part
        return time.perf_counter() - began

    def decode(self, sequences: list[int], steps: int) -> list[float]:
        """Sample and decode ``steps`` tokens in each of the sequences, in one batch a step; seconds of each step."""
        sample = self.lib.llama_sampler_sample
        chains = [self.chain() for _ in sequences]
        tokens = [400 + sequence for sequence in sequences]
        took = []
        for _ in range(steps):
            began = time.perf_counter()
            self.feed((s, t, True) for s, t in zip(sequences, tokens, strict=True))
            tokens = [sample(chain, self.context, row) for row, chain in enumerate(chains)]
            took.append(time.perf_counter() - began)
        for chain in chains:
            self.lib.llama_sampler_free(chain)
        return took

    def share(self, n: int) -> None:
        """Share the first ``n`` tokens of sequence 0 with all other sequences."""
        for sequence in range(1, len(self.past)):
            self.lib.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
            self.lib.llama_memory_seq_rm(self.memory, sequence, n, -1)
            self.past[sequence] = n


def rss() -> int:
    """This process's peak resident size, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


CASES = (
    "one short",
    "one long",
    "8 short",
    "8 long",
    "8 sharing 600",
    "1 beside 7 idle",
    "prefill",
    "prefill beside 7 idle",
)


def kv_case(path: Path, case: str, unified: bool, flash: bool, long: int, steps: int) -> float:
    """Milliseconds of a decode step (the median), or of a prefilled token."""
    n_seq = 1 if case in ("one short", "one long", "prefill") else 8
    bare = Bare(path, n_ctx=long + steps + 64, n_seq=n_seq, unified=unified, flash=flash)
    try:
        if case.startswith("prefill"):
            for sequence in range(1, n_seq):
                bare.prefill(sequence, long)
            return bare.prefill(0, 512) / 512 * 1000
        if case == "8 sharing 600":
            bare.prefill(0, 600)
            bare.share(600)
        elif "idle" in case:
            for sequence in range(1, n_seq):
                bare.prefill(sequence, long)
            bare.prefill(0, 32)
        else:
            for sequence in range(n_seq):
                bare.prefill(sequence, long if "long" in case else 32)
        running = [0] if "1 beside" in case else list(range(n_seq))
        return statistics.median(bare.decode(running, steps)[2:]) * 1000
    finally:
        bare.close()


def kv_table(path: Path, long: int, steps: int) -> dict[str, dict[str, float]]:
    """Every layout in every case; each row is printed at once."""
    table: dict[str, dict[str, float]] = {}
    layouts = list(itertools.product((False, True), (False, True)))
    names = [f"{'unified' if u else 'per slot'}{' + FA' if f else ''}" for u, f in layouts]
    print(f"{'ms a step':24}" + "".join(f"{name:>16}" for name in names))
    for case in CASES:
        row = {
            n: kv_case(path, case, u, f, long, steps)
            for n, (u, f) in zip(names, layouts, strict=True)
        }
        table[case] = row
        print(f"{case:24}" + "".join(f"{value:16.2f}" for value in row.values()), flush=True)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["kv"])
    parser.add_argument("model", type=Path)
    parser.add_argument("--long", type=int, default=1000, help="tokens in a long sequence")
    parser.add_argument("--steps", type=int, default=24)
    arguments = parser.parse_args()
    ctypes.CDLL(None)
    print(json.dumps(kv_table(arguments.model, arguments.long, arguments.steps)))
