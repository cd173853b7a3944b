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
repl        the chat in the terminal: reads lines and follows them
talk        its conversation: asks, prints, and stands anywhere in it
session     the conversation as a value, and the requests that follow from it: pure
thread      the conversation as a chat that the daemon keeps
pieces      an answer as it comes, taken up again when the connection is lost
printer     an answer on the screen
slash       the command or message that a line is: pure
help        the REPL's prompts and help
inchat      `run` in a chat that the daemon keeps
chats       the daemon's chats: /api/chats, and how a user names one
chatviews   what is printed about chats: pure
tree        a chat's messages as a tree: pure
events      server-sent events: pure
compare     two models' answers to the same question
columns     texts side by side that grow while they are shown
line        the input line: editing, history
media       images and audio that a prompt names
form        the format of an answer, as a user writes it
thoughts    how a model's thinking is shown
faults      the report of a bug: message and traceback
completion  candidates and scripts for the shells
"""
