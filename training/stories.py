"""Generate children's stories from the grammar in `grammar/`: the corpus of the built-in model.

`story(seed)` is one story as text, the same for the same seed on every machine. A story is a hero with friends,
an opening, a plot (beginning, problem, way out, end) and a moral. Names and pronouns are not written by the
plots but by `Teller`, which knows who was mentioned last and uses a pronoun only where it can mean one alone.

Not here: tokens, files of training data (`tokenizer.py`, `train.py`). Standard library only.

The grammar's notation, in the order in which it is worked off:

    [a|b|]        one of the alternatives, which may nest
    <rule>        one entry of words.txt, then expanded in turn
    @f:sad Text.  somebody speaks, with a mood; `@@f` does the same in the middle of a beat
    {toy}         a thing that stays the same through the whole story
    {h} {h.o} {h.s}      a character as subject, object, owner: name or pronoun, whichever is clear
    {h.n} {h.he} {h.his} the name, or the pronoun, whatever was mentioned before
"""

from __future__ import annotations

import argparse
import random
import re

from training.cast import Character, cast, invented_kind
from training.lexicon import ACTS, AHEAD, MEANWHILE, PETS, PLACES
from training.plots import Plot, morals, openings, plots, split, words
from training.teller import Teller


def things(rng: random.Random, expand: Teller) -> dict[str, str]:
    """What stays the same through a story: the toy, the place, the food, the pet."""
    place = rng.choice(PLACES)
    bare = place.split(" ", 1)[1]
    act = rng.choice(ACTS)
    noun = rng.choice(words()["toynoun"]) if rng.random() < 0.85 else rng.choice(words()["noun"])
    toy = (
        expand.expand(f"[<adj>|<adj>|<color>|<look> <color>] {noun}")
        if rng.random() < 0.85
        else noun
    )
    if rng.random() < 0.01:
        noun = invented_kind(rng)
        toy = f"{rng.choice(words()['color'])} {noun}"
    foods = expand.expand("<foods>")
    food = expand.expand("<food>")
    return {
        "toy": toy, "toy.noun": noun, "at": place, "to": f"to {bare}", "place": bare, "food": food, "foods": foods,
        "food.a": f"a {food}", "act": act[0], "act.past": act[1], "act.ing": act[2],
        "color": expand.expand("<color>"), "brk": expand.expand("<thingbreak>"), "pet": expand.expand("<pet>"),
        "pn": rng.choice(PETS), "skill": "",
    }  # fmt: skip


def opening(teller: Teller, hero: Character) -> str:
    """The first sentences: the world first, in every fourth story, then the hero."""
    rng, told = teller.rng, []
    kind = (
        "i"
        if hero.gender == "i"
        else "child"
        if hero.kind in ("girl", "boy")
        else "named"
        if hero.name
        else "plain"
    )
    if rng.random() < 0.12:
        told.append(teller.beat(rng.choice(openings()["world"])))
        hero.introduced = True
        return " ".join(told)
    if rng.random() < 0.2:
        told.append(teller.beat(rng.choice(openings()["any"])))
        if rng.random() < 0.25 and hero.kind in ("girl", "boy"):
            hero.introduced = True
            return " ".join(told)
    told.append(teller.beat(rng.choice(openings()[kind])))
    hero.introduced = True
    if kind != "i" and rng.random() < 0.3:
        told.append(teller.beat(rng.choice(DETAILS)))
    return " ".join(told)


DETAILS = [
    "{h} was <trait> and <trait>.",
    "{h} <love> <foods>[| and <foods>].",
    "{h} <love> to {act}[| and to look at <critters>].",
    "{h} lived [in <town>|near a <adj> <noun>] with {h.his} [family|friends|<adj> <toynoun>].",
    "Everyone [liked|knew] {h.o} because {h.he} was so <trait>.",
    "{h.his} favorite color was <color>.",
    "{h} had <color> eyes and a <adj> [hat|bag|scarf|smile].",
    "Every [day|morning], {h} looked at the <adj> <noun> [on the hill|by the road|near the house].",
]


def hook(teller: Teller, plot: Plot, hero: Character) -> str:
    """A beginning that starts with the feeling: `The little robot was sad because ...`."""
    mood, clause = plot.why
    first = f"{{h}} was [very |so ||]{mood}"
    if mood in words()["feelbad"] or mood == "sad":
        first = f"{{h}} [was|was|felt] [very |so ||]{mood}"
    who = teller.rng.choice(["", "", "", "{when}, "]).replace("{when}", teller.expand("<time>"))
    told = [teller.beat(f"{who}{first} because {clause}.")]
    if hero.gender != "i" and teller.rng.random() < 0.5:
        kind = (
            "{h.he} was a <trait> [little|young|] {h.k}."
            if hero.name
            else "{h.he} lived [in <town>|near a <adj> <noun>]."
        )
        told.append(teller.beat(kind))
    return " ".join(told)


def ending(teller: Teller, plot: Plot) -> str:
    """The moral, in one or two sentences, and sometimes a last look."""
    rng, moral, told = teller.rng, morals()[plot.moral], []
    that, always = rng.choice(moral["that"]), rng.choice(moral["always"])
    lesson = [
        f"{{h}} [learned|had learned|understood|now knew|never forgot|found out] that {that}.",
        f"That day, {{h}} learned that {that}.",
        f"And so {{h}} learned [a good lesson|an important lesson|something new]: {that}.",
    ]
    if teller.cast["p"].introduced:
        lesson += [f"@p [Remember|You see|See], {that}.", f"@p Now you know that {that}."]
    habit = [
        f"[From that day on|After that day|From then on|Since that day|Ever after], {{h}} {always}."
    ]
    last = [
        "That night, {h} <sleep>.",
        "[It was|What] a <verynice> day.",
        "The end.",
        "And {h} was <feelgood>.",
        "{h} went home [with a smile|happily|and told everyone about it|and had some <foods>].",
        "And [if you listen closely|on quiet days|sometimes], you can still hear {h.o} laugh.",
        "The <adj> <noun> [shone in the sun|was quiet again|looked even more beautiful now].",
        "<weather>, and everything was good.",
        "Everyone was <feelgood>.",
    ]
    if last and teller.cast["f"].introduced:
        last += ["And {both} [were|stayed] [friends|best friends] [forever|from that day on|for a long, long time].",
                 "{both} {act.past} until [the sun went down|it was dark|dinner time]."]  # fmt: skip
    roll = rng.random()
    choice = (
        [lesson, habit]
        if roll < 0.3
        else [lesson, last]
        if roll < 0.55
        else [habit, last]
        if roll < 0.75
        else [lesson]
        if roll < 0.9
        else [habit]
    )
    for options in choice:
        text = rng.choice(options)
        told.append(teller.beat(text))
    return " ".join(told)


def tell(seed: int) -> tuple[str, dict[str, Character], Plot]:
    """One story with its cast and its plot."""
    rng = random.Random(f"story-{seed}")
    plot = rng.choice(plots())
    people = cast(plot, rng)
    teller = Teller(rng, people, plot.indoors)
    teller.things.update(things(rng, teller))
    teller.things["skill"] = teller.resolve(teller.expand("<skill>"))
    hero = people["h"]
    teller.now, teller.before = [], []
    hero.introduced = False
    paragraphs: list[list[str]] = []
    parts = list(plot.parts)
    if plot.why[0] and rng.random() < 0.14:
        first = [hook(teller, plot, hero)]
        parts = parts[2:]
        rest = " ".join(w for part in parts for _, ws in part for w in ws)
        if "{toy}" in rest and "{toy}" not in plot.why[1]:
            first.append(teller.beat("{h} had a {toy}."))
        paragraphs.append(first)
    else:
        paragraphs.append([opening(teller, hero)])
    for number, part in enumerate(parts):
        told = []
        wordings = [rng.choice(ws) for optional, ws in part if not optional or rng.random() < 0.6]
        for wording in joined([vary(rng, w, number, plot.indoors) for w in wordings], rng):
            told.append(teller.beat(wording))
            if rng.random() < 0.09:
                filler = (
                    words()["fill_in" if plot.indoors else "fill_out"]
                    if rng.random() < 0.6
                    else words()["fill_feel"]
                )
                told.append(teller.beat(rng.choice(filler)))
        if number == 0 and rng.random() < 0.6 and len(parts) == 4:
            paragraphs[-1] += told
        else:
            paragraphs.append(told)
    closing = ending(teller, plot)
    if rng.random() < 0.5:
        paragraphs[-1].append(closing)
    else:
        paragraphs.append([closing])
    return layout(paragraphs, rng), people, plot


# A wording that is one plain sentence: no speech, no quotation, nothing after its full stop.
STILL = re.compile(
    r"\b(?:was|were|had|not|could|wanted|felt|thought|love|liked|knew|gave|learned|while|never|always|until|every|when|that|forgot)\b|\b(?:in|out|up|down|at|away|off|back)\.$|<where"
)
PLAIN = re.compile(r"[^@\"!?.:]*(?:\{\w+\.\w+\}[^@\"!?.:]*)*\.")
BEGINS = re.compile(
    r"\{(?:h|f|p|x|both|they|h\.his|h\.s|x\.k)\} |The |It was |There was |They |Slowly, "
)


def vary(rng: random.Random, wording: str, part: int, indoors: bool) -> str:
    """Sometimes `After a while,` before a sentence and `while a bird sang` behind it."""
    if not PLAIN.fullmatch(wording):
        return wording
    if part >= 1 and BEGINS.match(wording) and rng.random() < 0.25:
        start = wording if wording[0] == "{" else wording[0].lower() + wording[1:]
        wording = rng.choice(AHEAD) + start
    if (
        part >= 1
        and len(wording) < 90
        and re.match(r"(?:\w+,? )*\{(?:h|f|both|p)\} ", wording)
        and rng.random() < 0.2
        and not STILL.search(wording)
    ):
        wording = f"{wording[:-1]} {rng.choice(split(MEANWHILE[indoors], '|')).strip()}."
    return wording


def joined(wordings: list[str], rng: random.Random) -> list[str]:
    """Sometimes two plain sentences become one."""
    out: list[str] = []
    for wording in wordings:
        plain = PLAIN.fullmatch(wording) and re.match(
            r"\{|The |It |There |They |Nobody |Everyone |Then |Soon |But ", wording
        )
        if (
            out
            and plain
            and PLAIN.fullmatch(out[-1])
            and len(out[-1]) + len(wording) < 150
            and rng.random() < 0.33
        ):
            if wording.startswith("But "):
                out[-1] = f"{out[-1][:-1]}, but {wording[4:]}"
            else:
                start = wording if wording[0] == "{" else wording[0].lower() + wording[1:]
                out[-1] = f"{out[-1][:-1]}, and {start}"
        else:
            out.append(wording)
    return out


def layout(paragraphs: list[list[str]], rng: random.Random) -> str:
    """Join sentences, mend `a`/`an` and capital letters."""
    mark = "\n\n" if rng.random() < 0.75 else " "
    text = mark.join(" ".join(part for part in told if part) for told in paragraphs if told)
    text = re.sub(r"[ ]{2,}", " ", text)
    text = re.sub(r"([.!?]\")\.", r"\1", text)
    text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU])(?!one\b|uni|use|yo)", r"\1n ", text)
    # A new sentence begins after a full stop, not after a quotation that ends in a mark: `"Why?" asked Tom.`
    text = re.sub(r"([.!?]\s+\"?|[,:] \")([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)
    return text.strip()


def story(seed: int) -> str:
    """One story; the same seed gives the same story."""
    return tell(seed)[0]


def main() -> None:
    """Print stories: `python -m training.stories --seed 1 --count 3`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1)
    arguments = parser.parse_args()
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        print(story(seed), end="\n\n---\n\n")


if __name__ == "__main__":
    main()
