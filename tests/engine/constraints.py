"""Requests with a constraint, run to their ends in one engine, and schemas of every kind."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, Refused, TextOut
from ollamapy.engine.grammar import Grammars
from ollamapy.engine.llama import Model
from ollamapy.engine.sequence import Sequence
from ollamapy.types import Constraint, Generation, Prompt, Sampling

GREEDY = Sampling(temperature=0)


class Asker:
    """Runs requests to their ends in one engine, several at once."""

    def __init__(self, model: Model, grammars: Grammars) -> None:
        self.model, self.grammars = model, grammars
        self.events: list[Event] = []
        for slot in range(model.n_slots):
            model.trim(slot, 0)
        self.engine = Engine(model, self.events.extend)

    def submit(
        self, id: int, constraint: Constraint | None, prompt: str = "ba ke", **generation: Any
    ) -> None:
        settings: dict[str, Any] = {"sampling": GREEDY, "num_predict": 200} | generation
        made = Generation(Prompt((prompt,)), constraint=constraint, **settings)
        grammar = self.grammars.compile(constraint) if constraint else None
        think = tuple(self.model.tokenize(made.think_end, add_special=False))
        tokens = self.model.tokenize(prompt)
        self.engine.submit(Sequence(id, tokens, made, grammar=grammar, think_end=think))

    def run(self) -> None:
        while self.engine.step(wait=False):
            pass

    def text(self, id: int = 1) -> str:
        return "".join(e.text for e in self.events if isinstance(e, TextOut) and e.id == id)

    def ending(self, id: int = 1) -> Finished | Refused:
        found = [e for e in self.events if isinstance(e, Finished | Refused) and e.id == id]
        (ending,) = found
        return ending


def answer(model: Model, grammars: Grammars, constraint: Constraint, **generation: Any) -> str:
    """What one request says; it must have ended by itself."""
    asker = Asker(model, grammars)
    asker.submit(1, constraint, **generation)
    asker.run()
    ending = asker.ending()
    assert isinstance(ending, Finished), ending
    assert ending.reason == "stop", asker.text()
    return asker.text()


def schema(value: Any) -> Constraint:
    return Constraint("schema", json.dumps(value))


FORMATS = jsonschema.FormatChecker(formats=["uuid", "ipv4"])  # the others know no year 0
SHORT = {"type": "string", "maxLength": 12}
SCHEMAS: dict[str, Any] = {
    "object": {
        "type": "object",
        "properties": {"name": SHORT, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
        "required": ["name", "age"],
    },
    "optional": {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}}},
    "array": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "tuple": {
        "type": "array",
        "prefixItems": [{"const": 1}, {"type": "null"}],
        "minItems": 2,
        "items": False,
    },
    "enum": {"enum": ["red", "green", 3, None, {"a": [1]}]},
    "const": {"const": {"x": [1, "zwei", False]}},
    "anyOf": {"anyOf": [{"type": "boolean"}, {"const": "neither"}]},
    "oneOf": {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]},
            {"type": "object", "properties": {"k": {"const": "b"}}, "required": ["k"]},
        ]
    },
    "allOf": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]},
            {"properties": {"b": {"type": "null"}}, "required": ["b"]},
        ],
        "additionalProperties": False,
        "properties": {"a": True, "b": True},
    },
    "ref": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "leaf": {"type": "boolean"},
                    "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/leaf"}]},
                },
                "required": ["leaf", "next"],
            },
            "leaf": {"type": "array", "maxItems": 0},
        },
    },
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time", "maxLength": 25},
    "uuid": {"type": "string", "format": "uuid"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "integer": {"type": "integer", "exclusiveMinimum": -5, "maximum": 7},
    "number": {"type": "number", "minimum": 0.5, "maximum": 0.75, "multipleOf": 0.25},
    "length": {"type": "string", "minLength": 3, "maxLength": 5},
    "types": {"type": ["boolean", "null"]},
    "closed": {"type": "object", "properties": {}, "additionalProperties": False},
    "keywords that only say something": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "T",
        "description": "d",
        "default": True,
        "examples": [True],
        "type": "boolean",
    },
}
