"""The path that checks a Modelfile before a model is created from it."""

from __future__ import annotations

from functools import partial

from ...models.create import text as modelfile
from ...models.threads import in_own_thread
from ...serving.services import Services
from .. import body
from ..call import Call, Path, Reply, json_answer
from ..ollama.wire import encode

LINT_FIELDS = {"modelfile": "string"}


def parse_lint(data: bytes) -> str:
    """The body of /api/lint. Raises InvalidRequest."""
    given = body.fields(body.decode(data), LINT_FIELDS, "LintRequest")
    text: str = given.get("modelfile", "")
    return text


async def _lint(services: Services, call: Call) -> Reply:
    text = await call.parse(parse_lint)
    store = services.models.store
    work = partial(modelfile.findings, text, lambda name: store.find(name) is not None)
    return json_answer(encode({"findings": await in_own_thread(work, "lint")}))


PATHS = (Path("/api/lint", "POST", _lint, "manage"),)
