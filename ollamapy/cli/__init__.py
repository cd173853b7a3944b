"""The command line: commands that speak HTTP with the daemon, and the chat in the terminal.

main        the entry: dispatch, and errors -> one line on stderr and an exit status
commands/   the commands, a module a group, and the table of them
launch      which daemon to talk to; starting, stopping and replacing it
client      the daemon's API over http.client
trust       whether a server may be sent a token or a password
transfer    a pull, from its options to the name that it is installed as
create      the files that a Modelfile names, sent to the server
remote      details and memory needs of a model that is not installed
upstream    installed models that have changed at their source
views       the texts that are printed about models: pure
terminal    tables, word wrap, spinner, colour, printable text
progress    bars and lines for pulls, pushes and creations
ask         one prompt and its answer, for `run`
repl        the chat in the terminal: reads, asks, prints
session     its conversation as a value, and the requests that follow from it: pure
slash       the command or message that a line is: pure
line        the input line: editing, history
media       images and audio that a prompt names
form        the format of an answer, as a user writes it
thoughts    how a model's thinking is shown
faults      the report of a bug: message and traceback
completion  candidates and scripts for the shells
"""
