"""The prompt of a turn: rendered by its template, and fitted into the context by leaving out the oldest messages.

The rules for messages are in ``chat/prompt.py``.
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
from .turn import Turn, own_template


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt as text, and as tokens if they had to be counted. ``dropped_tokens`` are the tokens saved by leaving out
    messages."""

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
    """The prompt of a turn, without its ``cut`` oldest messages. ``ready`` has the model's marks.

    Raises TemplateError, and InvalidRequest if the template that fails is the request's own.
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
    own = bool(own_template(turn.request))
    if isinstance(source, Gap):
        return await renderer.render_gap(
            turn.template, source.prompt, source.suffix, marks=marks, of_request=own
        )
    messages = prompts.without_oldest(turn.messages, cut)
    text = await renderer.render(
        turn.template,
        messages,
        marks=marks,
        tools=turn.tools,
        think=turn.request.think,
        of_request=own,
    )
    if isinstance(source, Conversation) and source.continues_last:
        return prompts.up_to_last(text, messages[-1].content)
    return text


async def fitted(
    renderer: Renderer, turn: Turn, runner: Runner, ready: Ready, full: Written, n_ctx: int
) -> Written:
    """The prompt without as many of the oldest messages as necessary to fit, found by bisection.

    If the last message alone is too long, the full prompt: the runner refuses it with both numbers.
    """
    # No token is less than a byte; BOS, EOS
    if len(full.text.encode("utf-8", "replace")) + 2 < n_ctx:
        return full
    cuts = prompts.cuts(turn.messages)[1:]
    if not cuts:
        return full
    tokens, n_full = await runner.tokens_within(full.text, n_ctx)
    if n_full < n_ctx:
        return replace(full, tokens=tokens or None)
    best, low, high = full, 0, len(cuts)
    while low < high:
        middle = (low + high) // 2 if best is not full else high - 1  # the shortest first
        prompt = await write(renderer, turn, runner, ready, cuts[middle])
        tokens, n_tokens = await runner.tokens_within(prompt.text, n_ctx)
        if n_tokens < n_ctx:
            kept = len(prompts.without_oldest(turn.messages, cuts[middle]))
            dropped = len(turn.messages) - kept
            saved = n_full - n_tokens
            best, high = Written(prompt.text, tokens or None, dropped, saved), middle
        elif best is full:
            break
        else:
            low = middle + 1
    return best
