"""Our own paths about requests that were answered lately."""
