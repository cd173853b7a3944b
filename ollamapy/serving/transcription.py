"""Write down, or translate to English, what is said in a sound, with a model that hears: a chat with the sound and an instruction.

A long WAV is cut at pauses (formats/wav.py), and its pieces are heard at the same time as far as there are slots; so each piece of the
text has its times. Other formats go to the model as they are, whose library cuts them into half minutes: all of the text is one piece.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec

from ..errors import InvalidRequest
from ..formats import media, wav
from ..request import Caller, Conversation, Request
from ..types import Chunk, Message, Options, Usage
from . import answer, choices
from .services import Services

_INSTRUCTIONS = {
    "transcribe": "Transcribe the audio, word for word. Answer with the text alone.",
    "translate": "Translate what is said in the audio to English. Answer with the translation alone.",
}


class TranscriptionRequest(msgspec.Struct, frozen=True):
    """Write down the speech of a sound. ``task`` is "transcribe" or "translate"; ``language`` is the one that is spoken, ``prompt``
    a text that helps: names, or what was said before."""

    model: str
    sound: bytes
    task: str = "transcribe"
    language: str = ""
    prompt: str = ""
    options: Options = Options()


class Segment(msgspec.Struct, frozen=True):
    """A part of the text and when it is said, in seconds."""

    start: float
    end: float
    text: str


class Transcription(msgspec.Struct, frozen=True):
    """What was said, in order, and what it took."""

    segments: tuple[Segment, ...]
    usage: Usage

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def duration(self) -> float:
        """Seconds of the sound."""
        return self.segments[-1].end if self.segments else 0.0


async def transcribe(
    services: Services, request: TranscriptionRequest, caller: Caller
) -> Transcription:
    """Hear a sound. Raises InvalidRequest for a model that does not hear and a sound that is broken or too long, and what an answer
    raises."""
    spec = await services.models.load(request.model)
    if "audio" not in spec.capabilities:
        raise InvalidRequest(
            f'"{request.model}" does not hear: choose a model whose capabilities have audio, see ollamapy show'
        )
    pieces = await asyncio.to_thread(_pieces, request.sound)
    requests = [_request(request, piece.content) for piece in pieces]
    if not requests:
        return Transcription((), Usage())
    found: list[list[Chunk]] = [[] for _ in requests]
    async with aclosing(choices.answers(services, requests, caller)) as chunks:
        async for index, chunk in chunks:
            found[index].append(chunk)
    answers = [answer.merge(each) for each in found]
    segments = [
        Segment(piece.start, piece.end, heard.text.strip())
        for piece, heard in zip(pieces, answers, strict=True)
    ]
    return Transcription(tuple(segments), _sum(answers))


def _pieces(data: bytes) -> list[wav.Piece]:
    """The parts of a sound that are heard one by one. Raises InvalidRequest."""
    format = media.check(data)
    if not media.is_sound(format):
        raise InvalidRequest("the file is an image: send a sound in WAV, MP3 or FLAC")
    if format != "wav":
        return [wav.Piece(0.0, media.seconds_of(format, data), data)]
    return wav.pieces(wav.read(data))


def _request(request: TranscriptionRequest, content: bytes) -> Request:
    texts = [_INSTRUCTIONS[request.task]]
    if request.language:
        texts.append(f"The language is {request.language}.")
    if request.prompt:
        texts.append(f"A hint: {request.prompt}")
    message = Message.of("user", [content, " ".join(texts)])
    return Request(
        model=request.model,
        input=Conversation((message,)),
        options=request.options,
        think=False,
        is_private=True,
    )


def _sum(answers: list[Chunk]) -> Usage:
    """The tokens of all answers together."""
    usages = [each.usage or Usage() for each in answers]
    return Usage(
        prompt_tokens=sum(each.prompt_tokens for each in usages),
        completion_tokens=sum(each.completion_tokens for each in usages),
    )
