"""The task `huggingface`: prompts and answers of any data set, with corruptions made here."""
