"""What litellm makes of a daemon; run by the Python that has it, without anything of ours. Prints one JSON object: name -> result.

judge_litellm.py URL TOOL     TOOL is a tool as JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import litellm

URL, TOOL = sys.argv[1], json.loads(sys.argv[2])
HI = [{"role": "user", "content": "Hi"}]
KINDS: dict[str, dict[str, Any]] = {
    "ollama": {"api_base": URL},
    "ollama_chat": {"api_base": URL},
    "openai": {"api_base": f"{URL}/v1", "api_key": "none"},
    "anthropic": {"api_base": URL, "api_key": "none"},
}


def ask(kind: str, model: str, **more: Any) -> Any:
    arguments = {"max_tokens": 60, "messages": HI, "max_retries": 0, **KINDS[kind], **more}
    return litellm.completion(model=f"{kind}/{model}", **arguments)


def text(answer: Any) -> str:
    return str(answer.choices[0].message.content)


def streamed(kind: str) -> str:
    return "".join(
        chunk.choices[0].delta.content or "" for chunk in ask(kind, "hello", stream=True)
    )


def asynced(kind: str) -> list[str]:
    async def run() -> list[str]:
        whole = await litellm.acompletion(
            model=f"{kind}/hello", messages=HI, max_tokens=60, **KINDS[kind]
        )
        pieces = await litellm.acompletion(
            model=f"{kind}/hello", messages=HI, max_tokens=60, stream=True, **KINDS[kind]
        )
        joined = "".join([chunk.choices[0].delta.content or "" async for chunk in pieces])
        return [text(whole), joined]

    return asyncio.run(run())


def tools(kind: str) -> Any:
    [call] = ask(kind, "tool", tools=[TOOL]).choices[0].message.tool_calls
    return [call.function.name, json.loads(call.function.arguments)]


def usage(kind: str) -> list[int]:
    said = ask(kind, "hello").usage
    return [said.prompt_tokens, said.completion_tokens, said.total_tokens]


def failing(kind: str) -> list[str]:
    try:
        ask(kind, "absent")
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["none", ""]


def vectors(model: str, **more: Any) -> list[int]:
    found = litellm.embedding(model=model, input=["a", "b"], **more)
    return [len(each["embedding"]) for each in found.data]


ASKS: dict[str, Callable[[], Any]] = {
    **{f"whole {kind}": lambda kind=kind: text(ask(kind, "hello")) for kind in KINDS},  # type: ignore[misc]
    **{f"stream {kind}": lambda kind=kind: streamed(kind) for kind in KINDS},  # type: ignore[misc]
    **{f"async {kind}": lambda kind=kind: asynced(kind) for kind in KINDS},  # type: ignore[misc]
    **{f"usage {kind}": lambda kind=kind: usage(kind) for kind in KINDS},  # type: ignore[misc]
    **{f"absent {kind}": lambda kind=kind: failing(kind) for kind in KINDS},  # type: ignore[misc]
    **{f"tools {kind}": lambda kind=kind: tools(kind) for kind in KINDS if kind != "ollama"},  # type: ignore[misc]
    "form ollama": lambda: text(ask("ollama", "city", response_format={"type": "json_object"})),
    "form openai": lambda: text(ask("openai", "city", response_format={"type": "json_object"})),
    "thinking": lambda: ask("ollama_chat", "think").choices[0].message.reasoning_content,
    "vectors ollama": lambda: vectors("ollama/vectors", api_base=URL),
    "vectors openai": lambda: vectors("openai/vectors", **KINDS["openai"]),
}

found: dict[str, Any] = {}
for name, work in ASKS.items():
    try:
        found[name] = work()
    except Exception as error:
        found[name] = {"thrown": f"{type(error).__name__}: {error}"}
print(json.dumps(found))
