"""Fine-tuning, how good its result is, and what a LoRA should train.

settings, finetune      train on target tokens, save checkpoints, resume after a kill
training_folder         what a training leaves on disk; a folder of another one is refused
identity                what makes it another one
training_log            loss and accuracy of every step
rouge                   ROUGE, exact match, loss and token accuracy on held-out examples
projections             the linear maps that an adapter can be put on
ranks                   ranks by the importance of maps, at a given number of parameters
targets                 a LoRA on exactly the layers or maps asked for
lora_targets            conditions of a comparison: what is trained; `conditions` has the named ones
lora_comparison         the conditions compared, at equal steps
lora_differences        how far they lie apart, over seeds and examples
lora_result             what a comparison found
adapter_circuits        whether adapters build the circuit that full fine-tuning builds
"""
