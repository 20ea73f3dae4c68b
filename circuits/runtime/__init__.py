"""How long work runs: batches, memory, files, and going on where a kill left it."""
