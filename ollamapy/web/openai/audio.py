"""/v1/audio/transcriptions and /v1/audio/translations: a form with a sound, and the text as JSON, as plain text or as subtitles. Pure.

    json           {"text": ...}                                     text      the text alone
    verbose_json   with the seconds, and segments with their times   srt, vtt  subtitles

Segments are the pieces in which a long WAV is heard; another sound is one. Times within them are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ...serving.transcription import Segment, Transcription, TranscriptionRequest
from ...types import Options
from .. import multipart

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_TIMED = ("srt", "vtt")
_MOST_TEXT = 10_000
"""Characters of a field that is a text."""


@dataclass(frozen=True, slots=True)
class ParsedTranscription:
    """What to write down, and the form of the answer."""

    request: TranscriptionRequest
    format: str


def parse(data: bytes, content_type: str, task: str) -> ParsedTranscription:
    """The form of a request; ``task`` is "transcribe" or "translate". Raises InvalidRequest."""
    given = multipart.fields(data, content_type)
    text = {name: _text(name, values[-1]) for name, values in given.items() if name != "file"}
    if not (model := text.get("model", "")):
        raise InvalidRequest("model is required")
    if not (sound := given.get("file", [b""])[-1]):
        raise InvalidRequest("file is required: a sound in WAV, MP3 or FLAC")
    format = text.get("response_format") or "json"
    if format not in FORMATS:
        raise InvalidRequest(f"response_format must be one of {', '.join(FORMATS)}")
    if text.get("stream", "false").lower() not in ("", "0", "false"):
        raise InvalidRequest("a transcription is not streamed, leave stream out")
    if b"word" in given.get("timestamp_granularities[]", ()):
        raise InvalidRequest("times of words are not known, ask for those of segments")
    request = TranscriptionRequest(
        model=model,
        sound=sound,
        task=task,
        language=text.get("language", "") if task == "transcribe" else "",
        prompt=text.get("prompt", ""),
        options=Options(temperature=_temperature(text.get("temperature", ""))),
    )
    return ParsedTranscription(request, format)


def _text(name: str, value: bytes) -> str:
    found = value.decode("utf-8", "replace").strip()
    if len(found) > _MOST_TEXT:
        raise InvalidRequest(f"{name[:40]!r} has {len(found):,} characters, at most {_MOST_TEXT:,}")
    return found


def _temperature(text: str) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise InvalidRequest("temperature must be a number from 0 to 2")
    return value


# ---- answers ---------------------------------------------------------------------------------------------------------

PLAIN, JSON = "text/plain; charset=utf-8", "application/json"


def encode(parsed: ParsedTranscription, found: Transcription) -> tuple[bytes, str]:
    """The answer and its media type."""
    if parsed.format == "text":
        return f"{found.text}\n".encode(), PLAIN
    if parsed.format in _TIMED:
        return _SUBTITLES[parsed.format](found.segments).encode(), PLAIN
    fields: dict[str, Any] = {"text": found.text, "usage": _usage(found)}
    if parsed.format == "verbose_json":
        fields = {
            "task": parsed.request.task,
            "language": parsed.request.language,
            "duration": found.duration,
            **fields,
            "segments": [_segment(i, each) for i, each in enumerate(found.segments)],
        }
    return msgspec.json.encode(fields), JSON


def _usage(found: Transcription) -> Mapping[str, Any]:
    given, written = found.usage.prompt_tokens, found.usage.completion_tokens
    return {
        "type": "tokens",
        "input_tokens": given,
        "output_tokens": written,
        "total_tokens": given + written,
    }


def _segment(index: int, segment: Segment) -> Mapping[str, Any]:
    return {"id": index, "start": segment.start, "end": segment.end, "text": segment.text}


def _srt(segments: tuple[Segment, ...]) -> str:
    blocks = [
        f"{number}\n{_time(each.start, ',')} --> {_time(each.end, ',')}\n{each.text}\n"
        for number, each in enumerate(segments, 1)
    ]
    return "\n".join(blocks)


def _vtt(segments: tuple[Segment, ...]) -> str:
    blocks = [
        f"{_time(each.start, '.')} --> {_time(each.end, '.')}\n{each.text}\n" for each in segments
    ]
    return "\n".join(["WEBVTT\n", *blocks])


_SUBTITLES: Mapping[str, Callable[[tuple[Segment, ...]], str]] = {"srt": _srt, "vtt": _vtt}


def _time(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and thousandths."""
    thousandths = round(seconds * 1000)
    whole, rest = divmod(thousandths, 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{rest:03}"
