"""The characters of a story: who they are and how they are chosen. Not here: what they are called in a sentence."""

from __future__ import annotations

import random
from dataclasses import dataclass

from training.lexicon import (
    ANIMALS,
    BOYS,
    ELDERS,
    GIRLS,
    HE,
    PEOPLE,
    PETS,
    SHE,
    THINGS,
    WISE,
)  # fmt: skip
from training.plots import Plot, words


@dataclass(slots=True)
class Character:
    """Somebody in a story. `name` is empty for "the cat"; `relation` marks a parent ("mom") of the hero."""

    name: str
    kind: str
    gender: str  # m, f, n, or i for a hero who tells the story
    adjective: str = ""
    relation: str = ""
    voice: str = ""  # what others call somebody who has no name
    introduced: bool = False


def invented_name(rng: random.Random) -> str:
    """A name that nobody has: it teaches the model to copy names it has never seen."""
    syllables = rng.choice([1, 2, 2, 2, 3])
    name = ""
    for number in range(syllables):
        name += rng.choice(
            "b d f g h j k l m n p r s t v w z br dr fl gr kl pl st tr sh ch th".split()
        )
        name += rng.choice("a e i o u a e i o ee oo ai ou".split())
        if rng.random() < (0.7 if number == syllables - 1 else 0.3):
            name += rng.choice("b d g k l m n p r s t x nd lt rk ck bby ny".split())
    return name.capitalize()


def invented_kind(rng: random.Random) -> str:
    return invented_name(rng).lower()


def gender_of(kind: str, rng: random.Random, neuter: float) -> str:
    if kind in SHE:
        return "f"
    if kind in HE:
        return "m"
    return "n" if rng.random() < neuter else rng.choice("mf")


def child(rng: random.Random, gender: str = "") -> Character:
    gender = gender or rng.choice("mf")
    name = rng.choice(GIRLS if gender == "f" else BOYS)
    if rng.random() < 0.05:
        name = invented_name(rng)
    kind = "girl" if gender == "f" else "boy"
    return Character(name, kind, gender, adjective=rng.choice(words()["trait"]))


def pick_adjective(rng: random.Random) -> str:
    return rng.choice(
        words()["trait"]
        + ["little"] * 16
        + ["small"] * 4
        + ["old"] * 3
        + ["big"] * 3
        + words()["color"]
    )


def creature(rng: random.Random, kinds: list[str], named: float, neuter: float = 0.0) -> Character:
    kind = rng.choice(kinds)
    if rng.random() < 0.015:
        kind = invented_kind(rng)
    gender = gender_of(kind, rng, neuter)
    name = ""
    if rng.random() < named:
        # A third of them have a human name, so that prompts like "Tom the cat" are at home.
        human = GIRLS if gender == "f" else BOYS
        name = rng.choice(human) if rng.random() < 0.35 else rng.choice(PETS)
        if rng.random() < 0.05:
            name = invented_name(rng)
        if gender == "n":
            gender = rng.choice("mf")
    adjective = pick_adjective(rng)
    return Character(
        name,
        kind,
        gender,
        adjective=adjective,
        voice=f"{rng.choice(['little', 'dear', ''])} {kind}".strip(),
    )


def friend_of(hero: Character, human: bool, rng: random.Random) -> Character:
    """A friend with another name, and mostly with another pronoun, so that both can be followed."""
    other = {"m": "f", "f": "m"}.get(hero.gender, "") if rng.random() < 0.7 else ""
    while True:
        if human and rng.random() < 0.75:
            friend = child(rng, other)
        else:
            friend = creature(rng, ANIMALS, named=0.9)
        if not human and other and friend.name in PETS:
            friend.gender = other
        clash = hero.gender in "mf" and friend.gender == hero.gender and other
        same = friend.name in (hero.name, hero.voice) or (not human and friend.kind == hero.kind)
        if not same and not clash:
            break
    if friend.name in GIRLS or friend.name in BOYS:
        friend.gender = "f" if friend.name in GIRLS else "m"
    return friend


def cast(plot: Plot, rng: random.Random) -> dict[str, Character]:
    """Choose hero h, friend f, elder p, animal x, teacher t: no two with the same name or kind of animal."""
    roll = rng.random()
    if plot.heroes == "child":
        hero = child(rng)
    elif roll < 0.48:
        hero = child(rng)
    elif roll < 0.74:
        hero = creature(rng, ANIMALS, named=0.65)
    elif plot.heroes == "home":
        hero = child(rng)
    elif roll < 0.89:
        hero = creature(rng, THINGS, named=0.45, neuter=0.25)
    else:
        hero = creature(rng, PEOPLE, named=0.5)
    if hero.kind in ("girl", "boy") and rng.random() < 0.13:
        hero = Character("", hero.kind, "i", voice=hero.name)
    human = hero.kind in ("girl", "boy")
    friend = friend_of(hero, human, rng)
    if human or (hero.kind in ANIMALS and rng.random() < 0.7) or plot.heroes == "home":
        relation, gender = rng.choice(ELDERS)
        elder = Character("", "person", gender, relation=relation)
    else:
        kind = rng.choice([k for k in WISE if k not in (hero.kind, friend.kind)])
        elder = Character(
            "",
            kind,
            rng.choice("mf"),
            adjective=rng.choice(["old", "wise old", "wise"]),
            voice=f"old {kind}",
        )
    taken = {hero.kind, friend.kind, elder.kind}
    animal = creature(rng, [k for k in ANIMALS[:40] if k not in taken], named=0.0, neuter=0.6)
    animal.voice = f"little {animal.kind}"
    teacher = Character("", "teacher", rng.choice("mf"))
    return {"h": hero, "f": friend, "p": elder, "x": animal, "t": teacher}
