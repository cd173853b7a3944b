"""The commands: a module a group of commands, one function each. `table` names them all and runs the one that is asked for.

table       every command with its line in the help; from arguments to a command that runs
arguments   positional arguments, counted; what all commands print alike
daemon      serve; daemon start, stop, restart, status, logs
run         run
prompt      render
embed       embed
transfer    pull, push
create      create, lint
models      list, ps, show, stop, rm, cp
library     search, library
upstream    outdated, update
store       verify, prune, du
archive     export, import
requests    why-cold, replay
local       what store and archive share
shell       completion, help

Options are parsed by typer; results go to stdout, remarks to stderr. Only the modules of the commands that the arguments
name are imported, so each may import at its top what it needs.
"""
