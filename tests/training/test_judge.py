"""The judge of names and pronouns, and how a text is cut into sentences."""

from __future__ import annotations

import pytest

from training.judge import sentences, slips


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tom ran. He fell.", ["Tom ran.", "He fell."]),
        ('"Help!" cried Tom. He ran.', ['"Help!" cried Tom.', "He ran."]),
        ('"Help!" Tom cried. He ran.', ['"Help!" Tom cried.', "He ran."]),
        ('Tom said, "Come. Sit down." They sat.', ['Tom said, "Come. Sit down."', "They sat."]),
        (
            '"Come," said Tom. "Sit down." They sat.',
            ['"Come," said Tom.', '"Sit down."', "They sat."],
        ),
        ("One.\n\nTwo", ["One.", "Two"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


GOOD = (
    "Once there was a girl named Lily. She had a red ball. One day, Lily met a boy named Tom. "
    'He was sad. "I lost my hat," said Tom. Lily helped him. Mom came and hugged her. '
    "Tom put on his hat and Lily smiled."
)


@pytest.mark.parametrize(
    ("old", "new", "slip"),
    [
        ("", "", None),
        ("Lily helped him", "Mia helped him", "stranger: Mia"),
        ("She had", "He had", "pronoun: He"),
        ("Mom came", "I came", "narrator: I"),
        ("a boy named Tom", "Tom the fox", None),  # an animal's gender is what the story says first
    ],
)
def test_slips(old: str, new: str, slip: str | None) -> None:
    found = slips(GOOD.replace(old, new) if old else GOOD)
    if slip is None:
        assert found == []
    else:
        assert any(each.startswith(slip) for each in found), found


def test_a_hero_who_is_never_mentioned_again_is_lost() -> None:
    rest = "A girl named Mia came. She sang. She ate a cake. She ran home. She slept."
    assert "lost hero: Tom" in slips(f"Tom was a boy. He had a kite. {rest}")
    assert not slips(f"Tom was a boy. He had a kite. {rest} Tom laughed.")


def test_a_story_told_by_i_keeps_its_narrator() -> None:
    assert slips("I have a dog. His name was Max. He ran to me. I gave him my ball.") == []
