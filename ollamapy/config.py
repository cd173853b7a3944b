"""Settings: the environment, read once a process and passed on as plain values.

The only module that reads the environment. Every variable that Ollama honours too is looked up as OLLAMAPY_X first, then as
OLLAMA_X. Values are trimmed of spaces and quotes. An address that is none is an error; a number, a duration or a truth value
that makes no sense falls back to the default, and the daemon warns of it at its start.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .context import KV_TYPES
from .errors import InvalidSetting
from .human import parse_duration

DEFAULT_PORT = 11434
FALLBACK_PORT = 11435
"""Where the daemon listens if another program (an Ollama, for example) uses the default port."""


@dataclass(frozen=True, slots=True)
class Address:
    """The daemon's address: ``host`` may be empty or unspecified to listen at all interfaces."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    scheme: str = "http"
    path: str = ""

    @property
    def url(self) -> str:
        """As a URL, with the host in brackets when it is an IPv6 address; no trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def connectable(self) -> Address:
        """The address for a client: an unspecified one means this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return Address(host, self.port, self.scheme, self.path)


_HOST_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[\w.-]*)(?::(?P<port>[0-9]{0,6}))?")


def parse_address(text: str, variable: str = "OLLAMAPY_HOST") -> Address:
    """An address as OLLAMA_HOST writes it: ``[scheme://]host[:port][/path]``; what is absent gets its default.

    An IPv6 address may stand without brackets, and has no port then. Raises InvalidSetting, which names ``variable``.
    """
    text = text.strip().strip("\"'").strip()
    scheme, found, rest = text.partition("://")
    scheme = scheme.lower() if found else "http"
    host_port, _, path = (rest if found else text).partition("/")
    default = {"http": 80, "https": 443}.get(scheme) if found else DEFAULT_PORT
    if not found and host_port == "ollama.com":
        scheme, default = "https", 443
    if _is_ipv6(host_port):
        host_port = f"[{host_port}]"
    match = _HOST_PORT.fullmatch(host_port)
    if match is None or default is None or not path.isprintable() or " " in path:
        raise _no_address(variable, text)
    host, port = match["host"], int(match["port"] or default)
    if port > 65535:
        raise _no_address(variable, text, f"the port {port} is above 65535")
    if host.startswith("["):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise _no_address(variable, text)
    if not host and not host_port:
        host = "127.0.0.1"
    return Address(host, port, scheme, "/" + path.strip("/") if path.strip("/") else "")


def _is_ipv6(text: str) -> bool:
    if text.count(":") < 2:
        return False
    from ipaddress import IPv6Address  # 3 ms, for which thin commands do not wait

    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _no_address(variable: str, text: str, why: str = "it is no address") -> InvalidSetting:
    return InvalidSetting(
        f"{variable} is {ascii(text[:100])}: {why}; write one host[:port] such as 127.0.0.1:11434 or [::1]:11434"
    )


@dataclass(frozen=True, slots=True)
class Paths:
    """The files and folders that ollamapy reads and writes by itself.

    ``models_given``: the user set the models directory, so lists leave out the built-in model. ``models_shared``: it was set
    by OLLAMA_MODELS, so an Ollama may use it, too. ``more_models``: directories that are only read. ``home_given``: the user
    set the folder of all files.
    """

    models: Path
    state: Path
    models_given: bool = False
    home_given: bool = False
    models_shared: bool = False
    more_models: tuple[Path, ...] = ()

    @property
    def log(self) -> Path:
        """The daemon's log; older ones lie beside it with .1, .2 ..."""
        return self.state / "daemon.log"

    @property
    def kernels(self) -> Path:
        """Which of llama.cpp's fast kernels work on this machine."""
        return self.state / "kernels.json"

    @property
    def listing(self) -> Path:
        """Cache of the list of models, so that their files need not be read again."""
        return self.state / "listing.json"

    @property
    def presets(self) -> Path:
        """Named settings for chats."""
        return self.state / "presets.json"

    @property
    def secret(self) -> Path:
        """Shared by this user's daemon and commands, see secret.py."""
        return self.state / "secret"

    @property
    def start_lock(self) -> Path:
        """Locked by the command that starts the daemon, so that two commands at once start one."""
        return self.state / "start.lock"

    @property
    def chats(self) -> Path:
        """The database of the conversations."""
        return self.state / "chats.db"

    @property
    def attachments(self) -> Path:
        """The files attached to conversations, by digest."""
        return self.state / "attachments"

    @property
    def cache(self) -> Path:
        """The files of saved prefixes."""
        return self.state / "cache"

    @property
    def requests(self) -> Path:
        """The requests that can be answered again after a restart."""
        return self.state / "requests"

    @property
    def history(self) -> Path:
        """The lines typed in earlier chats."""
        return self.state / "history"


def builtin_models() -> Path:
    """The store root with the built-in model: inside the package, only read."""
    return Path(__file__).parent / "builtin"


def builtin_library() -> Path:
    """The catalogue's folder: inside the installed package; in a checkout, beside it."""
    package = Path(__file__).parent
    shipped = package / "library"
    return shipped if shipped.is_dir() else package.parent / "library"


DEFAULT_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """How a user reaches the Hugging Face hub. ``token`` takes precedence over the one in the file ``token_path``."""

    endpoint: str = DEFAULT_ENDPOINT
    token: str = field(default="", repr=False)
    token_path: Path | None = None
    offline: bool = False

    @classmethod
    def from_variables(cls, environ: Mapping[str, str]) -> HubSettings:
        """Settings from the variables of Hugging Face's own tools."""

        def get(*names: str) -> str:
            return next((v for n in names if (v := environ.get(n, "").strip())), "")

        def path(text: str) -> Path:
            return Path(_expand(text, environ)).expanduser()

        home = get("HF_HOME")
        cache = get("XDG_CACHE_HOME") or "~/.cache"
        file = get("HF_TOKEN_PATH") or f"{home or cache + '/huggingface'}/token"
        implicit = not _is_true(get("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
        return cls(
            endpoint=get("HF_ENDPOINT").rstrip("/") or DEFAULT_ENDPOINT,
            token=get("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if implicit else "",
            token_path=path(file) if implicit else None,
            offline=_is_true(get("HF_HUB_OFFLINE")) or _is_true(get("TRANSFORMERS_OFFLINE")),
        )


def _is_true(text: str) -> bool:
    return text.upper() in ("1", "ON", "YES", "TRUE")


def _expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace $VAR and ${VAR}, from the given environment and not from this process's."""
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda m: environ.get(m[1] or m[2], m[0]), text)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, read once a process. Times in seconds (``None`` = no limit); elsewhere ``None`` = chosen automatically.

    ``responses_days``: how long responses of OpenAI's API are kept, 0: not on the disk. ``library`` are the folders of the catalogue, the user's own first. ``serves_models``: other machines may pull from this
    daemon. ``fetches_urls``: images and documents that requests name by their addresses are fetched. ``docker``: the folder with the logins of `docker login`.
    """

    address: Address
    address_given: bool
    paths: Paths
    origins: tuple[str, ...] = ()
    keep_alive: float | None = 300.0
    load_timeout: float | None = 300.0
    context_length: int | None = None
    num_parallel: int | None = None
    max_loaded_models: int | None = None
    max_queue: int = 512
    flash_attention: bool | None = None
    kv_cache_type: str = "f16"
    cache_size: int | None = None
    debug: bool = False
    serves_models: bool = False
    fetches_urls: bool = False
    keeps_history: bool = True
    responses_days: int = 30
    editor: str = "vi"
    library: tuple[Path, ...] = ()
    hub: HubSettings = field(default_factory=HubSettings)
    docker: Path | None = None
    warnings: tuple[str, ...] = ()
    """What is wrong with values that fell back to their defaults, a line each."""
    fault: str = ""
    """What is wrong with a value that the daemon cannot start with, "" if nothing."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings from an environment. Raises InvalidSetting for an address that is none."""
        read = _Variables(environ)
        host = read.text("HOST")
        data, state = _folders(environ)
        return cls(
            address=parse_address(host, read.name("HOST")),
            address_given=bool(host),
            paths=_paths(environ, read.text("MODELS"), data, state),
            origins=tuple(o.strip() for o in read.text("ORIGINS").split(",") if o.strip()),
            keep_alive=read.duration("KEEP_ALIVE", 300.0, zero_is_forever=False),
            load_timeout=read.duration("LOAD_TIMEOUT", 300.0, zero_is_forever=True),
            context_length=read.count("CONTEXT_LENGTH"),
            num_parallel=read.count("NUM_PARALLEL"),
            max_loaded_models=read.count("MAX_LOADED_MODELS"),
            max_queue=read.count("MAX_QUEUE") or 512,
            flash_attention=read.boolean("FLASH_ATTENTION"),
            kv_cache_type=read.choice("KV_CACHE_TYPE", "f16", KV_TYPES, "type of a KV cache"),
            cache_size=read.size("CACHE"),
            debug=bool(read.boolean("DEBUG")),
            serves_models=bool(read.boolean("SERVE_MODELS")),
            fetches_urls=bool(read.boolean("FETCH_URLS")),
            keeps_history=not read.boolean("NOHISTORY"),
            responses_days=read.number("RESPONSES_DAYS", 30, most=36_500),
            editor=_editor(environ),
            library=(_own_library(environ, data), builtin_library()),
            hub=HubSettings.from_variables(environ),
            docker=Path(environ.get("DOCKER_CONFIG", "").strip() or "~/.docker").expanduser(),
            warnings=tuple(read.warnings),
            fault=read.fault,
        )

    def check(self) -> None:
        """Raises InvalidSetting for a value that the daemon cannot use."""
        if self.fault:
            raise InvalidSetting(self.fault)


def _folders(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """The folders of data and of state: OLLAMAPY_HOME for both, else the platform's."""
    if home := environ.get("OLLAMAPY_HOME", "").strip():
        return _absolute(home), _absolute(home)
    import platformdirs

    data = platformdirs.user_data_dir("ollamapy", appauthor=False)
    return Path(data), Path(platformdirs.user_state_dir("ollamapy", appauthor=False))


def _paths(environ: Mapping[str, str], models: str, data: Path, state: Path) -> Paths:
    """OLLAMAPY_MORE_MODELS lists roots that are only read, as PATH lists directories."""
    listed = environ.get("OLLAMAPY_MORE_MODELS", "").split(os.pathsep)
    more = tuple(_absolute(each.strip()) for each in listed if each.strip())
    home_given = bool(environ.get("OLLAMAPY_HOME", "").strip())
    if models:
        shared = not environ.get("OLLAMAPY_MODELS", "").strip().strip("\"'").strip()
        return Paths(
            _absolute(models),
            state,
            models_given=True,
            home_given=home_given,
            models_shared=shared,
            more_models=more,
        )
    return Paths(data / "models", state, home_given=home_given, more_models=more)


def _absolute(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _own_library(environ: Mapping[str, str], data: Path) -> Path:
    """OLLAMAPY_LIBRARY, else the folder library among the data."""
    named = environ.get("OLLAMAPY_LIBRARY", "").strip()
    return _absolute(named) if named else data / "library"


def _editor(environ: Mapping[str, str]) -> str:
    """The command of the user's editor."""
    for name in ("OLLAMAPY_EDITOR", "OLLAMA_EDITOR", "VISUAL", "EDITOR"):
        if command := environ.get(name, "").strip():  # its quotes are part of the command
            return command
    return "notepad" if sys.platform == "win32" else "vi"


class _Variables:
    """The variables that Ollama honours too; ``warnings`` collects what falls back to its default, ``fault`` is what cannot."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.warnings: list[str] = []
        self.fault = ""

    def _find(self, name: str) -> tuple[str, str]:
        for each in (f"OLLAMAPY_{name}", f"OLLAMA_{name}"):
            if value := self._environ.get(each, "").strip().strip("\"'").strip():
                return each, value
        return f"OLLAMAPY_{name}", ""

    def name(self, name: str) -> str:
        """The variable that is set, as OLLAMAPY_X or OLLAMA_X."""
        return self._find(name)[0]

    def text(self, name: str) -> str:
        return self._find(name)[1]

    def choice(self, name: str, default: str, known: Collection[str], what: str) -> str:
        """One of the known values, in lower case; another one is a fault."""
        variable, text = self._find(name)
        value = text.lower() or default
        if value not in known:
            self.fault = f"{variable} is {value[:40]!r}, which is no {what}: set it to one of {', '.join(known)}"
        return value

    def count(self, name: str) -> int | None:
        """A whole number; 0 is the default, as in Ollama."""
        text = self.text(name)
        if not text:
            return None
        if re.fullmatch(r"\+?[0-9]{1,10}", text, re.ASCII) and int(text) < 2**31:
            return int(text) or None
        self._warn(name, "a whole number")
        return None

    def number(self, name: str, default: int, *, most: int) -> int:
        """A whole number from 0 to ``most``; 0 is no default."""
        text = self.text(name)
        if not text:
            return default
        if re.fullmatch(r"\+?[0-9]{1,10}", text, re.ASCII) and int(text) <= most:
            return int(text)
        self._warn(name, f"a whole number up to {most}")
        return default

    def size(self, name: str) -> int | None:
        """Bytes: a number with a unit ("20GB", "512 MiB") or without; None where it is not set."""
        text = self.text(name)
        if not text:
            return None
        found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?)(i?)b?", text.lower(), re.ASCII)
        if found is None:
            self._warn(name, "a size such as 20GB, or 0")
            return None
        number, unit, binary = found.groups()
        return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " "))

    def boolean(self, name: str) -> bool | None:
        text = self.text(name)
        if text and text.lower() not in _TRUTH:
            self._warn(name, "1 or 0", "it counts as 1")
        return _boolean(text)

    def duration(self, name: str, default: float, *, zero_is_forever: bool) -> float | None:
        """Seconds from a Go duration or a whole number of seconds; negative means for ever."""
        text = self.text(name)
        if not text:
            return default
        try:
            seconds = (
                float(int(text)) if text.lstrip("+-").isdigit() else parse_duration(text) / 1e9
            )
        except (ValueError, OverflowError):
            self._warn(name, "a duration such as 10m, seconds, or -1 for ever")
            return default
        return None if seconds < 0 or (zero_is_forever and seconds == 0) else seconds

    def _warn(self, name: str, wanted: str, outcome: str = "the default is used") -> None:
        variable, text = self._find(name)
        self.warnings.append(f"{variable} is {ascii(text[:40])}, not {wanted}: {outcome}")


_TRUTH = frozenset("1 t true yes on 0 f false".split())


def _boolean(text: str) -> bool | None:
    """Go's ParseBool; like Ollama, other text counts as true."""
    if not text:
        return None
    return text.lower() not in ("0", "f", "false")


def environment() -> dict[str, str]:
    """A copy of this process's environment."""
    return dict(os.environ)


_CHILD_VARIABLES = frozenset(
    # programs, libraries, temporary files, locale, and the home that Python's user site lies in
    "PATH LD_LIBRARY_PATH DYLD_LIBRARY_PATH DYLD_FALLBACK_LIBRARY_PATH TMPDIR TEMP TMP HOME TZ LANG LANGUAGE"
    # Windows: without SystemRoot no process starts
    " SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT USERPROFILE APPDATA LOCALAPPDATA PROGRAMDATA"
    " NUMBER_OF_PROCESSORS PROCESSOR_ARCHITECTURE"
    # graphics processors
    " GPU_DEVICE_ORDINAL CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES".split()
)
_CHILD_PREFIXES = (
    *("LC_", "PYTHON", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "BLIS_", "XDG_"),
    *("GGML_", "LLAMA_ATTN_", "LLAMA_CPP_", "LLAMA_GRAPH_", "LLAMA_KV_"),  # not LLAMA_ARG_HF_TOKEN
    *("CUDA_", "NVIDIA_", "HIP_", "HSA_", "ROCM_", "VK_", "ONEAPI_", "SYCL_", "ZE_"),
)


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that a child process needs, and no others: it reads hostile input, so it gets no token and no proxy.

    It keeps the paths of programs and libraries, the locale, temporary folders, and the settings of Python, OpenMP, BLAS,
    llama.cpp and graphics processors. ``environ`` is for tests.
    """
    given = os.environ if environ is None else environ
    return {
        name: value
        for name, value in given.items()
        if name.upper() in _CHILD_VARIABLES or name.upper().startswith(_CHILD_PREFIXES)
    } | {"GGML_NO_BACKTRACE": "1"}  # abort() would otherwise fork a debugger to print a backtrace


def child_command(module: str) -> list[str]:
    """The command that runs one of our own modules in a process of its own, with this Python.

    ``-P`` keeps the current directory out of its path: a ``json.py`` lying there must not be imported.
    """
    return [sys.executable, "-P", "-m", module]
