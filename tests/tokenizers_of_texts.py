"""Tokenizers trained on given texts, among them the words of the generated tasks."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tasks.builtin.transitive import read_nouns
from tasks.text.lexicon import words


def byte_pairs_of(texts, d_vocab):
    """A byte-level BPE tokenizer like GPT-2's, trained on the texts."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=d_vocab,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=model, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


def of_words():
    """Every word of the generated tasks is one token, and so are a century and two digits."""
    listed = [word for kind in ("first_names", "surnames", "events") for word in words(kind)]
    listed += [word for player in words("players") for word in player.split()]
    listed += [form for noun in words("countables") for form in noun.split()]
    for split in ("train", "validation", "test"):
        listed += [name for pair in words(f"capitals_{split}") for name in pair.split(":")]
    listed += [word for pair in words("kinds") for word in pair.split(":")]
    listed += ["he", "she", "is", "are", "was", "were", "has", "have"]
    digits = [f"{number:02d}" for number in range(100)]
    # Merged earliest: the centuries, so that " 1732" is " 17" and "32".
    centuries = [f" {century}" for century in range(10, 21)] * 200
    numbers = [f" {number}" for number in range(10)] + [f" {number}" for number in digits]
    texts = [f" {word}" for word in (*read_nouns("own"), *listed)]
    return byte_pairs_of([*centuries, *digits * 20, *numbers * 10, *texts * 2], 5400)
