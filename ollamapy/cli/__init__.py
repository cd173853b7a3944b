"""What a person touches: the commands. They speak HTTP with the daemon and decide nothing themselves.

main        the entry: dispatch, and errors -> one line on stderr and an exit status
commands    one function per command
launch      which daemon to talk to; starting, stopping and replacing it
client      the daemon's API over http.client
views       what is printed about models: pure
terminal    tables, word wrap, spinner, colour
completion  candidates and scripts for the shells
"""
