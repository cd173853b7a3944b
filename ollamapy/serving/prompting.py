"""The prompt of a turn: rendered by its template, and fitted into the context by leaving out the oldest messages.

Decides nothing about running; the rules for messages are those of ``chat/prompt.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..chat import prompt as prompts
from ..chat.template import Marks
from ..errors import InvalidRequest, TemplateError
from ..fleet.lease import Runner
from ..runner.protocol import Ready
from ..runner.render import Renderer
from ..types import Conversation, Gap, Question, Raw
from .turn import Turn


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt as text, and as tokens where they had to be counted. ``dropped_tokens`` is the difference that the messages left
    out make."""

    text: str
    tokens: tuple[int, ...] | None = None
    dropped_messages: int = 0
    dropped_tokens: int = 0

    def then(self, text: str) -> Written:
        """The prompt with a text after it."""
        return replace(self, text=self.text + text, tokens=None) if text else self


async def write(
    renderer: Renderer, turn: Turn, runner: Runner, ready: Ready, cut: int = 0
) -> Written:
    """The prompt of a turn, without its ``cut`` oldest messages. ``ready`` knows the model's marks.

    Raises TemplateError, and InvalidRequest where the failing template is the request's own.
    """
    source = turn.request.source
    if isinstance(source, Raw):
        if isinstance(source.prompt, str):
            return Written(source.prompt)
        return Written("", source.prompt)
    try:
        text = await _rendered(renderer, turn, ready, cut)
    except TemplateError as error:
        if isinstance(source, Question | Gap) and source.template:
            raise InvalidRequest(f"template: {error}") from None
        raise
    if isinstance(source, Question | Gap) and source.context:
        text = prompts.after_context(await runner.detokenize(source.context), text)
    return Written(text)


async def _rendered(renderer: Renderer, turn: Turn, ready: Ready, cut: int) -> str:
    marks = Marks(ready.bos, ready.eos, ready.adds_bos, ready.adds_eos)
    source = turn.request.source
    if isinstance(source, Gap):
        return await renderer.render_gap(turn.template, source.prompt, source.suffix, marks=marks)
    messages = prompts.without_oldest(turn.messages, cut)
    messages = prompts.without_old_thoughts(messages)
    text = await renderer.render(
        turn.template, messages, marks=marks, tools=turn.tools, think=turn.request.think
    )
    if isinstance(source, Conversation) and source.continues_last:
        return prompts.up_to_last(text, messages[-1].content)
    return text


async def fitted(
    renderer: Renderer, turn: Turn, runner: Runner, ready: Ready, whole: Written, n_ctx: int
) -> Written:
    """The prompt with as few of the oldest messages left out as must be, found by bisection.

    Where even the last message alone is too long, the whole: the runner refuses it with both numbers.
    """
    # No token is less than a byte; BOS, EOS
    if len(whole.text.encode("utf-8", "replace")) + 2 < n_ctx:
        return whole
    n_whole = len(whole_tokens := await runner.tokenize(whole.text))
    whole = replace(whole, tokens=whole_tokens)
    if n_whole < n_ctx:
        return whole
    cuts = prompts.cuts(turn.messages)[1:]
    best, low, high = whole, 0, len(cuts)
    while low < high:
        middle = (low + high) // 2 if best is not whole else high - 1  # the shortest first
        prompt = await write(renderer, turn, runner, ready, cuts[middle])
        tokens = await runner.tokenize(prompt.text)
        if len(tokens) < n_ctx:
            kept = len(prompts.without_oldest(turn.messages, cuts[middle]))
            dropped = len(turn.messages) - kept
            best, high = Written(prompt.text, tokens, dropped, n_whole - len(tokens)), middle
        elif best is whole:
            break
        else:
            low = middle + 1
    return best
