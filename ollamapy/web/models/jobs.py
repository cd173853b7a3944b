"""The paths of jobs: list running and ended ones, follow one, end one. They are begun by /api/pull, /api/push and /api/create."""

from __future__ import annotations

from starlette.responses import Response

from ...serving.services import Services
from ..call import Call, Path, Reply, json_answer
from ..ollama import wire as ollama
from ..ollama.paths import last_line
from ..stream import Lines
from . import wire


async def _jobs(services: Services, call: Call) -> Reply:
    return json_answer(ollama.encode({"jobs": list(map(wire.job, services.jobs.known()))}))


async def _job(services: Services, call: Call) -> Reply:
    return json_answer(ollama.encode(wire.job(services.jobs.find(call.path["id"]))))


async def _steps(services: Services, call: Call) -> Reply:
    job = services.jobs.find(call.path["id"])
    return Lines(services.jobs.watch(job), ollama.encode, failed=last_line)


async def _end(services: Services, call: Call) -> Reply:
    services.jobs.end(call.path["id"])
    return Response(status_code=204)


PATHS = (
    Path("/api/jobs", "GET", _jobs, "manage"),
    Path("/api/jobs/{id}", "GET", _job, "manage"),
    Path("/api/jobs/{id}", "DELETE", _end, "manage"),
    Path("/api/jobs/{id}/steps", "GET", _steps, "manage"),
)
