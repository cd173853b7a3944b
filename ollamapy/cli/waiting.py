"""What a request waits for before its first token, in words for the line that a spinner shows, and asking the server to report it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from . import terminal
from .client import Stream


def asking(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body of a request that asks for reports, if there is a terminal to show them."""
    return {**body, "progress": True} if terminal.has_cursor(sys.stderr) else body


def show(chunk: Mapping[str, Any], model: str, spinner: terminal.Spinner) -> None:
    """Let the spinner say what a chunk of an answer reports, if it reports anything."""
    if texts := described(chunk.get("progress"), model):
        spinner.say(*texts)


def loaded(stream: Stream, model: str) -> Mapping[str, Any]:
    """The last chunk of the answer to a request that loads a model, which is shown meanwhile; closes the stream."""
    chunk: Mapping[str, Any] = {}
    with closing(stream), terminal.Spinner(f"loading {model}") as spinner:
        for chunk in stream:
            show(chunk, model, spinner)
    return chunk


def described(progress: Any, model: str) -> tuple[str, ...]:
    """The API's report in words, the longest text first; none for what this program does not know."""
    match progress:
        case {"type": "queued", "position": 1}:
            return ("next in the queue",)
        case {"type": "queued", "position": int(place)}:
            return (f"in the queue, place {place}",)
        case {"type": "loading", "stage": "weights", "fraction": int() | float() as fraction}:
            return (f"loading {model}: {fraction:.0%}", f"loading: {fraction:.0%}")
        case {"type": "loading", "stage": str(stage)}:
            return (f"loading {model}: {stage}", f"loading: {stage}")
        case {"type": "prefill", "fraction": int() | float() as fraction, "tokens": int(tokens)}:
            return (
                f"reading the prompt of {tokens:,} tokens: {fraction:.0%}",
                f"prompt: {fraction:.0%}",
            )
    return ()
