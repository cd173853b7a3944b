"""What the daemon does for each path: one module a dialect, each with its handlers and, at its end, its table of paths."""
