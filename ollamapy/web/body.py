"""Decode the JSON of a request as Go's decoder does, because Ollama's clients were written against it.

Names of fields match in any case, unknown fields are ignored, null is the same as absent, the last of two equal keys
counts, text after the first value is ignored, and bytes that are no UTF-8 become U+FFFD. The error texts are Go's or
similar; every error is an InvalidRequest. The dialects interpret the fields.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import msgspec

from ..errors import InvalidRequest

MAX_BODY = 64 * 1024 * 1024
"""Bytes in a request; longer ones are refused with 413."""


MOST_VALUES, MOST_CONTAINERS = 2_000_000, 250_000
"""JSON values in a request, and objects, arrays and keys among them. Decoding so many takes about 50 and 70 ms, during which
no other thread runs: the decoder holds Python's interpreter lock."""


MAX_LENIENT = 4 * 1024 * 1024
"""Bytes of a body up to which it is decoded leniently, as in Go, if it is not valid JSON in UTF-8; a longer one is refused."""


MAX_BODIES = 160 * 1024 * 1024
"""Bytes of all bodies that are being read or parsed at the same time; more requests get a 503."""


class BodyTooLarge(InvalidRequest):
    """The request is longer than MAX_BODY, or has more values than MOST_VALUES or MOST_CONTAINERS."""

    status = 413


class AnnouncedTooLarge(BodyTooLarge):
    """The request announces more than MAX_BODY: it is answered before it is read."""


class BodyTooSlow(InvalidRequest):
    """The client stopped in the middle of its request."""

    status = 408


class MissingBody(InvalidRequest):
    """The request has no JSON value at all."""


class Misread(InvalidRequest):
    """A body that is invalid for every model. Ollama translates other dialects to its own API: errors of the translation
    have another media type than those of its own API."""


@contextmanager
def reading() -> Iterator[None]:
    """Turn every InvalidRequest of the block into a Misread."""
    try:
        yield
    except InvalidRequest as error:
        raise Misread(str(error)) from None


def decode(body: bytes) -> Any:
    """The first JSON value of a body. Raises InvalidRequest with Go's error text, BodyTooLarge."""
    _check_counts(body)
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise InvalidRequest("json: exceeded max depth") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if len(body) > MAX_LENIENT:
            raise InvalidRequest(f"the request is not JSON in UTF-8: {error}") from None
        return _decode_as_go(body.decode("utf-8", "replace"))


_PIECE = 1024 * 1024
"""Bytes that are scanned or decoded at a time where that holds the interpreter lock."""


def _check_counts(body: bytes) -> None:
    """Raise BodyTooLarge for more values than MOST_VALUES or MOST_CONTAINERS.

    First it counts separators everywhere, also inside strings, which is fast; only a body with too many of them is scanned
    again without its strings.
    """
    if len(body) <= MOST_CONTAINERS or not _exceeds(_pieces(body)):
        return
    if _exceeds(_without_strings(body)):
        raise BodyTooLarge(
            f"the request has more than {MOST_VALUES:,} JSON values or {MOST_CONTAINERS:,} objects, arrays and keys"
        )


def _exceeds(parts: Iterable[bytes]) -> bool:
    values = containers = 0
    for part in parts:
        values += part.count(b",")
        containers += sum(map(part.count, (b"[", b"{", b":")))
        if values > MOST_VALUES or containers > MOST_CONTAINERS:
            return True
    return False


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[at : at + _PIECE] for at in range(0, len(body), _PIECE))


def _without_strings(body: bytes) -> Iterator[bytes]:
    """The parts of a JSON text outside its strings, a piece at a time."""
    inside, carry = 0, b""  # carry: a backslash whose character comes with the next piece
    for next_piece in _pieces(body):
        piece = carry + next_piece
        n_backslashes = len(piece) - len(piece.rstrip(b"\\"))
        carry = piece[len(piece) - n_backslashes % 2 :]
        piece = piece[: len(piece) - n_backslashes % 2]
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        yield b"".join(parts[inside::2])
        inside = (inside + len(parts) - 1) % 2


# ---- what the fast decoder refused: decoded as Go does, or an error with Go's text -----------------------------------

_SPACE = " \t\r\n"
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair of surrogates is one character
    r"|u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_EXPECTED = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting value": "looking for beginning of value",
    "Expecting ',' delimiter": "after array element or object key:value pair",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}
"""Message of Python's decoder -> what Go's error text has instead."""


def _decode_as_go(text: str) -> Any:
    start = len(text) - len(text.lstrip(_SPACE))
    if start == len(text):
        raise MissingBody("missing request body")
    text = _ESCAPE.sub(lambda escape: "\\ufffd" if escape["lone"] else escape[0], text)
    try:
        return json.JSONDecoder(parse_constant=_refuse_constant).raw_decode(text, start)[0]
    except json.JSONDecodeError as error:
        raise InvalidRequest(_go_text(error)) from None
    except RecursionError:
        raise InvalidRequest("json: exceeded max depth") from None
    except ValueError:  # more digits than Python converts
        raise InvalidRequest("json: cannot unmarshal number: it is too long") from None


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"invalid character {name[0]!r} looking for beginning of value")


def _go_text(error: json.JSONDecodeError) -> str:
    # Python's position is at the backslash or, from 3.13 on, at the trailing comma; Go's is one after it
    position = error.pos + error.msg.startswith(("Invalid \\", "Illegal trailing comma"))
    rest = error.doc[position:].lstrip(_SPACE)
    if not rest or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    where = next((go for python, go in _EXPECTED.items() if error.msg.startswith(python)), "")
    return f"invalid character {_shown(rest[0])} {where}".rstrip()


def _shown(character: str) -> str:
    return {"'": "'\\''", '"': "'\"'"}.get(character, repr(character))


# ---- fields ----------------------------------------------------------------------------------------------------------

_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "bool": (bool,),
    "int": (int,),
    "[]int": (list,),
    "[]string": (list,),
    "[]api.Message": (list,),
    "map[string]interface {}": (dict,),
    "any": (object,),
}
"""A field's type as Go names it in errors -> what JSON for it becomes in Python."""


def fields(value: Any, types: Mapping[str, str], owner: str, path: str = "") -> dict[str, Any]:
    """The fields that are given and not null, by the names and Go types that ``types`` lists.

    ``owner`` is Go's name of the struct and ``path`` the place of the value in it, both for errors.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        where = (
            f"struct field {owner}.{path} of type api.Message"
            if path
            else f"value of type api.{owner}"
        )
        raise InvalidRequest(f"json: cannot unmarshal {kind(value)} into Go {where}")
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = key if key in types else key.casefold()
        if item is None or name not in types:
            continue
        found[name] = _typed(
            item, types[name], f"{owner}.{path}.{name}" if path else f"{owner}.{name}"
        )
    return found


def model_name(given: Mapping[str, Any]) -> str:
    """The model's name; in some requests the field is "name". Raises InvalidRequest."""
    name: str = given.get("model") or given.get("name") or ""
    if not name:
        raise InvalidRequest("model is required")
    return name


MOST_MESSAGES = 10_000
"""Messages of a conversation, items of a response's input, and texts to embed or to rank in one request."""


def check_count(items: Sequence[Any], name: str) -> None:
    """Raise InvalidRequest for more items than MOST_MESSAGES."""
    if len(items) > MOST_MESSAGES:
        raise InvalidRequest(
            f"{name} has {len(items):,} items, at most {MOST_MESSAGES:,} are taken"
        )


def role(written: str, roles: Sequence[str], where: str) -> str:
    """One of the roles, in any case. Raises InvalidRequest."""
    found = written.lower()
    if found not in roles:
        raise InvalidRequest(
            f"role {found[:40]!r} of {where} is unknown, use one of {', '.join(roles)}"
        )
    return found


def text(given: Mapping[str, Any], name: str, where: str) -> str:
    """A required text field of an object without a table of fields. Raises InvalidRequest."""
    if not isinstance(value := given.get(name), str):
        raise InvalidRequest(f"{where} must have a text as {name}")
    return value


def _typed(value: Any, go_type: str, field: str) -> Any:
    fits = isinstance(value, _PYTHON_TYPES[go_type])
    if go_type == "int":
        fits = fits and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if not fits:
        raise wrong_type(value, field, go_type)
    if go_type in ("[]int", "[]string"):
        element, zero = go_type[2:], {"int": 0, "string": ""}[go_type[2:]]
        return [zero if item is None else _typed(item, element, field) for item in value]
    return value


def wrong_type(value: Any, field: str, go_type: str) -> InvalidRequest:
    """The error for a value that does not fit its field, in Go's words."""
    what = kind(value)
    if what == "number" and go_type == "int":
        what += f" {value}"
    return InvalidRequest(
        f"json: cannot unmarshal {what} into Go struct field {field} of type {go_type}"
    )


def _decoded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces of base64, decoded. Raises binascii.Error, also where padding stands before the last one."""
    last = b""
    for piece in pieces:
        if last.endswith(b"="):
            raise binascii.Error
        yield binascii.a2b_base64(piece, strict_mode=True)
        last = piece


_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/\r\n]")


def from_base64(text: str) -> bytes:
    """The bytes of standard base64 with padding, in which lines may be broken. Raises InvalidRequest with Go's error text."""
    try:
        plain = text.replace("\r", "").replace("\n", "").encode("ascii")
        if len(plain) % 4 or plain.endswith(b"==="):
            raise binascii.Error  # the strict mode accepts it
        pieces = (plain[at : at + _PIECE] for at in range(0, len(plain), _PIECE))
        return b"".join(_decoded(pieces))
    except ValueError:  # no ASCII, no base64
        odd = _NOT_BASE64.search(text)
        place = odd.start() if odd else len(text) // 4 * 4
        raise InvalidRequest(f"illegal base64 data at input byte {place}") from None


def kind(value: Any) -> str:
    """The kind of a decoded JSON value, as Go's errors name it."""
    if isinstance(value, bool):
        return "bool"
    names: dict[type, str] = {
        dict: "object",
        list: "array",
        str: "string",
        int: "number",
        float: "number",
    }
    return names.get(type(value), "null")
