"""HTTP: the application, its gate, bodies and streams, and a folder a dialect, with its paths and its wire format together."""
