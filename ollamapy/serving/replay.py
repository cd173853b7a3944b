"""Answer a recent request again, from the very same prompt, and compare the tokens."""

from __future__ import annotations

from contextlib import aclosing

import msgspec

from ..fleet.lease import Runner
from ..request import Caller
from ..runner.protocol import Done
from .answer import lease_request
from .provenance import Change, changes, first_difference, provenance
from .recent import Recent
from .services import Services


class Replay(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether a request gets the same answer again. ``tokens`` are those of the answer then; ``first_difference`` is the index of
    the first token that differs, ``then`` and ``now`` are the texts of the tokens there ("" where an answer has ended). ``changes``
    are not as they were, ``note`` says in a sentence what may be the reason.
    """

    id: str
    model: str
    equal: bool
    tokens: int
    first_difference: int | None = None
    then: str = ""
    now: str = ""
    changes: tuple[Change, ...] = ()
    note: str = ""


async def replay(services: Services, recent: Recent, caller: Caller) -> Replay:
    """Answer a request again. Raises the errors of the model's files, of the lease and of the runner."""
    spec = await services.models.load(recent.model)
    request = lease_request(spec, recent.options, caller=caller)
    async with services.scheduler.queue(request) as wait:
        lease = await wait.lease
        ready = await lease.runner.ready()
        generation = msgspec.structs.replace(recent.generation, progress=False, by_token=False)
        tokens: tuple[int, ...] = ()
        async with aclosing(lease.runner.generate(generation)) as events:
            async for event in events:
                if isinstance(event, Done):
                    tokens = event.tokens
        changed = changes(recent.provenance, provenance(spec, lease.runner.plan, ready, generation))
        at = first_difference(recent.tokens, tokens)
        then, now = await _texts(lease.runner, recent.tokens, tokens, at)
    return Replay(
        id=recent.id,
        model=recent.model,
        equal=at is None,
        tokens=len(recent.tokens),
        first_difference=at,
        then=then,
        now=now,
        changes=changed,
        note="" if at is None else _note(recent, changed),
    )


async def _texts(
    runner: Runner, then: tuple[int, ...], now: tuple[int, ...], at: int | None
) -> tuple[str, str]:
    """The texts of two answers' tokens at a place."""
    if at is None:
        return "", ""
    found = [await runner.detokenize(each[at : at + 1]) for each in (then, now)]
    return found[0], found[1]


def _note(recent: Recent, changed: tuple[Change, ...]) -> str:
    """What may be the reason that an answer differs."""
    if changed:
        return "changed since: " + ", ".join(each.name for each in changed)
    if not recent.provenance.settings["deterministic"]:
        return "the model was not loaded with the option deterministic: what else was computed at the time may matter"
    return "nothing of what is known has changed: please report this"
