"""Which known chat format a template writes, and what a model gets of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ollamapy.chat.template import Marks
from ollamapy.errors import (
    TemplateTooSlow,
)
from ollamapy.models.create.request import CreateRequest
from ollamapy.models.create.template import recognise
from ollamapy.registry.store import Store
from ollamapy.runner.render import Renderer
from tests.models.test_create import started, upload
from tests.small_models import CHATML

RECOGNISED = [
    (CHATML, "chatml"),
    (CHATML.replace("{% for", "{{ bos_token }}{% for", 1), "chatml"),
    (CHATML + "{# tools #}", ""),
    ("{% for m in messages %}{{ m.content }}{% endfor %}", ""),
    (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}{{ '<|assistant|>\n' }}",
        "phi-3",
    ),
    (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{# <|user|> #}",
        "zephyr",
    ),
    (
        "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token}}{% endif %}"
        "{% endfor %}",
        "mistral-instruct",
    ),
    ("{% raw %}<|im_start|><|im_end|>{% endraw %}{{ raise_exception('never') }}", ""),
    ("<|im_start|><|im_end|>{% for", ""),
]


@pytest.mark.parametrize(
    ("jinja", "name"), RECOGNISED, ids=[f"{i}" for i in range(len(RECOGNISED))]
)
def test_chat_formats_are_known_by_what_they_write(jinja: str, name: str) -> None:
    async def run() -> str:
        renderer = Renderer()
        found = await recognise(renderer, jinja, Marks("<s>", "</s>", adds_bos=True))
        await renderer.close()
        return found.name if found else ""

    assert asyncio.run(run()) == name


class _Halting(Renderer):
    """Its first renders take too long, as on a machine that stands still."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def render(self, *arguments: Any, **more: Any) -> str:
        self.times -= 1
        if self.times >= 0:
            raise TemplateTooSlow("the model's chat template took longer than 1 s")
        return await super().render(*arguments, **more)


@pytest.mark.parametrize(("times", "known"), [(1, True), (2, False)])
def test_a_machine_that_stands_still_changes_no_model(
    tmp_path: Path, scripted: Path, times: int, known: bool
) -> None:
    store = Store([tmp_path / "store"])
    request = CreateRequest("new", files=upload(store, m__gguf=scripted))

    async def run() -> list[str]:
        renderer = _Halting(times)
        try:
            return [each.status async for each in started(store, renderer, request).watch()]
        finally:
            await renderer.close()

    steps = asyncio.run(run())
    assert ("using autodetected template chatml" in steps) == known and steps[-1] == "success"
