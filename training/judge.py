"""Judge a story's text without knowing how it was made: its sentences, and whether its characters stay themselves.

`sentences` cuts a text, `slips` lists what is wrong with names and pronouns. Both see only the text, so they judge
the generator and the model alike. Not here: making the samples (`evaluate.py`). Standard library only.

What counts as a slip (outside of quotations):

    stranger    a name turns up without having been introduced: it is neither the first name of the story nor comes
                with `named`, `called`, `friend`, `was`, `is`, `his dog` or `the dog`
    pronoun     he/him/his or she/her where nobody who could be meant is in this sentence or in the last two before
                that had anybody in them, under a name or a pronoun. Who could be meant: a name or noun whose gender
                fits (the story said girl, boy or mom, or used a pronoun that could mean only it, or it is a usual
                girl's or boy's name) or is still open. Animals that are mentioned once count for the rest of their
                sentence; things count if they have a name, speak or feel.
    lost hero   the first character is not mentioned in the second half, not even by a pronoun
    narrator    `I` begins to tell a story that was told about others
"""

from __future__ import annotations

import re
from functools import cache

from training.lexicon import ANIMALS, BOYS, ELDERS, GIRLS, HE, PEOPLE, SHE, THINGS
from training.plots import GRAMMAR

SPEECH = (
    "said asked cried shouted called whispered laughed cheered sobbed sighed answered replied told yelled gasped "
    "wondered wanted explained"
).split()
TAG = re.compile(r"\s+(?:[\w']+\s+){0,5}?(?:" + "|".join(SPEECH) + r")\b")
WORD = re.compile(r"[A-Za-z][A-Za-z']*")
FEELS = "lived|loved|liked|really|wanted|felt|looked|went|was (?:sad|very|so|worried|happy|scared)"
MALE = {"he", "him", "his", "himself"}
FEMALE = {"she", "her", "hers", "herself"}
NARRATOR = {"I", "me", "my", "myself"}
NOUNS = {
    "boy": "m",
    "man": "m",
    "mailman": "m",
    "girl": "f",
    "woman": "f",
    "prince": "m",
    "princess": "f",
}
NOUNS |= (
    {relation.split()[-1]: gender for relation, gender in ELDERS}
    | dict.fromkeys(HE, "m")
    | dict.fromkeys(SHE, "f")
)
OPEN = {"teacher", "baby", "child", "friend", "one", "baker", "neighbor", "voice", *PEOPLE} - set(
    NOUNS
)
ANIMAL_KINDS = set(ANIMALS)
THING_KINDS = {kind.split()[-1] for kind in THINGS}
NOT_NAMES = {
    "I", "I'm", "I'll", "Mr", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "Sundays", "X",
    "A", "Hooray", "Surprise", "Boom", "Nobody", "Everybody", "Everyone",
}  # fmt: skip


def sentences(text: str) -> list[str]:
    """Cut at full stops outside quotations; `"Help!" cried Tom.` and `"Help!"` are each one sentence."""
    found = []
    for paragraph in text.split("\n"):
        start, inside, after_comma = 0, False, False
        for at, char in enumerate(paragraph):
            if char == '"':
                inside = not inside
                if inside:
                    after_comma = paragraph[max(0, at - 2) : at] == ", "
                elif paragraph[at - 1] in ".!?":
                    tagged = (
                        paragraph[at - 1] != "."
                        and not after_comma
                        and TAG.match(paragraph[at + 1 :])
                    )
                    if not tagged:
                        found.append(paragraph[start : at + 1])
                        start = at + 1
            elif char in ".!?" and not inside and paragraph[at + 1 : at + 2] in ("", " "):
                found.append(paragraph[start : at + 1])
                start = at + 1
        found.append(paragraph[start:])
    return [sentence.strip() for sentence in found if sentence.strip()]


@cache
def ordinary_words() -> frozenset[str]:
    """Every word of the grammar: at the start of a sentence these are not names."""
    text = " ".join(path.read_text(encoding="utf-8") for path in sorted(GRAMMAR.glob("*.txt")))
    return (
        frozenset(word.lower() for word in WORD.findall(text))
        | MALE
        | FEMALE
        | {"since", "before", "all", "nobody", "everybody", "finally"}
    )


def told(sentence: str) -> str:
    """The sentence with its quotations taken out."""
    return re.sub(r'"[^"]*"?', '""', sentence)


def bare(word: str) -> str:
    return word.removesuffix("'s").removesuffix("'")


def bare_word(word: str, names: set[str]) -> str:
    """Names keep their capital letter."""
    return word if word in names else word.lower()


def names_in(narration: list[str]) -> set[str]:
    """Capital letters inside a sentence, or at its start if no ordinary word."""
    names: set[str] = set()
    relations = {relation.split()[-1].capitalize() for relation, _ in ELDERS}
    for sentence in narration:
        for match in WORD.finditer(sentence):
            word = bare(match.group(0))
            if not word[0].isupper() or word in NOT_NAMES or word in relations:
                continue
            if match.start() > 0 and not re.search(r"[.!?:] $", sentence[: match.start()]):
                names.add(word)
            elif word.lower() not in ordinary_words():
                names.add(word)
    return names


def first_gender(name: str, text: str) -> str:
    """m, f or "" from `girl named X`, `X was a boy`, or a usual name."""
    match = re.search(rf"\b(girl|boy)\b[^.\"]*?\b(?:named|called) {re.escape(name)}\b", text)
    match = match or re.search(
        rf"\b{re.escape(name)} (?:was|is) an? (?:[\w]+ )*?(girl|boy)\b", text
    )
    if match:
        return "f" if match.group(1) == "girl" else "m"
    return "f" if name in GIRLS else "m" if name in BOYS else ""


def characters(text: str, counted: list[str]) -> set[str]:
    """Nouns that are somebody: people; animals that come back; things that have a name, speak or feel."""
    found = OPEN | {kind for kind in ANIMAL_KINDS if counted.count(kind) > 1}
    for thing in THING_KINDS & set(counted):
        alive = (
            rf"{thing} (?:named|called|who|said|asked|{FEELS})|(?:said|asked) the (?:\w+ )?{thing}"
        )
        if re.search(rf"\b(?:{alive})\b", text):
            found.add(thing)
    return found


def slips(text: str) -> list[str]:
    """What is wrong with the characters of a story; empty when all stay themselves."""
    narration = [told(sentence) for sentence in sentences(text)]
    names = names_in(narration)
    words = [[bare(word) for word in WORD.findall(sentence)] for sentence in narration]
    counted = [word.lower() for sentence in words for word in sentence]
    found: list[str] = []

    # 1) Who tells it?
    first_person = any(word in NARRATOR for sentence in words[:4] for word in sentence)
    if not first_person and any(word in NARRATOR for sentence in words for word in sentence):
        found.append("narrator: I")

    # 2) Names come introduced. The first one of a story that others tell needs no introduction.
    seen: list[str] = []
    for sentence in narration:
        for match in WORD.finditer(sentence):
            name = bare(match.group(0))
            if name not in names or name in seen:
                continue
            before, after = sentence[: match.start()], sentence[match.end() :]
            presented = re.search(
                r"\b(?:named|called|friend|was|is|name|(?:the|his|her|my) \w+) $", before
            ) or re.match(r"(?:'s)? the \w+", after)
            if not presented and (seen or first_person):
                found.append(f"stranger: {name}")
            seen.append(name)

    # 3) Pronouns mean somebody.
    genders = {name: first_gender(name, text) for name in names} | NOUNS
    genders |= {kind: "" for kind in characters(text, counted) - set(genders)}
    last: list[set[str]] = []
    for spoken in words:
        here = {bare_word(word, names) for word in spoken} & set(genders)
        candidates = here.union(*last)
        for at, word in enumerate(spoken):
            gender = "m" if word.lower() in MALE else "f" if word.lower() in FEMALE else ""
            if not gender or word in names:
                continue
            fitting = [who for who in candidates if genders[who] == gender]
            unsure = [who for who in candidates if genders[who] == ""]
            passing = ANIMAL_KINDS & {earlier.lower() for earlier in spoken[:at]}
            if not fitting and not unsure and not passing:
                found.append(f"pronoun: {word} in {' '.join(spoken)!r}")
                break
            if not fitting and len(unsure) == 1:
                genders[unsure[0]] = gender
            here |= set(fitting or unsure)
        last = [*last, here][-2:] if here else last

    # 4) The hero stays, under the name or as he or she.
    if not first_person and narration:
        half = {bare_word(word, names) for spoken in words[len(words) // 2 :] for word in spoken}
        kinds = [word.lower() for spoken in words[:3] for word in spoken if word.lower() in genders]
        opening = [*seen[:1], *kinds]
        if opening:
            pronouns = {"m": MALE, "f": FEMALE}.get(genders[opening[0]], MALE | FEMALE | {"it"})
            if not half & (set(opening) | pronouns):
                found.append(f"lost hero: {opening[0]}")
    return found
