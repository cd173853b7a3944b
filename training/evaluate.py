"""Measure the exported model: 210 samples from llama.cpp, judged by `judge.py`.

    python -m training.evaluate [--model build/tinystories.gguf]

80 samples start with nothing, 70 with story openings, 60 with other English. Sample n has seed n. Two settings: the
bare temperature 0.8 that the aims are stated for, and what a user gets (Ollama's defaults and the model's own
parameters). Writes build/evaluation.json with every sample. Needs llama-cpp-python, not PyTorch.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from llama_cpp import Llama

from training.judge import sentences, slips
from training.stories import story

BUILD = Path(__file__).parent / "build"
STORY_OPENINGS = (
    "Once upon a time|One day|Once upon a time, there was a little girl named Lily.|Tom was a brave boy.|Long ago,|"
    "There was a cat who|In a small town|It was raining.|Every morning, Mia|The old bear|Ben and his dog|A tiny mouse|"
    "Deep in the forest|Sam loved|The little robot was sad because|My dog likes|My name is Anna.|One night, the moon|"
    "Once there was a dragon|The sun was shining|Grandma had|Lucy wanted|Max the rabbit|In the garden|It was a cold day"
).split("|")
OTHER_OPENINGS = (
    "The astronaut opened|I think that|Yesterday my computer|What is|The king of the mountain|Nobody believed|"
    "Dear diary,|A banana|The train was late|Why do birds|She looked out of|They had never seen|Rain.|Hello|"
    "The scientist said|If I were|Two spoons|In 1969|Please help|The teapot wanted|Everything was quiet until|"
    "A purple elephant|When the music stopped|The last cookie|There is a house|Nothing ever happens|Look!|"
    "The clock struck twelve|My grandmother's hat|On the way to school"
).split("|")
SETTINGS = {
    "temperature 0.8": {
        "temperature": 0.8,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
    },
    "as installed": {
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.1,
        "repeat_penalty": 1.0,
    },
}


def prompts() -> list[str]:
    """The 210 beginnings."""
    return [""] * 80 + (STORY_OPENINGS * 3)[:70] + OTHER_OPENINGS * 2


def normal(sentence: str) -> str:
    """A sentence for comparison: no case, no punctuation, single blanks."""
    return " ".join(re.findall(r"[\w']+", sentence.lower()))


def training_sentences(count: int) -> set[str]:
    """Every sentence of the corpus."""
    return {normal(sentence) for seed in range(count) for sentence in sentences(story(seed))}


def own_sentences(prompt: str, text: str) -> list[str]:
    """The sentences that the model began itself: not the one that the prompt began."""
    whole = sentences(prompt + text)
    own, at = [], 0
    for sentence in whole:
        at = (prompt + text).index(sentence, at)
        if at >= len(prompt):
            own.append(sentence)
    return own


def measure(model: Llama, settings: dict[str, float], known: set[str]) -> dict[str, object]:
    """Sample every prompt and judge."""
    samples = []
    for seed, prompt in enumerate(prompts()):
        answer = model.create_completion(prompt, max_tokens=900, seed=seed, **settings)["choices"][
            0
        ]
        text = answer["text"]
        own = own_sentences(prompt, text)
        samples.append(
            {
                "seed": seed,
                "prompt": prompt,
                "text": text,
                "ended": answer["finish_reason"] == "stop",
                "slips": slips(prompt + text),
                "sentences": len(own),
                "new": sum(normal(s) not in known for s in own),
            }  # fmt: skip
        )
    groups = {
        "all": samples,
        "nothing": samples[:80],
        "story openings": samples[80:150],
        "other English": samples[150:],
    }
    return {"summary": {name: summary(group) for name, group in groups.items()}, "samples": samples}


def summary(samples: list[dict[str, object]]) -> dict[str, float]:
    """Shares over samples, and over all their sentences."""
    count = len(samples)
    total = sum(sample["sentences"] for sample in samples)
    return {
        "samples": count,
        "end": sum(sample["ended"] for sample in samples) / count,
        "consistent": sum(not sample["slips"] for sample in samples) / count,
        "new sentences": sum(sample["new"] for sample in samples) / total,
        "sentences per story": total / count,
    }


def baseline(count: int, known: set[str]) -> dict[str, float]:
    """The same measures on unseen stories of the generator: what a perfect pupil would reach."""
    texts = [story(70_000_000 + number) for number in range(count)]
    parts = [sentences(text) for text in texts]
    total = sum(map(len, parts))
    return {
        "consistent": sum(not slips(text) for text in texts) / count,
        "new sentences": sum(normal(s) not in known for part in parts for s in part) / total,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=BUILD / "tinystories.gguf")
    parser.add_argument(
        "--stories", type=int, default=40_000, help="stories of the training corpus"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    known = training_sentences(arguments.stories)
    print(f"{len(known):,} different sentences in training")
    report: dict[str, object] = {"generator": baseline(500, known)}
    print("generator", report["generator"])
    model = Llama(str(arguments.model), n_ctx=1024, n_threads=arguments.threads, verbose=False)
    for name, settings in SETTINGS.items():
        report[name] = measure(model, settings, known)
        for group, numbers in report[name]["summary"].items():
            print(f"{name:16} {group:15}", {key: round(value, 3) for key, value in numbers.items()})
    (BUILD / "evaluation.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
