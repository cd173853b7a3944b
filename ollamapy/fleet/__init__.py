"""Which model is loaded, and which request may use it when."""
