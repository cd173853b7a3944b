"""Model names: `[scheme://][host/][namespace/]model[:tag]`, taken apart and printed.

The rules are Ollama's (`types/model/name.go`), because names become paths in a store that both
programs may share. Every `Name` that exists is valid: its parts hold ASCII letters, digits and a
few marks and never begin with a dot, so `path` cannot leave the store. What a name points at is not
known here; neither is the spelling of an installed model whose name differs only in case (the store
knows that one).

    hf.co / user / repo : Q4_K_M    each part is cut off from the right: the tag after the last ":"
    host    ns     model  tag       if no "/" follows it, then model, namespace, host
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from .errors import InvalidName

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

# A host may hold a port; a namespace holds no dot, so "hf.co/model" is not namespace "hf.co".
# Ollama lets a host have 350 characters; a file's name has at most 255 on every disk.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,254}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", re.ASCII)
_MODEL = _TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)

# The longest valid name is shorter than 640 with its scheme: nothing longer is looked at.
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Name:
    """A complete, valid model name. Raises InvalidName when a part breaks the rules above."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        valid = (
            _HOST.fullmatch(self.host)
            and _NAMESPACE.fullmatch(self.namespace)
            and _MODEL.fullmatch(self.model)
            and _TAG.fullmatch(self.tag)
        )
        if not valid:
            raise _invalid(f"{self.host}/{self.namespace}/{self.model}:{self.tag}")

    @classmethod
    def parse(cls, text: str) -> Name:
        """Take a name as typed; what is missing gets its default. Raises InvalidName.

        A scheme is allowed and dropped; a separator with nothing on one of its sides is an error.
        """
        if len(text) > _LONGEST:
            raise _invalid(text)
        rest, tag = text, DEFAULT_TAG
        if rest.rfind(":") > rest.rfind("/"):
            rest, _, tag = rest.rpartition(":")
        host, namespace = DEFAULT_HOST, DEFAULT_NAMESPACE
        rest, slash, model = rest.rpartition("/")
        if slash:
            rest, slash, namespace = rest.rpartition("/")
        if slash:
            scheme, mark, host = rest.partition("://")
            if not mark:
                host = scheme
            elif not host:  # "file:///a/b": Ollama takes the default host here
                host = DEFAULT_HOST
        try:
            return cls(host, namespace, model, tag)
        except InvalidName:
            raise _invalid(text) from None

    @property
    def display(self) -> str:
        """The short form: default host and namespace dropped, the tag always shown."""
        if self.host != DEFAULT_HOST:
            return self.full
        if self.namespace != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def full(self) -> str:
        """All four parts: host/namespace/model:tag."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def path(self) -> PurePosixPath:
        """Where the manifest lies, relative to a manifests folder: host/namespace/model/tag."""
        return PurePosixPath(self.host, self.namespace, self.model, self.tag)


def part_of(text: str) -> str:
    """A model or a tag from any text, such as a file's name: characters that are not allowed become dashes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).lstrip(".-")[:80] or "model"


def _invalid(text: str) -> InvalidName:
    shown = ascii(text if len(text) <= 80 else text[:77] + "...")
    return InvalidName(f"invalid model name {shown}, write it as [host/][namespace/]model[:tag]")
