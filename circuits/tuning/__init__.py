"""Fine-tuning, how good its result is, and which layers a LoRA should touch.

settings, finetune      train on target tokens, save checkpoints, resume after a kill
rouge                   ROUGE, exact match, loss and token accuracy on held-out examples
targets                 a LoRA on exactly the layers asked for
arms, bakeoff           LoRAs on different layers against each other, at equal parameters and steps
"""
