"""Train the built-in model: a small Llama on generated stories, on a CPU.

`Model` is the architecture (RMSNorm, rotary positions on neighbouring pairs, SwiGLU, tied embeddings), `corpus`
the packed token stream, `train` the loop with checkpoints. Matrices are trained with Muon, the rest with AdamW.
Not here: export (`export.py`) and judging samples (`evaluate.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.judge import names_in, sentences
from training.stories import story

BUILD = Path(__file__).parent / "build"
VALIDATION_SEED = 50_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions: all multiples of 32, as Q8_0 blocks want them."""

    dim: int = 192
    hidden: int = 512
    layers: int = 6
    heads: int = 3
    kv_heads: int = 3
    vocabulary: int = 2816
    context: int = 1024

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


class RMSNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)
        return (x.float() * scale).to(x.dtype) * self.weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on pairs (2i, 2i+1), the order of llama2.c and of GGUF's `llama`. x: (B, T, H, head_dim)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention, each (B, H, T, head_dim). For short rows plain products beat PyTorch's fused kernel on a CPU."""
    length = q.shape[2]
    if length > 256:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    return scores.float().masked_fill(hidden, -math.inf).softmax(-1).to(q.dtype) @ v


class Block(nn.Module):
    """One layer. Names of the weights are llama2.c's."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_dim = shape.kv_heads * shape.head_dim
        self.attention_norm = RMSNorm(shape.dim)
        self.wq = nn.Linear(shape.dim, shape.dim, bias=False)
        self.wk = nn.Linear(shape.dim, kv_dim, bias=False)
        self.wv = nn.Linear(shape.dim, kv_dim, bias=False)
        self.wo = nn.Linear(shape.dim, shape.dim, bias=False)
        self.ffn_norm = RMSNorm(shape.dim)
        self.w1 = nn.Linear(shape.dim, shape.hidden, bias=False)
        self.w2 = nn.Linear(shape.hidden, shape.dim, bias=False)
        self.w3 = nn.Linear(shape.dim, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, dim = x.shape
        size = self.shape.head_dim
        normed = self.attention_norm(x)
        q = rotate(self.wq(normed).view(batch, length, -1, size), cos, sin).transpose(1, 2)
        k = rotate(self.wk(normed).view(batch, length, -1, size), cos, sin).transpose(1, 2)
        v = self.wv(normed).view(batch, length, -1, size).transpose(1, 2)
        y = attention(q, k, v)
        x = x + self.wo(y.transpose(1, 2).reshape(batch, length, dim))
        normed = self.ffn_norm(x)
        return x + self.w2(F.silu(self.w1(normed)) * self.w3(normed))


class Model(nn.Module):
    """tokens (B, T) -> logits (B, T, vocabulary); the output matrix is the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.dim)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.dim)
        frequencies = 10000.0 ** (-torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
        angles = torch.outer(torch.arange(shape.context).float(), frequencies)
        self.register_buffer("cos", angles.cos()[:, None], persistent=False)
        self.register_buffer("sin", angles.sin()[:, None], persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                scale = (
                    0.02 / math.sqrt(2 * shape.layers)
                    if name.endswith(("wo.weight", "w2.weight"))
                    else 0.02
                )
                nn.init.normal_(weight, std=scale)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.embedding(tokens)
        cos, sin = self.cos[:length].to(x.dtype), self.sin[:length].to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embedding.weight)


def loss_of(model: nn.Module, rows: Tensor) -> Tensor:
    """Mean cross entropy in nats of the next token; rows: (B, 2, T + 1), tokens and what is learned."""
    logits = model(rows[:, 0, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1, 1:].flatten())


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by five Newton-Schulz steps (Keller Jordan, 2024)."""

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                alike.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in alike.items():
                gradients = torch.stack([parameter.grad for parameter in parameters])
                state = self.state[parameters[0]]
                buffer = state.setdefault("momentum", torch.zeros_like(gradients))
                buffer.lerp_(gradients, 1 - group["momentum"])
                updates = orthogonal(gradients.lerp(buffer, group["momentum"]))
                scale = 0.2 * math.sqrt(max(shape))
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["decay"])
                    parameter.add_(update, alpha=-group["lr"] * scale)


def orthogonal(gradients: Tensor) -> Tensor:
    """The nearest orthogonal matrices, roughly. gradients: (N, rows, columns)."""
    x = gradients.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).to(gradients.dtype)


Reader = sentencepiece.SentencePieceProcessor
UNLEARNED = -100  # cross_entropy skips these


def corpus(first_seed: int, count: int, name: str, openings: bool = False) -> np.ndarray:
    """`count` stories as one stream, each `<s> story </s>`: tokens and what is learned of them, (2, N) int16.

    With `openings`, a third of the stories begin with words that are read but not learned; see `odd_opening`.
    """
    path = BUILD / f"{name}-{count}.npy"
    if path.exists():
        return np.load(path)
    tokenizer = Reader(model_file=str(BUILD / "tokenizer.model"))
    sentencepiece.set_random_generator_seed(1)
    rng = random.Random(1)
    tokens: list[int] = []
    learned: list[int] = []
    for seed in range(first_seed, first_seed + count):
        text = story(seed)
        before: list[int] = []
        if openings and rng.random() < 0.35:
            before, text = odd_opening(tokenizer, text, rng)
        # Text that goes on brings its own blank; the tokenizer would put another one before it.
        after = tokenizer.encode(text.removeprefix(" ") if before else text)
        tokens += [tokenizer.bos_id(), *before, *after, tokenizer.eos_id()]
        learned += [tokenizer.bos_id(), *[UNLEARNED] * len(before), *after, tokenizer.eos_id()]
    stream = np.array([tokens, learned], dtype=np.int16)
    np.save(path, stream)
    return stream


def odd_opening(tokenizer: Reader, text: str, rng: random.Random) -> tuple[list[int], str]:
    """Words to begin with, cut into unusual pieces, and the text that goes on from them.

    A user's words are not the grammar's, and their tokens not the usual ones. Half of these openings are the first
    words of the story itself, half those of a sentence from the middle of another one.
    """
    if rng.random() < 0.6:
        other = [s for s in sentences(story(rng.randrange(40_000)))[2:] if not names_in([s])]
        text = f"{rng.choice(other or ['Hello.'])} {text}"
    words = text.split(" ")
    cut = " ".join(words[: rng.randint(1, 6)])
    return tokenizer.encode(cut, enable_sampling=True, alpha=0.15), text[len(cut) :]


def rows_of(stream: np.ndarray, length: int, generator: np.random.Generator) -> np.ndarray:
    """A row of length + 1 for each story: it begins there and goes on into the next ones. (rows, 2, length + 1)"""
    starts = np.flatnonzero(stream[0] == 1)
    starts = starts[starts + length + 1 <= stream.shape[1]]
    index = generator.permutation(starts)[:, None] + np.arange(length + 1)
    return stream[:, index].transpose(1, 0, 2)


def save(path: Path, model: Model, step: int, loss: float) -> None:
    """Write a checkpoint beside its place and move it there."""
    temporary = path.with_suffix(".tmp")
    torch.save(
        {"shape": asdict(model.shape), "weights": model.state_dict(), "step": step, "loss": loss},
        temporary,
    )
    os.replace(temporary, path)


def train(arguments: argparse.Namespace) -> None:
    """Train for `minutes` of wall clock: the learning rate falls with time, so it always ends well."""
    torch.manual_seed(1)
    torch.set_num_threads(arguments.threads)
    generator = np.random.default_rng(1)
    model = Model(Shape())
    if arguments.resume:
        model.load_state_dict(torch.load(arguments.resume)["weights"])
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    tokens = corpus(0, arguments.stories, arguments.name, arguments.openings)
    held_out = corpus(VALIDATION_SEED, 400, "validation")
    print(
        f"{tokens.shape[1]:,} tokens of training, {held_out.shape[1]:,} of validation", flush=True
    )
    validation = torch.from_numpy(
        rows_of(held_out, 512, np.random.default_rng(2)).astype(np.int64)
    )[:200]

    matrices = [p for n, p in model.layers.named_parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    muon = Muon(matrices, lr=arguments.rate)
    adam = torch.optim.AdamW(others, lr=arguments.rate, betas=(0.9, 0.95), weight_decay=0.0)
    loss_in = torch.compile(loss_of, dynamic=False) if arguments.compile else loss_of

    began, step, seen, average = time.monotonic(), 0, 0, 0.0
    saved = reported = began
    rows, at, length = np.zeros((0, 0)), 0, 0
    while True:
        # 1) How far are we? Time decides. Most of it runs with short rows, which are fast; the end with rows
        # as long as the context, so that the model knows these positions, too.
        elapsed = time.monotonic() - began
        progress = elapsed / (arguments.minutes * 60)
        if progress >= 1:
            break
        wanted = 256 if progress < 0.78 else 512 if progress < 0.93 else 1024
        batch = arguments.batch // wanted
        # 2) The next rows; a new order for each pass.
        if wanted != length or at + batch > len(rows):
            rows, at, length = rows_of(tokens, wanted, generator), 0, wanted
        chunk = torch.from_numpy(rows[at : at + batch].astype(np.int64))
        at += batch
        # 3) One step.
        warm = min(1.0, (step + 1) / 100)
        fall = 1.0 if progress < 0.3 else max(0.02, (1 - progress) / 0.7)
        for optimizer in (muon, adam):
            for group in optimizer.param_groups:
                group["lr"] = arguments.rate * warm * fall
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_in(model, chunk)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in (muon, adam):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + chunk.shape[0] * length
        average = loss.item() if step == 1 else 0.95 * average + 0.05 * loss.item()
        # 4) Tell and keep.
        now = time.monotonic()
        if now - reported > 15:
            reported = now
            print(
                f"{now - began:6.0f} s  step {step:5d}  loss {average:.4f}  {seen / (now - began):,.0f} tokens/s",
                flush=True,
            )
        if now - saved > arguments.save_every:
            saved = now
            save(BUILD / f"{arguments.name}.pt", model, step, average)
    final = measure(model, validation)
    save(BUILD / f"{arguments.name}.pt", model, step, final)
    summary = {
        "steps": step,
        "tokens": seen,
        "train_loss": average,
        "validation_loss": final,
        "minutes": arguments.minutes,
    }
    (BUILD / f"{arguments.name}.json").write_text(json.dumps(summary, indent=1))
    print(f"validation loss {final:.4f} after {step} steps, {seen:,} tokens", flush=True)


@torch.no_grad()
def measure(model: Model, rows: Tensor) -> float:
    """Mean loss in nats per token over the rows, in float32."""
    return float(np.mean([loss_of(model, part).item() for part in rows.split(8)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=55)
    parser.add_argument("--stories", type=int, default=40_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4096, help="tokens per step")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--save-every", type=float, default=120, help="seconds")
    parser.add_argument("--name", default="model")
    parser.add_argument("--resume", default="", help="a checkpoint to continue from")
    parser.add_argument(
        "--openings", action="store_true", help="learn to continue unusual openings"
    )
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args())
