"""Completion for bash, zsh and fish: the candidates for a word, and the shells' scripts.

The scripts are thin: at every Tab they run ``ollamapy __complete WORD...``, whose last word is the one being typed and which
prints a candidate a line, with a tab and a description where there is one. An update of ollamapy updates them, too.
Model names come from the daemon if it runs, else from the store; no daemon is started, and only candidates are printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from typer.core import TyperCommand, TyperGroup, TyperOption

from ..errors import OllamapyError
from .chats import Chats, short
from .launch import Launcher

Candidate = tuple[str, str]
"""What to type, and what it means ("" = plain)."""

_NAMES_STORED = {
    (name,)
    for name in (
        *("run", "render", "embed", "show", "list", "ls", "rm", "cp", "push"),
        *("verify", "export", "outdated", "update"),
    )
}
_NAMES_LOADED = {("stop",), ("ps",)}
_CHATS = {("chats", "show"), ("chats", "export"), ("chats", "rm")}
_TIMEOUT = 0.3
_MOST_CHATS = 100


def candidates(
    root: TyperGroup,
    words: Sequence[str],
    stored: Callable[[], Sequence[str]],
    loaded: Callable[[], Sequence[str]],
    chats: Callable[[], Sequence[Candidate]] = tuple,
    folders: Callable[[], Sequence[str]] = tuple,
) -> list[Candidate]:
    """The completions of the last of the words; the others come before it.

    ``stored`` and ``loaded`` give model names, ``chats`` ids of chats and ``folders`` the folders that they are in; they are called
    only if such a name is wanted.
    """
    *before, typed = words or [""]
    if (spot := _spot(root, before)) is None:
        return []
    command, path, positions = spot.command, spot.path, spot.positions
    found: list[Candidate] = []
    if spot.value_of:
        found = _values(spot.value_of, stored, chats, folders)
    elif typed.startswith("-"):
        found = [(name, option.help or "") for option in _options(command) for name in option.opts]
    elif isinstance(command, TyperGroup):
        found = _commands(command)
    elif positions == 0 and path == ("help",):
        found = _commands(root)
    elif positions == 0 and path == ("completion",):
        found = [(name, "") for name in SCRIPTS]
    elif path in _CHATS and (positions == 0 or path == ("chats", "rm")):
        found = list(chats())
    elif positions < 2 and path == ("compare",):
        found = [(name, "") for name in stored()]
    elif positions == 0 and path in _NAMES_STORED | _NAMES_LOADED:
        found = [(name, "") for name in (stored if path in _NAMES_STORED else loaded)()]
    return [candidate for candidate in found if candidate[0].startswith(typed)]


class _Spot(NamedTuple):
    """Where a word is: in which command, after how many arguments, and of which option it is the value ("": of none)."""

    command: TyperCommand | TyperGroup
    path: tuple[str, ...] = ()
    positions: int = 0
    value_of: str = ""


def _spot(root: TyperGroup, before: Sequence[str]) -> _Spot | None:
    """Where the word after these is; None after an unknown command."""
    spot = _Spot(root)
    for word in before:
        command = spot.command
        if spot.value_of:
            spot = spot._replace(value_of="")
        elif word.startswith("-"):
            spot = spot._replace(value_of=word if _takes_value(command, word) else "")
        elif not isinstance(command, TyperGroup):
            spot = spot._replace(positions=spot.positions + 1)
        elif word in command.commands:
            spot = _Spot(command.commands[word], (*spot.path, word))  # type: ignore[arg-type]
        else:
            return None
    return spot


def _values(
    option: str,
    stored: Callable[[], Sequence[str]],
    chats: Callable[[], Sequence[Candidate]],
    folders: Callable[[], Sequence[str]],
) -> list[Candidate]:
    """What may be the value of an option."""
    if option == "--chat":
        return list(chats())
    names = {"--preload": stored, "--folder": folders}.get(option)
    return [(name, "") for name in names()] if names else []


def _commands(group: TyperGroup) -> list[Candidate]:
    visible = [(name, c) for name, c in group.commands.items() if not c.hidden]
    return [(name, c.get_short_help_str(limit=60)) for name, c in visible]


def _options(command: TyperCommand | TyperGroup) -> list[TyperOption]:
    return [param for param in command.params if isinstance(param, TyperOption)]


def _takes_value(command: TyperCommand | TyperGroup, word: str) -> bool:
    return any(word in option.opts and not option.is_flag for option in _options(command))


def stored_names(launcher: Launcher) -> list[str]:
    """The names of the stored models: from the daemon that runs, else from the disk; [] if neither can be read."""
    try:
        if client := _quiet(launcher).running():
            return [str(model["name"]) for model in client.tags(_TIMEOUT)]
    except (OllamapyError, KeyError):
        pass  # a silent server is as good as none
    from ..registry.store import open_store

    try:
        names = open_store(launcher.settings.paths).names()
    except (OllamapyError, OSError):
        return []
    return [name.display for name in names]


def loaded_names(launcher: Launcher) -> list[str]:
    """The names of the loaded models; [] without a daemon."""
    try:
        client = _quiet(launcher).running()
        return [str(model["name"]) for model in client.ps(_TIMEOUT)] if client else []
    except (OllamapyError, KeyError):
        return []


def chat_ids(launcher: Launcher) -> list[Candidate]:
    """The ids of the latest chats, as lists show them, with their titles; [] without a daemon that keeps chats."""
    try:
        client = _quiet(launcher).running()
        found = Chats(client).every() if client else iter(())
        return [(short(str(c["id"])), str(c.get("title"))) for c in islice(found, _MOST_CHATS)]
    except (OllamapyError, KeyError):
        return []


def chat_folders(launcher: Launcher) -> list[str]:
    """The folders of the chats; [] without a daemon that keeps chats."""
    try:
        client = _quiet(launcher).running()
        return Chats(client).folders() if client else []
    except OllamapyError:
        return []


def _quiet(launcher: Launcher) -> Launcher:
    return replace(launcher, probe_timeout=_TIMEOUT, say=lambda line: None)


# ":" is a word break to bash, so model names arrive in pieces: the line is split again by blanks alone, and of each candidate
# only what follows the last ":" typed so far is handed back.
_BASH = r"""# ollamapy completion for bash. Load it with: source <(ollamapy completion bash)
_ollamapy() {
    local words candidate typed before=""
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    [[ "${COMP_LINE:0:COMP_POINT}" == *[[:space:]] ]] && words+=("")
    typed="${words[${#words[@]}-1]}"
    [[ "$typed" == *:* && "$COMP_WORDBREAKS" == *:* ]] && before="${typed%:*}:"
    COMPREPLY=()
    while IFS=$'\t' read -r candidate _; do
        COMPREPLY+=("${candidate#"$before"}")
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _ollamapy ollamapy
"""

_ZSH = r"""#compdef ollamapy
# ollamapy completion for zsh. Load it with: source <(ollamapy completion zsh)
_ollamapy() {
    local line
    local -a described
    while IFS= read -r line; do
        described+=("${${line%%$'\t'*}//:/\\:}${${(M)line:#*$'\t'*}:+:${line#*$'\t'}}")
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#described} )); then
        _describe 'ollamapy' described
    else
        _files
    fi
}
if [[ "${funcstack[1]}" == _ollamapy ]]; then
    _ollamapy "$@"
else
    compdef _ollamapy ollamapy
fi
"""

_FISH = r"""# ollamapy completion for fish. Load it with: ollamapy completion fish | source
function __ollamapy_complete
    set -l before (commandline -opc)
    set -l typed (commandline -ct)
    $before[1] __complete $before[2..-1] "$typed" 2>/dev/null
end
complete -c ollamapy -f -a '(__ollamapy_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""Shell -> the script that `completion` prints."""
