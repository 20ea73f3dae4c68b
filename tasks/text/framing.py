"""What stands around a task's texts: the begin token, or the tokenizer's chat template.

`add_bos`, in every task that makes text: "auto" puts first what the tokenizer puts before a text by
itself (found by tokenising), True that or the beginning-of-text token, False nothing. What is there
already, written at the beginning of a table's prompt or by a template, is not put there again.

`chat`: the prompt becomes the user's message in the tokenizer's own template, with the header that
the model answers behind. The answer stands there as the template writes one: without the space that
a continuation begins with, or with the template's own. What a template would do otherwise by itself
is fixed: the date (26 Jul 2024, which Llama's templates fall back on), and no thinking before the
answer.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tasks.errors import InputError
from tasks.text.tokens import (
    Span,
    added_begin,
    beginning,
    behind,
    control_ids,
    control_pattern,
    encode,
    encode_with_offsets,
    following,
)

_DATE = datetime(2024, 7, 26)
_NOW = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
_PROBE, _REPLY = "Which one is meant here?", "It is this one."


class FramedTask:
    """A task with the options `add_bos` and `chat`, as every task that makes text has them."""

    add_bos: bool | str
    chat: bool

    def __post_init__(self) -> None:
        if not (self.add_bos == "auto" or isinstance(self.add_bos, bool)):
            raise InputError(f"add_bos={self.add_bos!r}: add_bos is true or false, or auto")
        if not isinstance(self.chat, bool):
            raise InputError(f"chat={self.chat!r}: it is true or false")

    def _framing(self, tokenizer: PreTrainedTokenizerBase) -> Framing:
        return Framing(tokenizer, add_bos=self.add_bos, chat=self.chat)


@dataclass(frozen=True)
class Framed:
    """A prompt as the model reads it.

    ids: all tokens, of which `added` were put first by `add_bos`.
    text: what the other tokens stand for; None for a prompt that is given as tokens.
    control: whether control tokens written in the text were read as such.
    offsets: for each of the tokens, its characters in the task's own text; before and behind that
        text, places before and behind it. Empty unless asked for.
    """

    ids: tuple[int, ...]
    added: int
    text: str | None
    control: bool = False
    offsets: tuple[Span, ...] = ()


class Framing:
    """Turns the texts of one task into prompts and answers for one tokenizer."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        add_bos: bool | str = "auto",
        chat: bool,
        or_end: bool = False,
    ) -> None:
        """or_end: `add_bos` True takes the end-of-text token where there is no other."""
        self.tokenizer = tokenizer
        self.chat = chat
        self._forced = add_bos is True
        self._first: tuple[int, ...] = ()
        if self._forced:
            self._first = beginning(tokenizer, or_end=or_end)
        elif add_bos == "auto" and not chat:  # a template writes what it wants first
            self._first = added_begin(tokenizer)
        if chat:
            _ = self._around  # a template that does not serve is refused before the first row

    def prompt(
        self,
        text: str,
        *,
        begin: tuple[int, ...] = (),
        control: bool = False,
        offsets: bool = False,
    ) -> Framed:
        """The prompt of a text. With `chat`, control tokens in the text are refused.

        begin: the begin token that stood before the text already.
        control: read the control tokens that are written in the text as such.
        offsets: also say where each token stands; needs a fast tokenizer.
        """
        full_text, start = self._written(text) if self.chat else (text, 0)
        control = control or self.chat
        spans: tuple[Span, ...] = ()
        if offsets:
            ids, spans = encode_with_offsets(self.tokenizer, full_text, control=control)
        else:
            ids = encode(self.tokenizer, full_text, control=control)
        begin_ids = self._missing(ids)
        if begin and not self.chat:
            begin_ids = begin
        if offsets:
            begin_spans = ((-start, -start),) * len(begin_ids)
            spans = (
                *begin_spans,
                *((token_start - start, token_end - start) for token_start, token_end in spans),
            )
        return Framed((*begin_ids, *ids), len(begin_ids), full_text, control, spans)

    def ids(self, given: Sequence[int]) -> Framed:
        """A prompt that is given as tokens: as it is, unless `add_bos` is True."""
        if self.chat:
            raise InputError(
                "chat: the prompt is given as token ids, and a template takes text; give the text"
            )
        begin_ids = self._missing(given) if self._forced else ()
        return Framed((*begin_ids, *given), len(begin_ids), None)

    def begun(self, text: str) -> tuple[tuple[int, ...], str]:
        """The begin token that a text begins with, written out on purpose, and the rest."""
        begin_text = self.tokenizer.decode(list(added_begin(self.tokenizer)))
        for name in (str(begin_text), self.tokenizer.bos_token):
            if name and text.startswith(name):
                return encode(self.tokenizer, name, control=True), text.removeprefix(name)
        return (), text

    def answer(self, prompt: Framed, text: str, *, control: bool = False) -> tuple[int, ...]:
        """The tokens of an answer where it stands, behind the prompt."""
        if self.chat:
            self._refuse_control(text)
            lead, _ = self._reply
            text = lead + text.strip()
        if prompt.text is None:
            return following(self.tokenizer, prompt.ids, text, control=control)
        prompt_ids, full_text = prompt.ids[prompt.added :], prompt.text + text
        if self.chat and self.tokenizer.is_fast:
            # A model answers behind the header's own tokens, also where the line breaks at its end
            # would be split otherwise before a word.
            ids, spans = encode_with_offsets(self.tokenizer, full_text, control=True)
            starts = [start for start, _ in spans]
            first_index = bisect_left(starts, len(prompt.text))
            if first_index and spans[first_index - 1][1] <= len(prompt.text):
                return ids[first_index:]
        joined_ids = encode(self.tokenizer, full_text, control=prompt.control)
        return behind(prompt_ids, joined_ids, prompt.text, text)

    @cached_property
    def end(self) -> int | None:
        """What ends an answer that is trained on: the template's end of the turn, else the
        end-of-text token.
        """
        if self.chat:
            control = control_ids(self.tokenizer)
            for token in encode(self.tokenizer, self._reply[1], control=True):
                if token in control:
                    return token
        end = self.tokenizer.eos_token_id
        return None if end is None else int(end)

    def _missing(self, ids: Sequence[int]) -> tuple[int, ...]:
        return () if tuple(ids[: len(self._first)]) == self._first else self._first

    def _written(self, text: str) -> tuple[str, int]:
        """A text in the template, and where its first character stands there."""
        self._refuse_control(text)
        head, tail = self._around
        rendered = self._render([{"role": "user", "content": text}])
        if rendered == head + text + tail:
            return rendered, len(head)
        if rendered == head + text.strip() + tail:
            return rendered, len(head) - (len(text) - len(text.lstrip()))
        raise InputError("chat: the template does not write this prompt as it stands")

    def _refuse_control(self, text: str) -> None:
        match = self._control.search(text) if self._control else None
        if match:
            raise InputError(
                f"chat: the control token {match[0]!r} is written in the text, at character "
                f"{match.start() + 1}; take it out, or leave the row out"
            )

    @cached_property
    def _control(self) -> re.Pattern[str] | None:
        return control_pattern(self.tokenizer)

    @cached_property
    def _around(self) -> tuple[str, str]:
        """What the template writes before and behind a user's message."""
        rendered = self._render([{"role": "user", "content": _PROBE}])
        head, probe, tail = rendered.partition(_PROBE)
        if not probe or _PROBE in tail:
            raise InputError("chat: the tokenizer's template does not write the prompt once")
        return head, tail

    @cached_property
    def _reply(self) -> tuple[str, str]:
        """What the template writes between its header and an answer, where that is blank, and what
        it writes behind the answer.
        """
        head, tail = self._around
        prompt = head + _PROBE + tail
        messages = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": _REPLY}]
        rendered = self._render(messages, header=False)
        lead, reply, ending = rendered.removeprefix(prompt).partition(_REPLY)
        if not rendered.startswith(prompt) or not reply or lead.strip():
            return "", ending
        return lead, ending

    def _render(self, messages: list[dict[str, str]], *, header: bool = True) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            raise InputError(
                "chat: the tokenizer has no chat template; leave out chat, or take the model's "
                "version that was trained to chat"
            )
        try:
            template = _NOW.sub(
                lambda call: repr(_DATE.strftime(call[2])), self.tokenizer.get_chat_template()
            )
            return str(
                self.tokenizer.apply_chat_template(
                    messages,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=header,
                    enable_thinking=False,
                )
            )
        except (TemplateError, ValueError, TypeError, AttributeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"chat: the tokenizer's template cannot be used ({reason})") from error
