"""Fine-tuning, how good its result is, and which layers a LoRA should touch.

settings, finetune      train on target tokens, save checkpoints, resume after a kill
training_log            loss and accuracy of every step
rouge                   ROUGE, exact match, loss and token accuracy on held-out examples
targets                 a LoRA on exactly the layers asked for
lora_targets            conditions of a comparison: which layers get an adapter
lora_comparison         the conditions compared, at equal parameters and steps
lora_result             what a comparison found
"""
