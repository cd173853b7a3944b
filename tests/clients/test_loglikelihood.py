"""lm-evaluation-harness's request for the log likelihood of a choice, and its arithmetic (``local-completions``, 0.4.13).

The harness itself takes 760 MB; what it sends and reads is this.
"""

from __future__ import annotations

from typing import Any

from tests.served import Daemon


def likelihood(choice: dict[str, Any], n_context: int) -> tuple[float, bool]:
    """The harness's ``parse_logprobs``: the last entry, of the one token that is generated, is left out."""
    logprobs = choice["logprobs"]["token_logprobs"][n_context:-1]
    tops = choice["logprobs"]["top_logprobs"][n_context:-1]
    return sum(logprobs), all(p == max(top.values()) for p, top in zip(logprobs, tops, strict=True))


def test_likelihoods_of_choices(judged: Daemon) -> None:
    """The model says its script whatever comes before: its words are certain, all others are not."""

    def tokens(text: str) -> list[int]:
        body = {"model": "hello", "text": text, "add_special": False}
        found: list[int] = judged.ask("POST", "/api/tokenize", body).json()["tokens"]
        return found

    context, wrong = tokens("Hi"), tokens("z")
    asked = {"model": "hello", "prompt": context + wrong, "max_tokens": 1, "prompt_logprobs": 1}
    measured = judged.ask("POST", "/v1/completions", asked).json()["choices"][0]
    place = measured["prompt_logprobs"][len(context)]
    (right,) = (int(id) for id, token in place.items() if token["rank"] == 1)
    prompts = [[*context, right], context + wrong]
    body = {
        "model": "hello", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True,
    }  # fmt: skip
    for _ in range(2):  # the second time all of it is in the cache
        choices = judged.ask("POST", "/v1/completions", body).json()["choices"]
        sizes = [len(choice["logprobs"]["token_logprobs"]) for choice in choices]
        assert sizes == [len(prompt) + 1 for prompt in prompts]
        (one, is_greedy), (other, other_is) = (likelihood(c, len(context)) for c in choices)
        assert one > -0.01 and is_greedy
        assert other < -5 and not other_is
