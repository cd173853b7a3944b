"""Why a prompt was not reused, and which requests are remembered for that."""

from __future__ import annotations

from typing import Any

import pytest

from ollamapy.errors import RequestNotFound
from ollamapy.serving.recent import MOST_BYTES, MOST_REQUESTS, MOST_SECONDS, Recent, RecentRequests
from ollamapy.serving.reuse import report, turn_before
from ollamapy.types import Generation, Media, Message, Options, Prompt, Provenance

PROVENANCE = Provenance("m", "k", "build", 1, {})


def recent(id: str, *texts: str, tokens: int = 100, cached: int = 0, **more: Any) -> Recent:
    """A request whose prompt is its texts: the system's, then the user's and the assistant's in turns."""
    roles = ["system", *("user", "assistant") * len(texts)]
    messages = tuple(Message(role, text) for role, text in zip(roles, texts, strict=False))
    prompt = "".join(f"<{each.role}>{each.content}" for each in messages) + "<assistant>"
    fields: dict[str, Any] = {
        "owner": "",
        "at": float(len(texts)),
        "model": "m",
        "key": "k",
        "load": 1,
    }
    return Recent(
        id=id, messages=messages, prompt=prompt, generation=Generation(Prompt((prompt,))),
        prompt_tokens=tokens, cached_tokens=cached, options=Options(), provenance=PROVENANCE, **(fields | more),
    )  # fmt: skip


FIRST = recent("1", "Be kind.", "Hi")


@pytest.mark.parametrize(
    ("now", "reason", "where"),
    [
        (recent("2", "Be kind.", "Hi", "Ho", "And?", tokens=150, cached=99), "whole", None),
        (recent("2", "Be kind.", "Hi", "Ho", "And?", tokens=150, cached=2), "replaced", None),
        (recent("2", "Be kind.", "Hi", "Ho", "And?", tokens=150, load=2), "reloaded", None),
        (recent("2", "Be kurt.", "Hi", "Ho", "And?", tokens=150), "changed", (0, "system", 4)),
        (recent("2", "Be kind.", "Yo"), "first", None),
        (recent("2", "Be kind.", "Hi", key="other"), "first", None),
        (recent("2", "Be kind.", "Hi", tokens=100, cached=99), "whole", None),
    ],
)
def test_the_reason(now: Recent, reason: str, where: tuple[int, str, int] | None) -> None:
    found = report(now, [FIRST])
    assert found.reason == reason
    difference = found.difference
    assert where == (
        None if difference is None else (difference.message, difference.role, difference.character)
    )
    assert (found.prompt_tokens, found.reused_tokens) == (now.prompt_tokens, now.cached_tokens)
    assert found.earlier_id == ("" if reason == "first" else "1")


def test_a_difference_shows_both_texts() -> None:
    found = report(recent("2", "Be kurt.", "Hi", "Ho", "And?"), [FIRST])
    assert found.difference is not None
    assert found.difference.earlier == "<system>Be kind.<user>Hi<assistant>"
    assert found.difference.now == "<system>Be kurt.<user>Hi<assistant>Ho<user>And?<assistant>"
    assert found.summary == "the prompt differs from the last turn's in message 0 (system) at character 4"  # fmt: skip


def test_requests_between_are_counted() -> None:
    others = [FIRST, recent("x", "S", "Other", at=2.5), recent("y", "S", "Other", at=2.6, key="z")]
    found = report(recent("2", "Be kind.", "Hi", "Ho", "And?", at=3.0), others)
    assert found.summary.endswith(": 1 other requests came between")


def test_the_turn_before_has_most_of_the_same_messages_and_is_the_latest_of_those() -> None:
    longer = recent("longer", "S", "Hi", "Ho", "What?")
    sooner, later = recent("sooner", "S", "Hi", "Ho"), recent("later", "T", "Hi", "Ho")
    now = recent("now", "S", "Hi", "Ho", "And?")
    assert turn_before(now, [longer, sooner, later]) is later
    assert turn_before(recent("now", "S", "Hi", "Ho", "What?", "That"), [longer, later]) is longer
    assert turn_before(now, [recent("now", "S", "Hi", "Ho")]) is None  # the same id: itself


def test_a_prompt_without_messages_continues_one() -> None:
    one, two = recent("1", "a"), recent("2", "b")
    now = Recent(**{**_fields(one), "id": "3", "messages": (), "prompt": one.prompt + " and on"})
    assert turn_before(now, [one, two]) is one


def _fields(request: Recent) -> dict[str, Any]:
    return {name: getattr(request, name) for name in Recent.__slots__}


def test_an_owner_sees_its_own_requests() -> None:
    kept = RecentRequests(clock=lambda: 0.0)
    kept.add(recent("1", "S", "Hi", owner="a"))
    kept.add(recent("2", "S", "Hi", owner="b"))
    assert [each.id for each in kept.of("a")] == ["1"]
    with pytest.raises(RequestNotFound, match="is remembered"):
        kept.get("a", "2")


def test_nothing_is_remembered_where_history_is_off() -> None:
    kept = RecentRequests(keeps=False, clock=lambda: 0.0)
    kept.add(FIRST)
    assert kept.of("") == ()


def test_what_is_remembered_is_bounded_by_count_bytes_and_age() -> None:
    now = 0.0
    kept = RecentRequests(clock=lambda: now)
    for number in range(MOST_REQUESTS + 5):
        kept.add(recent(str(number), "S", "Hi", at=now))
    assert [each.id for each in kept.of("")] == [str(n) for n in range(5, MOST_REQUESTS + 5)]
    kept.add(recent("huge", "x" * (MOST_BYTES // 3), "Hi", at=now))
    assert kept.of("")[-1].id != "huge"
    for number in range(10):
        kept.add(recent(f"large {number}", "x" * (MOST_BYTES // 12), "Hi", at=now))
    assert sum(each.size for each in kept.of("")) <= MOST_BYTES
    assert kept.of("")[-1].id == "large 9"
    now = MOST_SECONDS + 1
    assert kept.of("") == ()


def test_images_count_once() -> None:
    image, other = bytes(10**6), bytes(10**5)
    plain = recent("1", "S", "Hi")
    messages = (Message("user", "Look", images=(image,)),)
    generation = Generation(Prompt(("a", Media(image), Media(other))))
    seen = Recent(**{**_fields(plain), "messages": messages, "generation": generation})
    assert 1_100_000 <= seen.size < 1_110_000


def test_the_last_request_with_an_id_counts() -> None:
    kept = RecentRequests(clock=lambda: 0.0)
    kept.add(recent("1", "S", "Hi"))
    kept.add(recent("1", "S", "Ho"))
    assert kept.get("", "1").messages[1].content == "Ho"
    assert len(kept.of("")) == 1


def test_requests_before_one() -> None:
    kept = RecentRequests(clock=lambda: 0.0)
    for number in range(3):
        kept.add(recent(str(number), "S", at=float(number)))
    assert [each.id for each in kept.before(kept.get("", "2"))] == ["0", "1"]
