"""Chat formats that many models share: their names, the Go template that writes each, and where an answer in it ends.

A GGUF file brings a Jinja template and no stops. When that template writes one of these formats, the format's Go template and
stops can be given to the model; so does Ollama, which compares texts, where here prompts are compared: `candidates` names the
formats whose marks a template has, `PROBES` are conversations, and a format is the right one if both templates make the same
prompts of them (the caller renders and compares; nothing is rendered here).

BOS is in none of the templates: tokenizing adds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..types import Message


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """One format. ``marks`` all occur in a Jinja template that writes it; ``stops`` end an answer."""

    name: str
    marks: tuple[str, ...]
    go: str
    stops: tuple[str, ...]

    @property
    def folds_system(self) -> bool:
        """Whether it has no turn for a system message, and puts it into the first user's."""
        return "$.System" in self.go


PROBES: tuple[tuple[Message, ...], ...] = (
    (
        Message("system", "Be plain."),
        Message("user", "What is red?"),
        Message("assistant", "A colour."),
        Message("user", "And blue?"),
    ),
    (Message("user", "What is red?"), Message("assistant", "A colour."), Message("user", "And?")),
    (Message("user", "What is red?"),),
)
"""The first one distinguishes most. A template that refuses it, because it has no system message, must match on the others."""

LONGEST = 16_384
"""Characters of a Jinja template that is looked at: what does more than write a format is longer, and none of these."""


def candidates(jinja: str) -> Iterator[ChatFormat]:
    """The formats that a Jinja template may be writing. A template with tools or thinking writes more than a format."""
    if len(jinja) > LONGEST or "tool" in jinja or "<think>" in jinja:
        return
    yield from (each for each in FORMATS if all(mark in jinja for mark in each.marks))


def _turns(system: str, user: str, assistant: str, end: str = "") -> str:
    """A Go template of three kinds of turns and the text before the answer."""
    return (
        '{{- range .Messages }}{{ if eq .Role "system" }}' + system + '{{ else if eq .Role "user" }}'
        + user + '{{ else if eq .Role "assistant" }}' + assistant + "{{ end }}{{ end }}" + end
    )  # fmt: skip


def _system_inside(before: str, between: str, after: str, answer: str) -> str:
    """A Go template of a format without a system role: the text is put into the first user turn, with ``between`` after it, and
    is a turn of its own where none of the user comes next."""
    alone = "{{ if and $first $.System }}" + before + "{{ $.System }}" + after + "{{ end }}"
    return (
        "{{- $first := true }}{{ range .Messages }}"
        '{{ if eq .Role "user" }}' + before
        + "{{ if and $first $.System }}{{ $.System }}" + between + "{{ end }}"
        "{{ $first = false }}{{ .Content }}" + after
        + '{{ else if eq .Role "assistant" }}' + alone + "{{ $first = false }}" + answer
        + "{{ end }}{{ end }}" + alone
    )  # fmt: skip


_IN_SYSTEM = "<<SYS>>\n{{ $.System }}\n<</SYS>>\n\n"

FORMATS: tuple[ChatFormat, ...] = (
    ChatFormat(
        "chatml",
        ("<|im_start|>", "<|im_end|>"),
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
        "<|im_start|>assistant\n",
        ("<|im_start|>", "<|im_end|>"),
    ),
    ChatFormat(
        "llama3-instruct",
        ("<|start_header_id|>", "<|eot_id|>"),
        "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n"
        "{{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>\n\n",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    ChatFormat(
        "llama2-chat",
        ("[INST]", "<<SYS>>"),
        "{{- $first := true }}{{ range $i, $turn := .Messages }}"
        '{{ if eq .Role "user" }}{{ if not $first }}<s>{{ end }}[INST] '
        "{{ if and $first $.System }}" + _IN_SYSTEM + "{{ end }}{{ $first = false }}"
        "{{ .Content }} [/INST]"
        '{{ else if eq .Role "assistant" }} {{ .Content }} </s>{{ end }}{{ end }}'
        "{{ if and $first $.System }}[INST] " + _IN_SYSTEM + " [/INST]{{ end }}",
        ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
    ),
    *(
        ChatFormat(
            "mistral-instruct", ("[INST]", "[/INST]"), _system_inside(*turns), ("[INST]", "[/INST]")
        )
        for turns in (
            ("[INST] ", "\n\n", " [/INST]", "{{ .Content }}</s>"),
            ("[INST] ", "\n\n", " [/INST]", "{{ .Content }}</s> "),
            ("[INST] ", "\n\n", "[/INST]", " {{ .Content }}</s>"),
            ("[INST] ", "\n", " [/INST]", "{{ .Content }}</s>"),
            ("[INST] ", "\n", " [/INST]", "{{ .Content }}</s> "),
            ("[INST] ", "\n", "[/INST]", " {{ .Content }}</s>"),
        )
    ),
    *(
        ChatFormat(
            "gemma-instruct",
            ("<start_of_turn>", "<end_of_turn>"),
            _system_inside(
                "<start_of_turn>user\n",
                between,
                "<end_of_turn>\n",
                "<start_of_turn>model\n{{ .Content }}<end_of_turn>\n",
            )
            + "<start_of_turn>model\n",
            ("<start_of_turn>", "<end_of_turn>"),
        )
        for between in ("\n\n", "\n")
    ),
    ChatFormat(
        "phi-3",
        ("<|assistant|>", "<|end|>"),
        "{{- range .Messages }}<|{{ .Role }}|>\n{{ .Content }}<|end|>\n{{ end }}<|assistant|>\n",
        ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
    ),
    ChatFormat(
        "zephyr",
        ("<|user|>", "<|assistant|>", "eos_token"),
        "{{- range .Messages }}<|{{ .Role }}|>\n{{ .Content }}</s>\n{{ end }}<|assistant|>\n",
        ("<|system|>", "</s>", "<|user|>", "<|assistant|>"),
    ),
    ChatFormat(
        "zephyr",
        ("<|user|>", "<|assistant|>"),
        "{{- range .Messages }}<|{{ .Role }}|>\n{{ .Content }}<|endoftext|>\n{{ end }}<|assistant|>\n",
        ("<|system|>", "<|endoftext|>", "<|user|>", "<|assistant|>"),
    ),
    ChatFormat(
        "openchat",
        ("GPT4 Correct",),
        _turns(
            "{{ .Content }}<|end_of_turn|>",
            "GPT4 Correct User: {{ .Content }}<|end_of_turn|>",
            "GPT4 Correct Assistant: {{ .Content }}<|end_of_turn|>",
            "GPT4 Correct Assistant:",
        ),
        ("<|end_of_turn|>",),
    ),
    ChatFormat(
        "openchat",
        ("GPT4 Correct", "title()"),
        "{{- range .Messages }}GPT4 Correct "
        '{{ if eq .Role "user" }}User{{ else if eq .Role "assistant" }}Assistant{{ else }}System{{ end }}'
        ": {{ .Content }}<|end_of_turn|>{{ end }}GPT4 Correct Assistant:",
        ("<|end_of_turn|>",),
    ),
    ChatFormat(
        "solar-instruct",
        ("### System", "### User"),
        _turns(
            "### System:\n{{ .Content }}\n\n",
            "### User:\n{{ .Content }}\n\n",
            "### Assistant:\n{{ .Content }}\n\n",
            "### Assistant:\n",
        ),
        ("### System:", "### User:", "### Assistant:"),
    ),
    ChatFormat(
        "starcoder2-instruct",
        ("### Instruction", "### Response"),
        _turns(
            "{{ .Content }}\n\n",
            "### Instruction\n{{ .Content }}\n\n",
            "### Response\n{{ .Content }}<|endoftext|>\n\n",
            "### Response\n",
        ),
        ("### Instruction", "### Response", "<|endoftext|>"),
    ),
    ChatFormat(
        "alpaca",
        ("### Instruction:", "### Response:"),
        _turns(
            "{{ .Content }}\n\n",
            "### Instruction:\n{{ .Content }}\n\n",
            "### Response:\n{{ .Content }}\n\n",
            "### Response:\n",
        ),
        ("### Instruction:", "### Response"),
    ),
    ChatFormat(
        "alpaca",
        ("### Instruction:", "### Response:", "<|EOT|>"),
        _turns(
            "{{ .Content }}",
            "### Instruction:\n{{ .Content }}\n",
            "### Response:\n{{ .Content }}\n<|EOT|>\n",
            "### Response:",
        ),
        ("### Instruction:", "### Response", "<|EOT|>"),
    ),
    ChatFormat(
        "magicoder",
        ("@@ Instruction", "@@ Response"),
        _turns(
            "{{ .Content }}\n\n",
            "@@ Instruction\n{{ .Content }}\n\n",
            "@@ Response\n{{ .Content }}\n\n",
            "@@ Response\n",
        ),
        ("@@ Instruction", "@@ Response"),
    ),
    ChatFormat(
        "granite-instruct",
        ("Question:", "Answer:"),
        _turns(
            "System:\n{{ .Content }}\n\n",
            "Question:\n{{ .Content }}\n\n",
            "Answer:\n{{ .Content }}\n\n",
            "Answer:\n",
        ),
        ("System:", "Question:", "Answer:"),
    ),
    ChatFormat(
        "command-r",
        ("<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        _turns(
            "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{{ .Content }}<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{ .Content }}<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{{ .Content }}<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ),
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    ),
    ChatFormat(
        "chatqa",
        ("User: ", "Assistant:"),
        _turns(
            "{{ .Content }}\n\n",
            "User: {{ .Content }}\n\n",
            "Assistant: {{ .Content }}\n\n",
            "Assistant:",
        ),
        ("System:", "User:", "Assistant:"),
    ),
    ChatFormat(
        "falcon-instruct",
        ("User:", "Assistant:"),
        _turns(
            "{{ .Content }}\n\n",
            "User: {{ .Content }}\n\n",
            "Assistant: {{ .Content }}\n",
            "Assistant:",
        ),
        ("User:", "Assistant:"),
    ),
    ChatFormat(
        "codellama-70b-instruct",
        ("Source:", "<step>"),
        "{{- range .Messages }}Source: {{ .Role }}\n\n {{ .Content }} <step> {{ end }}"
        "Source: assistant\nDestination: user\n\n ",
        ("Source:", "Destination:", "<step>"),
    ),
    ChatFormat(
        "alfred",
        ("<start_user>", "<end_message>"),
        "{{- range .Messages }}<start_{{ .Role }}>{{ .Content }}<end_message>{{ end }}<start_assistant>",
        ("<start_system>", "<end_message>", "<start_user>", "<start_assistant>"),
    ),
)
