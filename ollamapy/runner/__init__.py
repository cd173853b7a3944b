"""The process boundary: one child process for each loaded model, msgpack frames on its pipes."""
