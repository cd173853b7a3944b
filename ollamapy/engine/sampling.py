"""From a request's sampling settings to an ordered list of llama.cpp samplers.

Pure: the list is built here, the C objects in ``engine/llama.py``. The order is llama-server's, which is what Ollama runs, so
that the same seed and settings give the same text: logit bias, penalties, top-k, typical, top-p, min-p, temperature, distribution.
A stage that would change nothing is left out; llama.cpp's own versions of these stages return at once in that case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..types import Sampling

RANDOM_SEED = 0xFFFFFFFF
"""llama.cpp's LLAMA_DEFAULT_SEED: the distribution sampler draws a seed by itself."""

HOPELESS = 1e-30
"""A probability, beside the likeliest token's, with which no token is ever drawn."""

MOST_BIAS = 1e6
"""Beyond it a bias means never, or always; finite, so that a bias and a mask together are still a number."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One sampler: ``llama_sampler_init_<kind>`` called with ``arguments``; of the kind "logit_bias", with ``biases``."""

    kind: str
    arguments: tuple[float | int, ...] = ()
    biases: tuple[tuple[int, float], ...] = ()


def sampler_chain(
    sampling: Sampling,
    n_ctx: int,
    logit_bias: tuple[tuple[int, float], ...] = (),
    *,
    masked: bool = False,
) -> list[Stage]:
    """The stages in order; ``repeat_last_n`` -1 looks back over the whole context of ``n_ctx`` tokens.

    ``masked``: some logits may be minus infinity. Typical sampling cannot bear that (0 times log 0), so what is beyond all
    hope is taken out before it.
    """
    stages = []
    if logit_bias:
        biases = tuple((token, max(-MOST_BIAS, min(bias, MOST_BIAS))) for token, bias in logit_bias)
        stages.append(Stage("logit_bias", biases=biases))
    if window := penalty_window(sampling, n_ctx):
        stages.append(
            Stage(
                "penalties",
                (
                    window,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                ),
            )
        )
    if sampling.temperature <= 0:
        return [*stages, Stage("greedy")]
    if sampling.top_k > 0:
        stages.append(Stage("top_k", (sampling.top_k,)))
    if sampling.typical_p < 1:
        if masked:
            stages.append(Stage("min_p", (HOPELESS, 0)))
        stages.append(Stage("typical", (sampling.typical_p, 0)))
    if sampling.top_p < 1:
        stages.append(Stage("top_p", (sampling.top_p, 0)))
    if sampling.min_p > 0:
        stages.append(Stage("min_p", (sampling.min_p, 0)))
    if sampling.temperature != 1:
        stages.append(Stage("temp", (sampling.temperature,)))
    return [*stages, Stage("dist", (sampling.seed & RANDOM_SEED,))]


def penalty_window(sampling: Sampling, n_ctx: int) -> int:
    """How many of the latest tokens the penalties look at; 0 when there is no penalty."""
    if (
        sampling.repeat_penalty == 1
        and sampling.frequency_penalty == 0
        and sampling.presence_penalty == 0
    ):
        return 0
    return n_ctx if sampling.repeat_last_n < 0 else min(sampling.repeat_last_n, n_ctx)


def penalized_history(sampling: Sampling, tokens: Sequence[int], n_ctx: int) -> Sequence[int]:
    """The tail of the prompt that a new chain must have seen before its first token, but for what stands for images."""
    window = penalty_window(sampling, n_ctx)
    return [token for token in tokens[-window:] if token >= 0] if window else ()
