"""HTTP: the application, its gate, bodies and streams, and a folder for each dialect with its paths and its wire format."""
