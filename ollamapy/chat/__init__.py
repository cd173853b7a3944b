"""Text in, text out: chat templates and prompts. Nothing in this room opens a file or a socket."""
