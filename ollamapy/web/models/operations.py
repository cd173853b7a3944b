"""Our own paths about models as the OpenAPI document describes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ... import errors
from ...registry import hub_search
from ...registry.hub_search import HubModel
from ...serving.options import OptionInfo
from ...serving.presets import Preset
from ...types import Progress
from ..schema import (
    INTEGER,
    JSON,
    MODEL,
    NATIVE_ERROR,
    NDJSON,
    NULL,
    OBJECT,
    REQUEST,
    TEXT,
    Operation,
    any_of,
    array,
    record,
    ref,
    schema_of,
    tree,
)  # fmt: skip
from . import modelfiles, presets
from .wire import JobState

STRUCTS = (HubModel, JobState, OptionInfo, Preset)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/api/catalogue"): Operation(
        "Search the catalogue, or list all of it",
        {JSON: record({"free": INTEGER, "families": array(record({"name": TEXT, "about": TEXT, "models": array(OBJECT)}))})},
        raises=(errors.InvalidRequest, errors.InvalidCatalog),
        query={"q": TEXT},
    ),
    ("GET", "/api/hub"): Operation(
        "Search the hub for repositories with GGUF files, the most downloaded first",
        {JSON: record({"models": array(ref(HubModel))})},
        raises=(errors.InvalidRequest, errors.ServerBusy, *tree(errors.TransferError)),
        query={"q": TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": hub_search.MOST}},
    ),
    ("GET", "/api/remote"): Operation(
        "Details of a remote model, and the memory that each of its quantizations needs, without downloading it",
        {JSON: record({"name": TEXT, "details": OBJECT, "size": INTEGER, "free": INTEGER, "fits": array(OBJECT)})},
        raises=(errors.InvalidRequest, errors.InvalidName, errors.InvalidModel, errors.ServerBusy, *tree(errors.TransferError)),
        query={"model": TEXT},
    ),
    ("GET", "/api/jobs"): Operation(
        "The running pulls, pushes and creations, and those that ended lately", {JSON: record({"jobs": array(ref(JobState))})}
    ),
    ("GET", "/api/jobs/{id}"): Operation("One job", {JSON: ref(JobState)}, raises=(errors.JobNotFound,)),
    ("DELETE", "/api/jobs/{id}"): Operation(
        "Cancel a running job, forget an ended one", None, raises=(errors.JobNotFound,), statuses={204: "done"}
    ),
    ("GET", "/api/jobs/{id}/steps"): Operation(
        "The steps of a job from the first on, a line each, until it ends", {NDJSON: any_of(ref(Progress), NATIVE_ERROR)},
        raises=(errors.JobNotFound,),
    ),
    ("POST", "/api/lint"): Operation(
        "Check a Modelfile whose FROM names a model",
        {JSON: record({"findings": array(record(
            {"line": INTEGER, "column": INTEGER, "severity": {"enum": ["error", "warning"]}, "message": TEXT}
        ))})},
        schema_of(modelfiles.LINT_FIELDS, ["modelfile"]),
        REQUEST,
    ),
    ("GET", "/api/options"): Operation(
        "The options of a model with their defaults and ranges",
        {JSON: record(
            {"model": TEXT, "capabilities": array(TEXT), "system": TEXT, "context_length": any_of(INTEGER, NULL),
             "think_levels": array(TEXT), "options": array(ref(OptionInfo))}
        )},
        raises=(errors.InvalidRequest, *MODEL),
        query={"model": TEXT},
    ),
    ("GET", "/api/cache"): Operation(
        "What computed prompts take on the disk, by model",
        {JSON: record({"size": INTEGER, "budget": INTEGER, "models": array(record(
            {"digest": TEXT, "names": array(TEXT), "files": INTEGER, "size": INTEGER, "used": TEXT}
        ))})},
        raises=(errors.StoreError,),
    ),
    ("DELETE", "/api/cache"): Operation(
        "Delete the computed prompts of a model, or all",
        {JSON: record({"files": INTEGER, "size": INTEGER})},
        raises=(errors.InvalidRequest, *MODEL),
        query={"model": TEXT},
    ),
    ("GET", "/api/presets"): Operation(
        "The caller's presets", {JSON: record({"presets": array(ref(Preset))})}, raises=(errors.StoreError,)
    ),
    ("PUT", "/api/presets/{name}"): Operation(
        "Keep a preset under a name", {JSON: ref(Preset)}, schema_of(presets.FIELDS), (*REQUEST, errors.StoreError)
    ),
    ("DELETE", "/api/presets/{name}"): Operation(
        "Delete a preset", None, raises=(errors.InvalidRequest, errors.PresetNotFound, errors.StoreError), statuses={204: "done"}
    ),
}  # fmt: skip
