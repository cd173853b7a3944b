"""The command line: commands that speak HTTP with the daemon, and the chat in the terminal.

main        the entry: dispatch, and errors -> one line on stderr and an exit status
commands    one function per command
launch      which daemon to talk to; starting, stopping and replacing it
client      the daemon's API over http.client
views       what is printed about models: pure
terminal    tables, word wrap, spinner, colour
repl        the chat in the terminal: reads, asks, prints
session     its conversation as a value, and the requests that follow from it: pure
slash       what a line typed there means: pure
line        where the lines come from: editing, history
faults      a bug's message and traceback
completion  candidates and scripts for the shells
"""
