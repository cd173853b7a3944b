"""One prompt and its answer, as ``run`` asks and prints them: a text, or the vector of an embedding model. The chat is repl.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import OllamapyError
from . import media, terminal
from .client import AnsweredError, Client, Unreachable
from .session import is_base
from .thoughts import Thoughts

NOTHING_TO_EMBED = 'embedding models require input text. Usage: ollamapy run NAME "your text here"'


def prompt(words: Sequence[str]) -> str:
    """stdin, unless it is a terminal, then the arguments; bytes that are not UTF-8 become U+FFFD."""
    parts = [word.encode(errors="surrogateescape").decode(errors="replace") for word in words]
    if not sys.stdin.isatty():
        piped = sys.stdin.buffer.read().decode(errors="replace")
        parts = [piped, *parts] if piped else parts
    return " ".join(parts)


def print_answer(
    client: Client, body: Mapping[str, Any], *, wrap: bool, thoughts: Thoughts
) -> dict[str, Any]:
    """Stream an answer to stdout; returns its last chunk. On a terminal: without control characters, wrapped, and after the prompt that it continues."""
    body = _with_files(client, body)
    out = sys.stdout
    on_terminal = out.isatty()
    wrapping = terminal.Wrap(terminal.columns) if wrap and terminal.has_cursor(out) else None

    def put(text: str, style: Callable[[str], str] = str) -> None:
        text = terminal.printable(text) if on_terminal else text
        out.write(style(wrapping.feed(text) if wrapping else text))
        out.flush()

    stream = client.generate(body)
    faint = terminal.dim if terminal.has_colour(out) else str
    spinner = terminal.Spinner(f"loading {body['model']}")
    written, final = False, dict[str, Any]()
    try:
        with spinner:
            opening = _opening(client, body) if on_terminal and body["prompt"] else ""
            for chunk in stream:
                for text, is_thought in thoughts.pieces(
                    chunk.get("thinking") or "", chunk.get("response") or ""
                ):
                    spinner.stop()
                    if opening:
                        put(opening, faint)
                    put(text, faint if is_thought else str)
                    opening, written = "", True
                final = chunk
    except BaseException:
        if written and on_terminal:
            out.write("\n")
        raise
    finally:
        stream.close()
    if body["prompt"]:
        out.write("\n\n")
        out.flush()
    return final


def _with_files(client: Client, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request, with the files that its prompt names attached if the model takes images or audio."""
    if not media.names_files(body["prompt"]) or not media.perceives(client.show(body["model"])):
        return body
    text, files, notes = media.attach(body["prompt"])
    for note in notes:
        terminal.remark(note)
    return {**body, "prompt": text, "images": list(files)}


def _opening(client: Client, body: Mapping[str, Any]) -> str:
    """The prompt, if the model has no chat template and so goes on writing it."""
    try:
        return str(body["prompt"]) if is_base(client.show(body["model"])) else ""
    except (AnsweredError, Unreachable):
        return ""  # the answer itself reports the error


def only_embeds(error: AnsweredError) -> bool:
    """Is it the answer of a model that makes vectors and no text?"""
    text = str(error)
    return error.status == 400 and text.endswith(("does not support generate", "support chat"))


def print_embedding(
    client: Client, body: Mapping[str, Any], truncate: bool | None, dimensions: int | None
) -> None:
    """The vector of the prompt, as JSON in a line."""
    prompt = body["prompt"]
    if not prompt:
        raise OllamapyError(NOTHING_TO_EMBED)
    request: dict[str, Any] = {"model": body["model"], "input": prompt}
    if "keep_alive" in body:
        request["keep_alive"] = body["keep_alive"]
    if truncate is not None:
        request["truncate"] = truncate
    if dimensions is not None:
        request["dimensions"] = dimensions
    [vector] = client.embed(request)["embeddings"]
    print(json.dumps(vector, separators=(",", ":")))
