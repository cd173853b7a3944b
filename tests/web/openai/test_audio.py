"""/v1/audio/transcriptions: forms, and the text in every form that an answer can have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollamapy.errors import InvalidRequest
from ollamapy.serving.transcription import Segment, Transcription
from ollamapy.types import Usage
from ollamapy.web.openai import audio
from tests.web.test_multipart import TYPE, form

HEARD = Transcription(
    (Segment(0.0, 20.25, "One."), Segment(20.25, 3725.5, "Two.")),
    Usage(prompt_tokens=7, completion_tokens=3),
)


def parsed(task: str = "transcribe", **fields: Any) -> audio.ParsedTranscription:
    given = {"model": "ears", "file": b"RIFF", **fields}
    parts = [(n, v if isinstance(v, bytes) else str(v).encode()) for n, v in given.items()]
    return audio.parse(form(parts), TYPE, task)


def test_the_fields_of_a_form() -> None:
    found = parsed(language="de", prompt="Names: Ada", temperature=0.5, response_format="srt")
    request = found.request
    assert (request.model, request.sound, request.task) == ("ears", b"RIFF", "transcribe")
    assert (request.language, request.prompt, request.options.temperature) == (
        "de",
        "Names: Ada",
        0.5,
    )
    assert found.format == "srt"
    plain = parsed("translate", language="de")
    assert (plain.request.language, plain.request.options.temperature) == ("", 0.0)
    assert plain.format == "json"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"model": ""}, "model is required"),
        ({"file": b""}, "file is required"),
        ({"response_format": "pdf"}, "json, text, srt, verbose_json, vtt"),
        ({"temperature": "warm"}, "temperature must be a number"),
        ({"temperature": "nan"}, "temperature must be a number"),
        ({"temperature": 3}, "temperature must be a number"),
        ({"stream": "true"}, "is not streamed"),
        ({"timestamp_granularities[]": "word"}, "times of words"),
        ({"prompt": "x" * 10_001}, "'prompt' has 10,001 characters"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        parsed(**fields)


def test_json() -> None:
    content, media_type = audio.encode(parsed(), HEARD)
    usage = {"type": "tokens", "input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    assert json.loads(content) == {"text": "One. Two.", "usage": usage}
    assert media_type == "application/json"


def test_with_times() -> None:
    found = json.loads(
        audio.encode(parsed(response_format="verbose_json", language="en"), HEARD)[0]
    )
    assert (found["task"], found["language"], found["duration"]) == ("transcribe", "en", 3725.5)
    assert found["segments"][1] == {"id": 1, "start": 20.25, "end": 3725.5, "text": "Two."}


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("text", "One. Two.\n"),
        (
            "srt",
            "1\n00:00:00,000 --> 00:00:20,250\nOne.\n\n2\n00:00:20,250 --> 01:02:05,500\nTwo.\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:20.250\nOne.\n\n00:00:20.250 --> 01:02:05.500\nTwo.\n",
        ),
    ],
)
def test_as_text(format: str, expected: str) -> None:
    content, media_type = audio.encode(parsed(response_format=format), HEARD)
    assert (content.decode(), media_type) == (expected, "text/plain; charset=utf-8")
