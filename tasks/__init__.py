"""What we ask a model: clean and corrupted prompt pairs, and articles to summarise."""
