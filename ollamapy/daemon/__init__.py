"""The life of the daemon's process: it starts, serves until a signal, and ends."""
