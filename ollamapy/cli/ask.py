"""One prompt and its answer, as ``run`` asks and prints them: a text, or the vector of an embedding model. The chat is repl.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import OllamapyError
from . import media, terminal, waiting
from .client import AnsweredError, Client, Unreachable
from .repeats import Repeats
from .screen import open_screen
from .session import is_base, only_embeds
from .thoughts import Thoughts

NOTHING_TO_EMBED = 'embedding models require input text. Usage: ollamapy run NAME "your text here"'


def prompt(words: Sequence[str]) -> str:
    """stdin, unless it is a terminal, then the arguments; bytes that are not UTF-8 become U+FFFD."""
    parts = [word.encode(errors="surrogateescape").decode(errors="replace") for word in words]
    if not sys.stdin.isatty():
        piped = sys.stdin.buffer.read().decode(errors="replace")
        parts = [piped, *parts] if piped else parts
    return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Look:
    """How an answer is shown: ``wraps`` breaks lines at words, ``draws`` shows markdown; both on a terminal alone."""

    wraps: bool = True
    draws: bool = True
    hides_thinking: bool = False


def print_answer(client: Client, body: Mapping[str, Any], look: Look) -> dict[str, Any]:
    """Stream an answer to stdout; returns its last chunk. On a terminal: without control characters, and after the prompt that it
    continues. An answer that only repeats itself is ended, unless ``num_predict`` is given."""
    body = _with_files(client, body)
    on_terminal = sys.stdout.isatty()
    bounded = "num_predict" not in body.get("options", ())
    repeats, thoughts = Repeats(), Thoughts(look.hides_thinking)
    stream = client.generate(waiting.asking(body))
    spinner = terminal.Spinner(f"loading {body['model']}")
    written, final = False, dict[str, Any]()
    try:
        with spinner:
            opening = _opening(client, body) if on_terminal and body["prompt"] else ""
            draws = look.draws and not opening and "format" not in body
            screen = open_screen(draws=draws, wraps=look.wraps)
            for chunk in stream:
                waiting.show(chunk, body["model"], spinner)
                for text, is_thought in thoughts.pieces(
                    chunk.get("thinking") or "", chunk.get("response") or ""
                ):
                    spinner.stop()
                    if opening:
                        screen.remark(opening)
                    (screen.remark if is_thought else screen.put)(text)
                    opening, written = "", True
                    repeats.feed(text)
                final = chunk
                if bounded and repeats.found:
                    final = {**chunk, "repeats": True}
                    break
            screen.end()
    except BaseException:
        if written and on_terminal:
            sys.stdout.write("\n")
        raise
    finally:
        stream.close()
    if body["prompt"]:
        print("\n", flush=True)
    return final


def _with_files(client: Client, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request, with the files that its prompt names attached. Raises InvalidRequest for a model or a server that takes none."""
    if not media.names_files(body["prompt"]):
        return body
    media.check(client.show(body["model"]), body["model"], body["prompt"])
    found = media.attach(body["prompt"])
    if found.documents:
        media.check_reader(client.version(), found)
    for note in found.notes:
        terminal.remark(note)
    named = {"images": list(found.images), "files": list(found.documents)}
    return {**body, "prompt": found.text, **{name: each for name, each in named.items() if each}}


def _opening(client: Client, body: Mapping[str, Any]) -> str:
    """The prompt, if the model has no chat template and so goes on writing it."""
    try:
        return str(body["prompt"]) if is_base(client.show(body["model"])) else ""
    except (AnsweredError, Unreachable):
        return ""  # the answer itself reports the error


def cannot_write(client: Client, model: str, error: AnsweredError) -> bool:
    """Whether an error has its reason in a model that makes vectors and no text."""
    try:
        return error.status == 400 and only_embeds(client.show(model))
    except (AnsweredError, Unreachable):
        return False


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
