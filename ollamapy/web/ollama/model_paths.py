"""The paths of Ollama's API for stored models: list, show, create, copy, pull, push, delete, blobs.

Writes to the store may wait for its lock or the disk: they run in a thread of their own; short reads use asyncio's threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from starlette.responses import FileResponse, Response

from ...errors import ModelNotFound, OllamapyError
from ...models import blobs
from ...models.job import Job
from ...models.threads import in_own_thread
from ...registry.manifest import MANIFEST_TYPE
from ...secret import NONCE, PROOF, is_proof, read_secret
from ...serving.answer import lease_request
from ...serving.services import Services
from ...types import Progress
from ..call import JSON, PLAIN_JSON, Call, Path, Reply, json_answer, plain_json_answer
from ..models import wire as job_wire
from ..stream import Lines, drop_rest
from . import model_wire, wire
from .create import parse_create
from .paths import last_line


async def _tags(services: Services, call: Call) -> Reply:
    return json_answer(wire.encode_tags(await services.models.list()))


async def _show(services: Services, call: Call) -> Reply:
    parsed = await call.parse(wire.parse_show)
    spec, shown = await services.models.show(
        parsed.model,
        verbose=parsed.verbose,
        system=parsed.system,
        options=parsed.options,
        user_agent=call.headers.get("user-agent", ""),
    )
    context = services.scheduler.context_of(lease_request(spec, spec.options))
    return json_answer(wire.encode({**shown, "effective_context_length": context}))


async def _delete(services: Services, call: Call) -> Reply:
    text, name = await call.parse(model_wire.parse_delete)
    try:
        await in_own_thread(partial(services.models.store.delete, name), "delete")
    except ModelNotFound:
        raise ModelNotFound(f"model '{text}' not found") from None
    return Response()


async def _copy(services: Services, call: Call) -> Reply:
    text, source, destination = await call.parse(model_wire.parse_copy)
    try:
        await in_own_thread(partial(services.models.store.copy, source, destination), "copy")
    except ModelNotFound:
        raise ModelNotFound(f'model "{text}" not found') from None
    return Response()


async def _create(services: Services, call: Call) -> Reply:
    parsed = await call.parse(parse_create)
    if parsed.background:
        return _accepted(services.jobs.keep_create(parsed.request, is_local=call.caller.is_local))
    steps = services.jobs.create(parsed.request, is_local=call.caller.is_local)
    return await _job_reply(steps, parsed.stream)


async def _pull(services: Services, call: Call) -> Reply:
    parsed = await call.parse(partial(model_wire.parse_pull, is_local=call.caller.is_local))
    request = replace(parsed.request, is_owner=await _is_owner(services, call))
    if parsed.background:
        return _accepted(services.jobs.keep_pull(request))
    return await _job_reply(services.jobs.pull(request), parsed.stream)


async def _push(services: Services, call: Call) -> Reply:
    parsed = await call.parse(partial(model_wire.parse_push, is_local=call.caller.is_local))
    request = replace(parsed.request, is_owner=await _is_owner(services, call))
    return await _job_reply(services.jobs.push(request), parsed.stream)


async def _is_owner(services: Services, call: Call) -> bool:
    """Whether the caller has proven that it knows the secret of the daemon's user."""
    nonce, given = call.headers.get(NONCE), call.headers.get(PROOF)
    if not nonce or not given:
        return False
    secret = await asyncio.to_thread(read_secret, services.settings.paths.secret)
    return secret is not None and is_proof(given, secret, "client", nonce, call.server)


async def _has_blob(services: Services, call: Call) -> Reply:
    found = await asyncio.to_thread(services.models.store.has, call.path["digest"])
    return Response() if found else Response(status_code=404, media_type=JSON)


async def _receive_blob(services: Services, call: Call) -> Reply:
    # Our header has the bytes of all files of a model, so that a disk that is too small is detected at the first
    headers = [call.headers.get(name, "") for name in ("content-length", "ollamapy-bytes-to-come")]
    digits = [each for each in headers if each.isascii() and each.isdigit() and len(each) < 100]
    sizes = [int(each) for each in digits]
    size = max(sizes, default=None)
    new = await blobs.receive(services.models.store, call.path["digest"], call.parts, size)
    if not new:
        await drop_rest(call.parts)
    return Response(status_code=201 if new else 200)


async def _served_manifest(services: Services, call: Call) -> Reply:
    find = partial(blobs.served_manifest, services.models.store)
    content, digest = await asyncio.to_thread(find, call.path["repository"], call.path["tag"])
    headers = {"Docker-Content-Digest": f"sha256:{digest}"}
    return Response(content, headers=headers, media_type=MANIFEST_TYPE)


async def _served_blob(services: Services, call: Call) -> Reply:
    find = partial(blobs.served_blob, services.models.store)
    path = await asyncio.to_thread(find, call.path["repository"], call.path["digest"])
    return FileResponse(path, media_type="application/octet-stream")


def _accepted(job: Job) -> Reply:
    """The job that goes on after the answer."""
    return Response(wire.encode(job_wire.job(job)), 202, media_type=JSON)


async def _job_reply(steps: AsyncGenerator[Progress, None], stream: bool) -> Reply:
    """The steps of a job, each as a line, or only the last one; Ollama sends that with a media type without charset."""
    if stream:
        return Lines(steps, wire.encode, failed=last_line)
    try:
        async with aclosing(steps):
            *_, last = [step async for step in steps]
    except OllamapyError as error:
        return Response(last_line(error), error.status, media_type=PLAIN_JSON)
    return plain_json_answer(wire.encode(last))


PATHS = (
    Path("/api/tags", "GET", _tags, "infer"),
    Path("/api/show", "POST", _show, "infer"),
    Path("/api/delete", "DELETE", _delete, "manage"),
    Path("/api/create", "POST", _create, "manage"),
    Path("/api/pull", "POST", _pull, "manage"),
    Path("/api/push", "POST", _push, "manage"),
    Path("/api/copy", "POST", _copy, "manage"),
    Path("/api/blobs/{digest}", "HEAD", _has_blob, "manage"),
    Path("/api/blobs/{digest}", "POST", _receive_blob, "manage", in_parts=True),
)

SERVED_PATHS = (
    Path("/v2/{repository:path}/manifests/{tag}", "GET", _served_manifest, "infer"),
    Path("/v2/{repository:path}/blobs/{digest}", "GET", _served_blob, "infer"),
)
"""More paths, of a daemon that serves its models to other machines."""
