"""The prompt of a turn: rendered by its template, and fitted into the context by leaving out the oldest messages.

The rules for messages are in ``chat/prompt.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..chat import files, verbatim
from ..chat import prompt as prompts
from ..chat.files import Placed
from ..chat.template import Marks
from ..errors import InvalidRequest, TemplateError
from ..fleet.lease import Runner
from ..request import Conversation, Gap, Raw
from ..runner.protocol import Ready
from ..runner.render import Renderer
from ..types import Media, Message, Prompt
from .sampled import SampledCalls
from .services import Services
from .turn import Turn

_ROOM = 16
"""This part of the context must be free where a prompt is not counted exactly."""


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt as text, and as tokens if they had to be counted; ``files`` are its images and sounds, with their places in the text.
    ``dropped_tokens`` are the tokens saved by leaving out messages."""

    text: str
    tokens: tuple[int, ...] | None = None
    dropped_messages: int = 0
    dropped_tokens: int = 0
    files: Placed = ()

    @property
    def parts(self) -> tuple[str | Media, ...]:
        """Its texts, and its files in their places."""
        found = files.cut(self.text, self.files)
        return tuple(Media(part) if isinstance(part, bytes) else part for part in found)

    def then(self, text: str) -> Written:
        """The prompt with a text after it."""
        return replace(self, text=self.text + text, tokens=None) if text else self


@dataclass(frozen=True, slots=True)
class PromptWriter:
    """Writes the prompts of a turn, once its runner has loaded the model: ``marks`` are the model's, ``sampled`` the calls that
    models made."""

    turn: Turn
    renderer: Renderer
    runner: Runner
    marks: Marks
    sampled: SampledCalls = field(default_factory=SampledCalls)

    @classmethod
    def of(cls, turn: Turn, services: Services, runner: Runner, ready: Ready) -> PromptWriter:
        """The writer for a turn, with the marks of the model that is ready."""
        marks = Marks(ready.bos, ready.eos, ready.adds_bos, ready.adds_eos)
        return cls(turn, services.renderer, runner, marks, services.sampled)

    async def write(self, cut: int = 0) -> Written:
        """The prompt without the ``cut`` oldest messages.

        Raises TemplateError, and InvalidRequest if the template that fails is the request's own.
        """
        request = self.turn.request
        match request.input:
            case Raw(str() as prompt):
                text, placed = files.placed_raw(prompt, request.input.images)
                return Written(text, files=placed)
            case Raw(tuple() as tokens):
                return Written("", tokens)
        try:
            text, placed = await self._rendered(cut)
        except TemplateError as error:
            if request.own_template:
                raise InvalidRequest(f"template: {error}") from None
            raise
        if request.earlier:
            earlier = await self.runner.detokenize(request.earlier)
            text = prompts.after_context(earlier, text)
            placed = tuple((len(earlier) + at, file) for at, file in placed)
        return Written(text, files=placed)

    async def _rendered(self, cut: int) -> tuple[str, Placed]:
        """The text, and the places of the files in it."""
        turn = self.turn
        match turn.request.input:
            case Gap(prompt, suffix):
                text = await self.renderer.render_gap(
                    turn.template,
                    prompt,
                    suffix,
                    marks=self.marks,
                    of_request=bool(turn.request.own_template),
                )
                return text, ()
        messages, given = files.marked(prompts.without_oldest(turn.messages, cut))
        text = await self._verbatim(messages, await self._conversation(messages))
        match turn.request.input:
            case Conversation(continues_last=True):
                text = prompts.up_to_last(text, messages[-1].content)
        return files.placed(text, given)

    async def _conversation(self, messages: Sequence[Message]) -> str:
        """What the template makes of messages."""
        turn = self.turn
        return await self.renderer.render(
            turn.template,
            messages,
            marks=self.marks,
            tools=turn.tools,
            think=turn.request.think,
            variables=turn.request.variables,
            of_request=bool(turn.request.own_template),
        )

    async def _verbatim(self, messages: Sequence[Message], prompt: str) -> str:
        """The prompt with the answers that have calls as the model wrote them: its tokens are in the cache."""
        written = {place: each.text for place, each in self._sampled(messages).items()}
        if not verbatim.lacking(prompt, written):
            return prompt
        marks = {place: verbatim.new_mark() for place in written}
        try:
            with_marks = await self._conversation(verbatim.marked(messages, marks))
        except TemplateError:  # it does not take a result without its call
            return prompt
        texts = {mark: written[place] for place, mark in marks.items()}
        return verbatim.exchanged(prompt, with_marks, texts)

    def _sampled(self, messages: Sequence[Message]) -> dict[int, verbatim.Sampled]:
        """The answers with calls whose texts are known, by their places."""
        key = self.turn.spec.files.key
        found = ((place, self.sampled.of(key, each)) for place, each in enumerate(messages))
        return {place: each for place, each in found if each is not None}

    def prompt(self, written: Written, n_ctx: int) -> Prompt:
        """A written prompt for the runner, with the tokens that the model made of its calls, unless it nearly fills the
        context: their number was not counted."""
        room = n_ctx - n_ctx // _ROOM
        answers = [*self._sampled(self.turn.messages).values()]
        if written.tokens is not None and (not answers or len(written.tokens) > room):
            return Prompt((written.tokens,))
        parts: list[str | tuple[int, ...] | Media] = []
        for part in written.parts:
            parts += [part] if isinstance(part, Media) else verbatim.prompt_parts(part, answers)
        return Prompt(tuple(parts) or ("",))

    async def count(self, written: Written, most: int) -> tuple[tuple[int, ...], int]:
        """The tokens of a written prompt, none if they are more than ``most`` or if it has files, and their number."""
        if written.files:
            return (), await self.runner.count_tokens(Prompt(written.parts))
        return await self.runner.tokens_within(written.text, most)

    async def fit(self, full: Written, n_ctx: int) -> Written:
        """The full prompt without as many of the oldest messages as necessary to fit, found by bisection.

        If the last message alone is too long, the full prompt: the runner refuses it with both numbers.
        """
        # No token is less than a byte; BOS, EOS
        if not full.files and len(full.text.encode("utf-8", "replace")) + 2 < n_ctx:
            return full
        messages = self.turn.messages
        cuts = prompts.cuts(messages)[1:]
        if not cuts:
            return full
        tokens, n_full = await self.count(full, n_ctx)
        if n_full < n_ctx:
            return replace(full, tokens=tokens or None)
        best, low, high = full, 0, len(cuts)
        while low < high:
            middle = (low + high) // 2 if best is not full else high - 1  # the shortest first
            prompt = await self.write(cuts[middle])
            tokens, n_tokens = await self.count(prompt, n_ctx)
            if n_tokens < n_ctx:
                dropped = len(messages) - len(prompts.without_oldest(messages, cuts[middle]))
                saved = n_full - n_tokens
                best = Written(prompt.text, tokens or None, dropped, saved, prompt.files)
                high = middle
            elif best is full:
                break
            else:
                low = middle + 1
        return best
