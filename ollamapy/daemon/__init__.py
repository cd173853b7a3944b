"""The life of the daemon's process: start, serve until a signal, shut down."""
