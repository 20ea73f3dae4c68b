"""How good a model's summaries are: ROUGE, exact match, and teacher-forced loss and accuracy.

ROUGE is the F1 of the `rouge-score` package (Lin 2004): n-grams for ROUGE-1 and -2, the longest
common subsequence of the whole text for ROUGE-L; words are lower-cased, letters and digits only,
and Porter-stemmed by default. `rouge-score` sees a-z and 0-9; words of other scripts are
made as `tasks.text.rouge` says. All figures are kept example by example, so that
intervals over examples can be drawn from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from circuits.errors import CircuitsError
from circuits.models.special_tokens import token_ids
from circuits.runtime.notices import say
from circuits.tuning.batches import require_examples
from circuits.tuning.generation import generate
from circuits.tuning.loss import TargetScores, score_targets
from tasks.errors import error_context
from tasks.pairs import TrainingExample
from tasks.text.rouge import chosen_words, f_measures
from tasks.text.tokens import control_ids

if TYPE_CHECKING:
    from circuits.tuning.tuned_model import TunedModel


@dataclass(frozen=True)
class SummaryMeans:
    """Figures of one model over all examples.

    rouge1, rouge2, rougeL: F1, 0 to 1, higher is better.
    exact_match: share of texts that equal the reference.
    token_accuracy: share of target tokens that were the model's first choice.
    loss: nats a target token, lower is better.
    """

    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815
    exact_match: float
    token_accuracy: float
    loss: float


@dataclass(frozen=True)
class SummaryScores:
    """Scores of one model, one value an example, in the order of the examples.

    rouge1, rouge2, rougeL: F1, 0 to 1.
    exact_match: 1 where the generated text equals the reference, outer blanks aside, else 0.
    targets: teacher-forced loss and accuracy.
    generated, reference: the texts compared.
    unicode: how many references were counted by words of any script, as they have words that
        `rouge-score` alone does not see.
    """

    rouge1: tuple[float, ...]
    rouge2: tuple[float, ...]
    rougeL: tuple[float, ...]  # noqa: N815
    exact_match: tuple[float, ...]
    targets: TargetScores
    generated: tuple[str, ...]
    reference: tuple[str, ...]
    unicode: int = 0

    def __len__(self) -> int:
        return len(self.reference)

    @property
    def means(self) -> SummaryMeans:
        """Every figure over all examples."""
        return SummaryMeans(
            rouge1=fmean(self.rouge1),
            rouge2=fmean(self.rouge2),
            rougeL=fmean(self.rougeL),
            exact_match=fmean(self.exact_match),
            token_accuracy=self.targets.token_accuracy,
            loss=self.targets.mean_loss,
        )


def evaluate_summaries(
    model: TunedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TrainingExample],
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 32,
    stem: bool = True,
    words: str = "auto",
) -> SummaryScores:
    """Decode greedily from each prompt and compare with the target's text.

    Args:
        model: a causal Hugging Face model, or a PEFT model on one.
        tokenizer: the model's.
        examples: prompts with their target tokens.
        max_new_tokens: the longest a summary may get; None takes the length of the longest target.
            Decoding stops at the tokenizer's and the model's end-of-text tokens, and at the control
            token that a target ends with.
        batch_size: examples at a time.
        stem: whether ROUGE compares words by their stems.
        words: what ROUGE counts: "auto", "ascii" or "unicode" (`tasks.text.rouge`).

    Returns:
        Every figure, example by example, in the order of the examples.

    Raises:
        CircuitsError: for an example that the model cannot read, or a reference in which "ascii"
            sees no word.
    """
    require_examples(examples, model, what="evaluation")
    longest = max(len(example.target) for example in examples)
    if max_new_tokens is not None and max_new_tokens < 1:
        raise CircuitsError(f"max_new_tokens {max_new_tokens}: it must be at least 1")
    reference = [_text(tokenizer, example.target) for example in examples]
    tokenizations = [
        _words(example.source, text, words)
        for example, text in zip(examples, reference, strict=True)
    ]
    if unicode := tokenizations.count("unicode"):
        say(
            f"ROUGE counts words of any script for {unicode} of {len(examples)} references, which "
            "rouge-score alone does not see; such figures are not those of the literature"
        )
    continuations = generate(
        model,
        [example.prompt for example in examples],
        max_new_tokens=max_new_tokens or longest,
        stop=_end_tokens(model, tokenizer, examples),
        batch_size=batch_size,
    )
    generated = [_text(tokenizer, tokens) for tokens in continuations]
    rouge = [
        score_text(*texts, stem=stem, words=words)
        for texts in zip(generated, reference, strict=True)
    ]
    return SummaryScores(
        rouge1=tuple(scores["rouge1"] for scores in rouge),
        rouge2=tuple(scores["rouge2"] for scores in rouge),
        rougeL=tuple(scores["rougeL"] for scores in rouge),
        exact_match=tuple(float(a == b) for a, b in zip(generated, reference, strict=True)),
        targets=score_targets(model, examples, batch_size=batch_size),
        generated=tuple(generated),
        reference=tuple(reference),
        unicode=unicode,
    )


def score_text(
    generated: str, reference: str, *, stem: bool = True, words: str = "auto"
) -> dict[str, float]:
    """ROUGE-1, -2 and -L F1 of one text against one reference."""
    return f_measures(reference, generated, ("rouge1", "rouge2", "rougeL"), words=words, stem=stem)


def _words(source: str, reference: str, words: str) -> str:
    with error_context(source):
        return chosen_words(reference, words)


def _end_tokens(
    model: TunedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[TrainingExample]
) -> set[int]:
    """What ends a text, or the turn of a chat, where the targets end with one."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    turn = {example.target[-1] for example in examples} & control_ids(tokenizer)
    return token_ids(configured, tokenizer.eos_token_id) | turn


def _text(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()
