"""GGUF files as a source of models: plain ones, with the tokenizer of the file."""
