"""Work on stored models, on the disk and over the network: list, show, pull, push, create."""
