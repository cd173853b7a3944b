"""Chat formats that are in the world, each as a Go and as a Jinja template: the same prompts, and those of its makers.

The Go templates are the catalogue's (``library/formats``) and those that a GGUF's own template is recognised by
(``chat/formats.py``); the Jinja ones are written as models carry them. BOS is left out: tokenizing adds it.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ollamapy.chat import golang, jinja
from ollamapy.chat.formats import FORMATS
from ollamapy.config import builtin_library

TALKS = {
    "user": ["user"],
    "user-assistant-user": ["user", "assistant", "more"],
    "system-user-assistant-user": ["system", "user", "assistant", "more"],
}
TURNS = {
    "system": {"role": "system", "content": "S"},
    "user": {"role": "user", "content": "U"},
    "assistant": {"role": "assistant", "content": "A"},
    "more": {"role": "user", "content": "V"},
}


def marked(system: str, user: str, assistant: str, answer: str) -> str:
    """A Jinja template of three kinds of turns, "%" being what is said, and of the beginning of an answer."""

    def text(form: str) -> str:
        before, _, after = form.partition("%")
        return f"{{{{ {before!r} + message['content'] + {after!r} }}}}"

    return (
        "{% for message in messages %}"
        f"{{% if message['role'] == 'system' %}}{text(system)}"
        f"{{% elif message['role'] == 'user' %}}{text(user)}"
        f"{{% elif message['role'] == 'assistant' %}}{text(assistant)}{{% endif %}}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{{{{ {answer!r} }}}}{{% endif %}}"
    )


def folded(before: str, after: str, answer: str, end: str = "") -> str:
    """A Jinja template without turns of the system, whose text stands in the first user's."""
    return (
        "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}"
        "{% set loop_messages = messages[1:] %}{% else %}{% set system = '' %}"
        "{% set loop_messages = messages %}{% endif %}{% for message in loop_messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if message['role'] == 'user' %}"
        f"{{{{ {before!r} + (system if loop.index0 == 0 else '') + message['content'] + {after!r} }}}}"
        f"{{% else %}}{{{{ {answer.partition('%')[0]!r} + message['content'] + {answer.partition('%')[2]!r} }}}}"
        f"{{% endif %}}{{% endfor %}}{{{{ {end!r} if add_generation_prompt else '' }}}}"
    )


LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ (bos_token if loop.index0 else '') + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ROLES = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
LINES = (  # as people write it, one statement a line
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + END }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + END }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + END }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
CODELLAMA = (
    "{% for message in messages %}{{ 'Source: ' + message['role'] + '\\n\\n ' + message['content'] | trim + ' <step> ' }}"
    "{% endfor %}{{ 'Source: assistant\\nDestination: user\\n\\n ' }}"
)

WORLD: list[tuple[str, str, str]] = [
    ("chatml", ROLES,
     "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
     "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"),
    ("llama2", LLAMA2, "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]"),
    ("llama3", LLAMA3,
     "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    ("alpaca",
     marked("%\n\n", "### Instruction:\n%\n\n", "### Response:%</s>\n\n", "### Response:"),
     "S\n\n### Instruction:\nU\n\n### Response:A</s>\n\n### Instruction:\nV\n\n### Response:"),
    ("alpaca-llama3",
     marked("%\n\n", "### Instruction:\n%\n\n", "### Response:%<|end_of_text|>\n\n", "### Response:"),
     "S\n\n### Instruction:\nU\n\n### Response:A<|end_of_text|>\n\n### Instruction:\nV\n\n### Response:"),
    ("vicuna", marked("% ", "USER: %", " ASSISTANT: %</s>", " ASSISTANT:"),
     "S USER: U ASSISTANT: A</s>USER: V ASSISTANT:"),
    ("mistral-v1", folded(" [INST] ", " [/INST]", " %</s>"), " [INST] S\n\nU [/INST] A</s> [INST] V [/INST]"),
    ("mistral-v3", folded("[INST] ", "[/INST]", " %</s>"), "[INST] S\n\nU[/INST] A</s>[INST] V[/INST]"),
    ("mistral-tekken", folded("[INST]", "[/INST]", "%</s>"), "[INST]S\n\nU[/INST]A</s>[INST]V[/INST]"),
    ("gemma",
     folded("<start_of_turn>user\n", "<end_of_turn>\n", "<start_of_turn>model\n%<end_of_turn>\n", "<start_of_turn>model\n"),
     "<start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>user\nV<end_of_turn>\n"
     "<start_of_turn>model\n"),
    ("phi3", LINES.replace("END", "'<|end|>'"),
     "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nV<|end|>\n<|assistant|>\n"),
    ("phi2", marked("%\n", "Instruct: %\n", "Output: %\n", "Output:"), "S\nInstruct: U\nOutput: A\nInstruct: V\nOutput:"),
    ("zephyr", LINES.replace("END", "eos_token"),
     "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n"),
    ("zephyr-stablelm", LINES.replace("END", "'<|endoftext|>'"),
     "<|system|>\nS<|endoftext|>\n<|user|>\nU<|endoftext|>\n<|assistant|>\nA<|endoftext|>\n<|user|>\nV<|endoftext|>\n"
     "<|assistant|>\n"),
    ("openchat",
     marked("%<|end_of_turn|>", "GPT4 Correct User: %<|end_of_turn|>", "GPT4 Correct Assistant: %<|end_of_turn|>",
            "GPT4 Correct Assistant:"),
     "S<|end_of_turn|>GPT4 Correct User: U<|end_of_turn|>GPT4 Correct Assistant: A<|end_of_turn|>GPT4 Correct User: V"
     "<|end_of_turn|>GPT4 Correct Assistant:"),
    ("solar", marked("### System:\n%\n\n", "### User:\n%\n\n", "### Assistant:\n%\n\n", "### Assistant:\n"),
     "### System:\nS\n\n### User:\nU\n\n### Assistant:\nA\n\n### User:\nV\n\n### Assistant:\n"),
    ("neural-chat", marked("### System:\n%\n", "### User:\n%\n", "### Assistant:\n%\n", "### Assistant:\n"),
     "### System:\nS\n### User:\nU\n### Assistant:\nA\n### User:\nV\n### Assistant:\n"),
    ("starcoder2", marked("%\n\n", "### Instruction\n%\n\n", "### Response\n%<|endoftext|>", "### Response\n"),
     "S\n\n### Instruction\nU\n\n### Response\nA<|endoftext|>### Instruction\nV\n\n### Response\n"),
    ("granite-code", marked("System:\n%\n\n", "Question:\n%\n\n", "Answer:\n%\n\n", "Answer:\n"),
     "System:\nS\n\nQuestion:\nU\n\nAnswer:\nA\n\nQuestion:\nV\n\nAnswer:\n"),
    ("deepseek-llm",
     marked("%\n\n", "User: %\n\n", "Assistant: %<｜end▁of▁sentence｜>", "Assistant:"),
     "S\n\nUser: U\n\nAssistant: A<｜end▁of▁sentence｜>User: V\n\nAssistant:"),
    ("deepseek-coder",
     marked("%\n", "### Instruction:\n%\n", "### Response:\n%\n<|EOT|>\n", "### Response:\n"),
     "S\n### Instruction:\nU\n### Response:\nA\n<|EOT|>\n### Instruction:\nV\n### Response:\n"),
]  # fmt: skip
"""Name in the catalogue, the Jinja template, the prompt of the longest conversation."""

KNOWN: list[tuple[str, int, str]] = [
    ("chatml", 0, ROLES),
    ("llama3-instruct", 0, LLAMA3),
    ("llama2-chat", 0, LLAMA2),
    ("mistral-instruct", 0, folded("[INST] ", " [/INST]", "%</s>")),
    ("mistral-instruct", 1, folded("[INST] ", " [/INST]", "%</s> ")),
    ("mistral-instruct", 2, folded("[INST] ", "[/INST]", " %</s>")),
    ("gemma-instruct", 0, WORLD[9][1]),
    ("phi-3", 0, LINES.replace("END", "'<|end|>'")),
    ("zephyr", 0, LINES.replace("END", "eos_token")),
    ("zephyr", 1, LINES.replace("END", "'<|endoftext|>'")),
    ("openchat", 0, WORLD[14][1]),
    ("solar-instruct", 0, WORLD[15][1]),
    ("granite-instruct", 0, WORLD[18][1]),
    ("codellama-70b-instruct", 0, CODELLAMA),
]
"""Name in FORMATS, which of that name, the Jinja template."""


def talk(name: str) -> list[dict[str, Any]]:
    return [TURNS[each] for each in TALKS[name]]


def from_jinja(source: str, name: str) -> str:
    return jinja.render(source, talk(name), bos_token="<s>", eos_token="</s>")


def from_go(source: str, name: str) -> str:
    return golang.parse(source).execute(messages=talk(name))


@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize(
    ("form", "source"), [each[:2] for each in WORLD], ids=[w[0] for w in WORLD]
)
def test_both_languages_say_the_same(form: str, source: str, name: str) -> None:
    text = (builtin_library() / "formats" / f"{form}.yaml").read_text()
    assert from_go(yaml.safe_load(text)["template"], name) == from_jinja(source, name)


@pytest.mark.parametrize(
    ("source", "prompt"), [each[1:] for each in WORLD], ids=[w[0] for w in WORLD]
)
def test_it_is_what_the_makers_say(source: str, prompt: str) -> None:
    assert from_jinja(source, "system-user-assistant-user") == prompt


@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize(("form", "which", "source"), KNOWN, ids=[f"{k[0]}-{k[1]}" for k in KNOWN])
def test_what_is_recognised_says_the_same(form: str, which: int, source: str, name: str) -> None:
    known = [each for each in FORMATS if each.name == form][which]
    assert all(mark in source for mark in known.marks)
    assert from_go(known.go, name) == from_jinja(source, name)


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_every_known_format_is_sound(known: Any) -> None:
    words = ["first", "second", "third", "fourth"]
    roles = ["system", "user", "assistant", "user"]
    turns = [{"role": r, "content": w} for r, w in zip(roles, words, strict=True)]
    said = golang.parse(known.go).execute(messages=turns)
    places = [said.index(each) for each in words]
    assert places == sorted(places)
    assert any(stop in said for stop in known.stops)


@pytest.mark.parametrize("name", ["gemma-instruct", "mistral-instruct", "llama2-chat"])
def test_the_systems_text_is_a_turn_where_no_user_follows(name: str) -> None:
    """It would be lost: the format has no turn of its own for it."""
    for each in (each for each in FORMATS if each.name == name):
        template = golang.parse(each.go)
        system = {"role": "system", "content": "plain"}
        assert "plain" in template.execute(messages=[system])
        greeted = template.execute(messages=[system, TURNS["assistant"], TURNS["user"]])
        assert greeted.count("plain") == 1 and "A" in greeted


def test_the_systems_text_is_put_before_the_question_as_llama_cpp_does() -> None:
    before = [each.go for each in FORMATS if each.name == "gemma-instruct"]
    talk = [TURNS["system"], TURNS["user"]]
    prompts = [golang.parse(go).execute(messages=talk) for go in before]
    assert any("user\nS\nU<" in prompt for prompt in prompts)
