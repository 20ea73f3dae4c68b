"""Tasks whose prompts are made here, or from articles."""
