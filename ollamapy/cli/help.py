"""The chat in the terminal: its prompts, and its help for each topic. No line is longer than 40 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

PROMPT = ">>> "
MORE = "... "
"""The prompts of an input's first line and of its further lines."""

QUOTES = '"""'
"""What is before and behind a message of several lines."""

Topic = Literal["", "set", "show", "parameters", "chats", "shortcuts"]

HELP: Mapping[Topic, str] = {
    "": f"""\
Available Commands:
  /set            Set session variables
  /show           Show model information
  /load <model>   Load another model
  /save <model>   Save this session
  /list [prefix]  List the stored models
  /copy           Copy the last answer
  /retry [model]  Answer again
  /edit [text]    Edit the last message
  /undo           Take it back
  /continue       Continue an answer
  /file <path>    Attach a file
  /compare <model>  Ask another model
  /chats [text]   List the kept chats
  /clear          Clear session context
  /bye, /exit     Exit (also: Ctrl-D)
  /?, /help       Help for a command
  /? chats        Help for kept chats
  /? shortcuts    Help for the keys

Use {QUOTES} to begin a multi-line message.
""",
    "set": f"""\
Available Commands:
  /set parameter ...  Set a parameter
  /set system <text>  Set system message
  /set format json    Answer in JSON
  /set format <file>  ... of that schema
  /set noformat       Answer in any form
  /set think [level]  Think first
  /set nothink        Do not think
  /set history        Keep a history
  /set nohistory      Keep no history
  /set wordwrap       Wrap long lines
  /set nowordwrap     Do not wrap them
  /set markdown       Draw markdown
  /set markdown off   Show it as it is
  /set verbose        Show figures
  /set quiet          Show no figures

/set system {QUOTES} begins several lines,
/set system {QUOTES}{QUOTES} takes it back.
""",
    "show": """\
Available Commands:
  /show info        Model and session
  /show license     Its licence
  /show modelfile   A Modelfile for it
  /show parameters  Its values, yours
  /show system      System message
  /show template    Its prompt template
""",
    "chats": """\
Available Commands:
  /chats [text]     List or search chats
  /resume [id]      Open another chat
  /title [text]     Name this chat
  /branch [number]  Other branches

/retry and /edit begin a new branch, and
so does a message after /undo; the old
ones stay. /clear begins a new chat.
""",
    "parameters": """\
Usage: /set parameter <name> <value>
  temperature <float>  0: no sampling
  top_k <int>          Best k tokens
  top_p <float>        Best tokens' sum
  min_p <float>        Least likelihood
  typical_p <float>    Typical tokens
  seed <int>           Random seed
  num_predict <int>    Longest answer
  stop <text>...       Ends the answer
  num_ctx <int>        Size of context
  num_keep <int>       Kept when full
  repeat_last_n <int>  For penalties
  repeat_penalty, presence_penalty,
  frequency_penalty <float>
  num_batch, num_gpu, main_gpu,
  num_thread, draft_num_predict <int>,
  use_mmap, deterministic <bool>
  context_policy <how> When too long:
    error, drop-oldest, shift

A stop of several words in "quotes";
several stops: one after another.
""",
    "shortcuts": f"""\
Available keyboard shortcuts:
  Ctrl-A, Ctrl-E   Begin, end of line
  Alt-B, Alt-F     Back, forward a word
  Ctrl-K, Ctrl-U   Erase after, before
  Ctrl-W           Erase word before
  Up, Down         Earlier, later inputs
  Ctrl-R           Search earlier ones
  Tab              Complete a command
  Alt-Enter        New line (or Ctrl-J)
  {QUOTES}              Several lines
  Ctrl-G           Write in your editor
  Ctrl-L           Clear the screen
  Ctrl-C           Stop answer; erase
  Ctrl-Z           Suspend
  Ctrl-D           Exit
""",
}
