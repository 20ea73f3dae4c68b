"""Fine-tuning, how good its result is, and which layers a LoRA should touch.

settings, finetune      train on target tokens, save checkpoints, resume after a kill
rouge                   ROUGE, exact match, loss and token accuracy on held-out examples
importance, targets     layers by importance, and a LoRA on exactly those
arms, bakeoff           LoRAs on different layers against each other, at equal parameters and steps
"""
