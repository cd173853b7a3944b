"""The registry protocol of Ollama and every OCI host: a model's manifest and the addresses of its blobs.

    GET {endpoint}/v2/{namespace}/{model}/manifests/{tag}       JSON, kept byte for byte
    GET {endpoint}/v2/{namespace}/{model}/blobs/sha256:{hex}    mostly a redirect (see download.py)

Requests are anonymous or carry a token; a registry may name a token server, but only on its own host.
Names show hf.co, requests go to huggingface.co: they are one registry. A manifest is limited in size
and validated like those in the store; models that run only in the cloud or need another engine are
refused here, before anything is downloaded.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from ..config import HubSettings
from ..errors import InvalidModel, RemoteNotFound, TransferError, Unauthorized
from ..names import DEFAULT_HOST, DEFAULT_NAMESPACE, Name
from .addresses import origin
from .http import Access, BrokenConnection, Response, Session
from .hub import access_of
from .manifest import MANIFEST_TYPE, MAX_MANIFEST, Layer, Manifest, parse_manifest
from .patience import Patience, ask, ask_json
from .probe import read_small
from .refusal import refusal, server_message, unreachable
from .remote import RemoteFile

HUB_HOSTS = ("hf.co", "huggingface.co")

_ACCEPT = f"{MANIFEST_TYPE}, application/vnd.oci.image.manifest.v1+json;q=0.9"
_MAX_TOKEN = 64 * 1024
_PARAMETER = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model in a registry: its manifest, as bytes and parsed, and how to fetch its blobs.

    `files` are the layers and the configuration, each digest once, as `download.fetch` takes them.
    """

    content: bytes
    manifest: Manifest
    files: tuple[RemoteFile, ...]
    access: Access

    def file(self, layer: Layer) -> RemoteFile:
        """The remote file of a layer."""
        return next(each for each in self.files if each.path == layer.digest)


def registry_access(
    name: Name,
    hub: HubSettings,
    *,
    authorization: str = "",
    insecure: bool = False,
    is_local: bool = True,
) -> Access:
    """How to reach the registry of a name; with `insecure` over http, as Ollama does.

    The hub's token goes to the hub alone; `authorization` (see `bearer`, `basic`) to any other. A caller
    on another machine (`is_local` False) reaches public registries only.
    """
    if name.host.lower() in HUB_HOSTS:
        return access_of(hub)
    guarded = not is_local and name.host.lower() != DEFAULT_HOST
    scheme = "http" if insecure and (is_local or guarded) else "https"
    return Access(f"{scheme}://{name.host}", authorization, offline=hub.offline, guarded=guarded)


def bearer(token: str) -> str:
    """The Authorization header of a token."""
    return f"Bearer {token}"


def basic(user: str, password: str) -> str:
    """The Authorization header of a user."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")


def list_files(name: Name, access: Access, patience: Patience | None = None) -> PublishedModel:
    """The manifest of a model and its files: one request, or three if a token is needed.

    Raises TransferError and its children, InvalidModel for an invalid manifest or a model that cannot
    run here.
    """
    patience = patience or Patience()
    base = f"{access.endpoint}/v2/{name.namespace}/{name.model}"
    url = f"{base}/manifests/{name.tag}"
    with Session(access) as session:
        response = ask(session, url, patience, headers={"Accept": _ACCEPT})
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status != 401 or not challenge.lower().startswith("bearer "):
            content = _content(response, access, name)
            return _model(name, content, base, access, patience)
        response.drain()
        access = replace(access, authorization=bearer(token_for(session, challenge, patience)))
    with Session(access) as session:
        response = ask(session, url, patience, headers={"Accept": _ACCEPT})
        content = _content(response, access, name)
    return _model(name, content, base, access, patience)


def _content(response: Response, access: Access, name: Name) -> bytes:
    if response.status != 200:
        raise _refusal(response, access, name)
    try:
        return response.content(MAX_MANIFEST)
    except BrokenConnection as error:
        raise unreachable(access.host, str(error)) from None


def token_for(session: Session, challenge: str, patience: Patience) -> str:
    """A token from the registry's token server, which must be on the registry's own host: it gets the password."""
    access = session.access
    parameters = dict(_PARAMETER.findall(challenge))
    realm = parameters.get("realm", "")
    if origin(realm) != origin(access.endpoint):
        host = urlsplit(realm).hostname if realm.isprintable() else None
        raise Unauthorized(
            f"{access.host} wants a token from {host or 'an address that is none'}, which is"
            " refused: it is another host"
        )
    query = [("service", parameters["service"])] if parameters.get("service") else []
    query += [("scope", each) for each in parameters.get("scope", "").split()]
    url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
    response, value = ask_json(session, url, patience, limit=_MAX_TOKEN)
    if response.status != 200:
        raise Unauthorized(
            f"{access.host} gives no token{_because(server_message(response, access))}"
        )
    token = (value.get("token") or value.get("access_token")) if isinstance(value, dict) else None
    if not isinstance(token, str) or not token or not all("!" <= each <= "~" for each in token):
        raise TransferError(f"{access.host} gives a token that is none")
    return token


def _model(
    name: Name, content: bytes, base: str, access: Access, patience: Patience
) -> PublishedModel:
    try:
        manifest = parse_manifest(content)
    except InvalidModel as error:
        html = content.lstrip()[:1] == b"<"
        why = "a web page, is there a login page between?" if html else str(error)
        raise InvalidModel(
            f"the manifest of '{name.display}' from {access.host} cannot be used: {why}"
        ) from None
    sizes: dict[str, int] = {}
    for layer in manifest.blobs:
        if sizes.setdefault(layer.digest, layer.size) != layer.size:
            raise InvalidModel(
                f"the manifest of '{name.display}' from {access.host} gives {layer.digest[:19]} two"
                " sizes"
            )
    files = tuple(
        RemoteFile(digest, f"{base}/blobs/{digest}", size, digest.removeprefix("sha256:"))
        for digest, size in sizes.items()
    )
    model = PublishedModel(content, manifest, files, access)
    _check_runnable(name, model, patience)
    return model


def _check_runnable(name: Name, model: PublishedModel, patience: Patience) -> None:
    """Raise InvalidModel for a model without weights that we can run."""
    kinds = {layer.kind for layer in model.manifest.layers}
    if "model" in kinds:
        return
    if "tensor" in kinds:
        raise InvalidModel(
            f"'{name.display}' consists of separate tensors for MLX, choose a tag with a GGUF"
        )
    config = _json(read_small(model.file(model.manifest.config), model.access, patience))
    remote = config.get("remote_host")
    if remote:
        raise InvalidModel(
            f"'{name.display}' is a cloud model, it runs only on {ascii(remote)[1:-1]}: choose a tag"
            " that can be downloaded"
        )
    raise InvalidModel(f"'{name.display}' has no weights, choose another tag")


def _json(content: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _refusal(response: Response, access: Access, name: Name) -> TransferError:
    """The error for a registry's refusal."""
    where = name.host if name.host.lower() in HUB_HOSTS else access.host
    library = name.host == DEFAULT_HOST
    short = name.model if name.namespace == DEFAULT_NAMESPACE else f"{name.namespace}/{name.model}"
    if library:
        path = f"library/{name.model}" if name.namespace == DEFAULT_NAMESPACE else short
        page = f"https://ollama.com/{path}"
    else:
        page = f"{access.endpoint}/{name.namespace}/{name.model}"
    if response.status == 404:
        tags = f", see {page}/tags" if library else f", see {page}"
        return RemoteNotFound(f"model '{short}' with tag '{name.tag}' not found on {where}{tags}")
    if response.status == 400:
        why = _because(server_message(response, access))
        return RemoteNotFound(f"{where} has no '{short}' with tag '{name.tag}'{why}, see {page}")
    return refusal(response, access, f"'{name.display}'", page)


def _because(message: str) -> str:
    return f" ({message.rstrip('.')})" if message else ""
