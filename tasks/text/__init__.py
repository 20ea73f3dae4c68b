"""Text as tokens, sentences and words."""
