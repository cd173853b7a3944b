"""Turn beats of the grammar into sentences: choices, speech, names and pronouns.

Not here: which beats there are (`plots.py`) and how a story is put together (`stories.py`).
"""

from __future__ import annotations

import random
import re

from training.cast import Character
from training.lexicon import AFTER, BEFORE, MOODS, OHNO, PRONOUNS, SAME, THANKS, YAY
from training.plots import split, words

SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
# After these words a character is the object: "to him", "saw her".
OBJECT_BEFORE = re.compile(
    r"\b(?:to|for|with|at|from|of|by|behind|over|around|like|beside|under|near|than|told|gave|saw|met|asked|hugged|thanked|"
    r"helped|called|showed|brought|found|held|pulled|pushed|took|loved|missed|heard|made|let|kissed|followed|caught) $"
)
SPEAKING = ("said", "asked", "whispered", "shouted", "called", "cried")
INTERJECTIONS = "Well|Oh|Hmm|Ah|You know what|Listen|My dear|Tell me|But".split("|")
SENTENCE_END = re.compile(r"[.!?]\"?\s")


def comma(speech: str) -> str:
    """Speech before `said Tom`: a full stop becomes a comma."""
    return speech[:-1] + "," if speech.endswith(".") else speech


class Teller:
    """Turns beats into text. Keeps who has been introduced and who was mentioned lately."""

    def __init__(self, rng: random.Random, cast: dict[str, Character], indoors: bool) -> None:
        self.rng = rng
        self.cast = cast
        self.things: dict[str, str] = {}
        self.indoors = indoors
        self.now: list[Character] = []  # mentioned in this sentence, in order
        self.before: list[Character] = []  # in the sentence before
        self.toy_seen = False  # then "the ball" will do for "the shiny red ball"

    # 1) Choices and rules: what is said.

    def expand(self, text: str) -> str:
        """Resolve [a|b] and <rule>, innermost last, until none is left."""
        out, at = [], 0
        while at < len(text):
            if text[at] in "[<":
                close = self.closing(text, at)
                inside = text[at + 1 : close]
                if text[at] == "[":
                    out.append(self.expand(self.rng.choice(split(inside, "|"))))
                else:
                    if inside == "where_hid":
                        inside = "where_in" if self.indoors else "where_out"
                    out.append(self.expand(self.rng.choice(words()[inside])))
                at = close + 1
            else:
                out.append(text[at])
                at += 1
        return "".join(out)

    @staticmethod
    def closing(text: str, at: int) -> int:
        depth = 0
        for end in range(at, len(text)):
            depth += (text[end] in "[<") - (text[end] in "]>")
            if depth == 0:
                return end
        raise ValueError(f"unclosed bracket in {text!r}")

    def beat(self, text: str) -> str:
        """One beat in words: narration and speech."""
        text = self.expand(text)
        text = re.sub(
            r"(?<![\w@\"])((?:the|a|an|his|her|\{h\.his\}|\{f\.his\}) )(\w+)\b(?! of\b)",
            self.adorn,
            text,
        )
        text = AFTER_PATTERN.sub(self.prolong, text)
        pieces = re.split(r"(?:^|\s)@@?(?=[hfpxt][: !?])", text)
        told = []
        for number, piece in enumerate(pieces):
            if number == 0:
                if piece.strip():
                    told.append(self.narrate(piece.strip()))
            else:
                head, _, speech = piece.partition(" ")
                told.append(self.speak(head[0], head[2:], speech.strip()))
        return " ".join(re.sub(r'^"?[a-z]', lambda m: m.group(0).upper(), text) for text in told)

    def adorn(self, match: re.Match[str]) -> str:
        """Sometimes an adjective before a noun."""
        pool = BEFORE.get(match.group(2))
        if not pool or self.rng.random() > 0.42:
            return match.group(0)
        adjective = self.expand(self.rng.choice(pool.split("|")))
        if not adjective or adjective in match.string.lower():
            return match.group(0)
        return f"{match.group(1)}{adjective} {match.group(2)}"

    def prolong(self, match: re.Match[str]) -> str:
        """Sometimes an adverb after a verb."""
        if self.rng.random() > 0.4:
            return match.group(0)
        return f"{match.group(0)} {self.expand(self.rng.choice(AFTER[match.group(0)].split('|')))}"

    def narrate(self, text: str) -> str:
        return self.resolve(self.same(text))

    def same(self, text: str) -> str:
        """Swap words for others that mean the same."""

        def swap(match: re.Match[str]) -> str:
            word = match.group(0)
            if self.rng.random() < 0.35 or f"{word} and {word}" in match.string:
                return word
            new = self.rng.choice(SAME[word.lower()])
            return new[0].upper() + new[1:] if word[0].isupper() and word != "I am" else new

        return SAME_PATTERN.sub(swap, text)

    def speak(self, key: str, mood: str, speech: str) -> str:
        """`"Speech," said Tom softly.` in one of several shapes."""
        rng = self.rng
        speech = self.same(speech)
        mood = mood or self.mood(speech)
        speech = self.colour(key, mood, speech)
        sentences = re.findall(r"\S.*?[.!?]+(?=\s|$)", speech)
        # 1) Who listens? Words about somebody who is not there yet are left out.
        verbs, tails, gestures = MOODS[mood]
        verb, tail = rng.choice(verbs), rng.choice(tails)
        if " " in verb:
            tail = ""
        listener = "f" if key == "h" and self.cast["f"].introduced else "h"
        if listener == key or not self.cast[listener].introduced:
            tail = "" if "{o}" in tail else tail
            verb = "said" if "{o}" in verb else verb
            gestures = [gesture for gesture in gestures if "{o}" not in gesture]
        # 2) The verb fits a question or a statement.
        if speech.endswith("?"):
            plain = verb in ("said", "sobbed", "sighed", "told {o}", "cried")
            verb = "asked" if plain else verb.replace("said", "asked")
        elif verb.startswith("asked"):
            verb = verb.replace("asked", "said")
        if verb == "told {o}" and len(sentences) > 1:
            verb = "said"
        verb_tail = verb + tail

        def fill(text: str) -> str:
            text = text.replace("{o}", f"{{{listener}.o}}").replace("{c}", f"{{{key}}}")
            return text.replace("{c.", f"{{{key}.")

        # 3) `Tom jumped. "..." he said.`, `"..." said Tom. "..."`, `Tom said, "..."` or `"..." said Tom.`
        roll = rng.random()
        if roll < 0.16 and gestures and not (mood == "." and speech.endswith("!")):
            gesture = rng.choice(gestures)
            return self.resolve(fill(f'{gesture}. "{comma(speech)}" {{{key}.he}} {verb}.'))
        if roll < 0.42 and len(sentences) > 1:
            if not sentences[0].endswith("?"):
                verb_tail = re.sub("asked|wondered|wanted to know", "said", verb_tail)
            tag = self.tag(key, fill(verb_tail))
            rest = " ".join(sentences[1:])
            return self.resolve(f'"{comma(sentences[0])}" {tag}. "{rest}"')
        if roll < 0.30 and not tail.startswith(" and") and verb.split()[0] in SPEAKING:
            return self.resolve(f'{{{key}}} {fill(verb_tail)}, "{speech}"')
        return self.resolve(f'"{comma(speech)}" {self.tag(key, fill(verb_tail))}.')

    @staticmethod
    def mood(speech: str) -> str:
        """The mood that the words themselves have."""
        for mood, pattern in (("thanks", THANKS), ("yay", YAY), ("ohno", OHNO)):
            if pattern.match(speech):
                return mood
        return speech[-1]

    def colour(self, key: str, mood: str, speech: str) -> str:
        """Sometimes a name or a `Well,` in what is said."""
        rng, lately = self.rng, self.now + self.before
        first = re.match(r"[^{}.!?,]+(?=[.!?])", speech)
        near = [k for k, who in self.cast.items() if k != key and who.introduced and who in lately]
        named = first and near and mood != "ohno" and len(first.group(0).split()) > 1
        if first and named and rng.random() < 0.3:
            return f"{first.group(0)}, {{{rng.choice(near)}.v}}{speech[first.end() :]}"
        if mood not in (".", "?", "soft", "sad") or rng.random() >= 0.22:
            return speech
        if speech.startswith(("{", '"')):
            return speech
        word = rng.choice(INTERJECTIONS)
        if (word == "Tell me") != (mood == "?") and word in (
            "Tell me",
            "Listen",
            "You know what",
            "My dear",
        ):
            word = "Oh"
        if word in ("My dear", "Listen") and key not in "px":
            word = "Well"
        name_first = re.match(r"I\b|[A-Z]\w+day|Mr", speech)
        rest = speech if name_first else speech[0].lower() + speech[1:]
        return f"{word} {rest}" if word == "But" else f"{word}, {rest}"

    def tag(self, key: str, verb_tail: str) -> str:
        """`said Tom` or `Tom said`; `I said` and `he said` never turned round."""
        verb, space, tail = verb_tail.partition(" ")
        may_turn = self.cast[key].gender != "i" and verb in SPEAKING and not tail.startswith("{")
        if may_turn and self.rng.random() < 0.55:
            return f"{verb} {{{key}.n}}{space}{tail}"
        return f"{{{key}}} {verb_tail}"

    # 2) Characters and things: names and pronouns, from left to right.

    def resolve(self, text: str) -> str:
        """Fill the slots of a piece of text."""
        out, at, quoted = "", 0, False
        if self.cast["h"].gender == "i":
            text = text.replace("{h} and {f}", "{f} and {h}")
        for match in SLOT.finditer(text):
            between = text[at : match.start()]
            quoted ^= between.count('"') % 2 == 1
            out += between
            self.turn(between)
            key, form = match.group(1), match.group(2) or ""
            if not form and key in self.cast and OBJECT_BEFORE.search(out):
                form = "o"
            out += self.slot(key, form, quoted)
            at = match.end()
        out += text[at:]
        self.before, self.now = self.now or self.before, []
        return out

    def turn(self, text: str) -> None:
        """Forget older mentions as sentences end."""
        if SENTENCE_END.search(text) and self.now:
            self.before, self.now = self.now, []

    def slot(self, key: str, form: str, quoted: bool) -> str:
        """The words for one slot."""
        if key in self.cast:
            return self.refer(self.cast[key], form, quoted)
        hero, friend = self.cast["h"], self.cast["f"]
        narrator = hero.gender == "i"
        if key == "both":
            known = friend.introduced and (friend in self.now + self.before)
            if known and self.rng.random() < 0.6:
                self.now += [hero, friend]
                return "we" if narrator else "they"
            if narrator:
                other = self.refer(friend, "n", False)
                return f"{other} and {self.refer(hero, '', False)}"
            return f"{self.refer(hero, 'n', False)} and {self.refer(friend, 'n', False)}"
        if key in ("they", "them", "their"):
            return {"they": "we", "them": "us", "their": "our"}[key] if narrator else key
        if key == "toy":
            short = self.toy_seen and self.rng.random() < 0.6
            self.toy_seen = True
            return self.things["toy.noun" if short else "toy"]
        if form:
            key = f"{key}.{form}"
        return self.things[key]

    def refer(self, who: Character, form: str, quoted: bool) -> str:
        """The words for one mention of a character."""
        he, him, his, himself = PRONOUNS[who.gender]
        hero = self.cast["h"]
        if form in ("k", "adj", "himself"):
            return {"k": who.kind, "adj": who.adjective, "himself": himself}[form]
        if form == "a" or form == "new" and not who.introduced:
            return self.present(who, form == "a")
        form = "" if form == "new" else form
        if form == "v" or quoted and form in ("", "n", "o"):
            return self.called(who)
        forced = {"he": he, "him": him, "his": his}.get(form)
        if who.gender == "i":
            self.mention(who)
            return forced or {"": "I", "n": "I", "o": "me", "s": "my"}[form]
        if forced and who.introduced:
            if form == "he" and who not in self.now and self.rivals(who, self.now + self.before):
                forced = None  # the plot's pronoun would be unclear here
                form = ""
            else:
                self.mention(who)
                return forced
        if forced:
            form = {"he": "", "him": "o", "his": "s"}[form]
        lately = who in self.now or who in self.before
        clear = lately and who.introduced and not self.rivals(who, self.now + self.before)
        likely = 0.75 if who in self.now else 0.45
        if form in ("", "o", "s") and clear and self.rng.random() < likely:
            self.mention(who)
            return {"": he, "o": him, "s": his}[form]
        text = self.named(who) if who.introduced else self.introduce(who, hero, short=form == "s")
        self.mention(who)
        return text + ("'s" if form == "s" else "")

    def present(self, who: Character, full: bool) -> str:
        """`a kind girl named Lily`, or `a girl named Lily` for a stranger who comes along."""
        self.mention(who)
        if who.gender == "i":
            return "I"
        trait = f"{self.rng.choice(words()['trait'])} " if full else ""
        if not who.name:
            return f"a {trait}{who.kind}"
        verb = self.rng.choice(["named", "called"]) if full else "named"
        return f"a {trait}{who.kind} {verb} {who.name}"

    def rivals(self, who: Character, recent: list[Character]) -> bool:
        """Whether somebody else mentioned lately would take the same pronoun."""
        return any(other is not who and other.gender == who.gender for other in recent)

    def mention(self, who: Character) -> None:
        who.introduced = True
        self.now.append(who)

    def named(self, who: Character) -> str:
        """The name of somebody who is known: Lily, Mom, her mom, the little fox."""
        if who.relation:
            parent = who.relation
            if parent in ("aunt", "uncle", "big sister", "big brother") or self.rng.random() < 0.4:
                hero = self.cast["h"]
                owner = "my" if hero.gender == "i" else PRONOUNS[hero.gender][2]
                if hero.gender != "i" and (
                    hero not in self.now + self.before or self.rivals(hero, self.now + self.before)
                ):
                    owner = f"{self.named(hero)}'s"
                return f"{owner} {parent}"
            return parent.capitalize()
        plain = f"the {who.kind}"
        if not who.name:
            if who.adjective and self.rng.random() < 0.2 and who.kind != "teacher":
                return f"the {who.adjective} {who.kind}"
            return plain
        alone = all(other is who or other.kind != who.kind for other in self.cast.values())
        if alone and who.kind not in ("girl", "boy") and self.rng.random() < 0.1:
            return plain
        return who.name

    def introduce(self, who: Character, hero: Character, short: bool) -> str:
        """The first mention of somebody; `short` where an `'s` follows."""
        rng = self.rng
        owner = "my" if hero.gender == "i" else None
        if owner is None:
            near = hero in self.now + self.before and not self.rivals(hero, self.now + self.before)
            owner = PRONOUNS[hero.gender][2] if near else f"{self.named(hero)}'s"
        if who is hero:
            return who.name or f"the {who.adjective} {who.kind}"
        if who.relation:
            return f"{owner} {who.relation}"
        if who.kind == "teacher" and not who.name:
            return "the teacher"
        adjective = rng.choice([who.adjective + " ", "", "", ""])
        if not who.name:
            return f"a {who.adjective} {who.kind}"
        if who.kind in ("girl", "boy"):
            forms = [f"{owner} friend {who.name}", f"{owner} friend {who.name}", f"a {adjective}{who.kind} named {who.name}",
                     f"{owner} best friend {who.name}", f"a {adjective}{who.kind} called {who.name}"]  # fmt: skip
        else:
            forms = [f"a {adjective}{who.kind} named {who.name}", f"{who.name} the {who.kind}", f"{owner} friend {who.name} the {who.kind}",
                     f"a {adjective}{who.kind} called {who.name}"]  # fmt: skip
        return (
            forms[0]
            if short and who.kind in ("girl", "boy")
            else rng.choice(forms[1:3] if short else forms)
        )

    def called(self, who: Character) -> str:
        """What others call somebody to the face."""
        if who.relation:
            return who.relation.split()[-1].capitalize()
        return who.name or who.voice or f"little {who.kind}"


AFTER_PATTERN = re.compile(r"\b(?:" + "|".join(AFTER) + r")(?=[.,])(?!,\")(?!\.\w)")
SAME_PATTERN = re.compile(
    r"\b(?:"
    + "|".join(re.escape(word) for word in sorted(SAME, key=len, reverse=True))
    + r")(?![\w.}])",
    re.IGNORECASE,
)
