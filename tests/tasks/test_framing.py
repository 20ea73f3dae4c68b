"""The begin token, chat templates, control tokens and the place of an answer, in every task."""

import json

import pytest
from prepending import CHAT, prepending
from tokenizers import processors

import tasks
from tasks.errors import CircuitsError
from tasks.text.key_positions import key_positions
from tasks.text.tokens import added_begin, encode, following

CLEAN, CORRUPTED = "the capital of France is", "the capital of England is"
ROW = {"clean": CLEAN, "corrupted": CORRUPTED, "correct": " Paris", "incorrect": " London"}
CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou help. You are kind.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEAD = "<|im_start|>system\nYou help. You are kind.<|im_end|>\n<|im_start|>user\n"
TAIL = "<|im_end|>\n<|im_start|>assistant\n"
GENERATED = [
    "transitive",
    "comparison",
    "name-copying",
    "ioi",
    "greater-than",
    "newsroom",
    "agreement",
    "capitals",
]


@pytest.fixture(scope="module")
def chat_tokenizer(bpe, word_tokenizer):
    """Every word is a token, with a space before it or without; control tokens and a template."""
    listed = sorted(token.removeprefix("Ġ") for token in word_tokenizer.get_vocab())
    words = [word for word in listed if word.isascii() and word.isalpha()]
    digits = [f"{number:02d}" for number in range(100)]
    centuries = [f" {century}" for century in range(10, 21)] * 200
    texts = [*(f" {word}" for word in words), *words, *(f" {number}" for number in digits * 10)]
    made = bpe([*centuries, *digits * 20, *texts], 12000)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = CHATML
    return made


def _copy(tokenizer):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(
            tokenizer.backend_tokenizer.to_str()
        ),
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )


@pytest.fixture
def table(tmp_path):
    """Rows and options -> the task `table` on a file of them."""

    def make(*rows, **options):
        path = tmp_path / "pairs.json"
        path.write_text(json.dumps(rows))
        return tasks.load("table", path=path, **options)

    return make


def tokens(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(list(ids))


PLAIN = ["▁the", "▁capital", "▁of", "▁France", "▁is"]


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("add_bos", ["auto", True, False])
@pytest.mark.parametrize("given", ["text", "text with <s>", "ids", "ids with <s>"])
def test_the_begin_token_stands_once_or_not_at_all(table, bos, add_bos, given):
    tokenizer = prepending(bos=bos)
    clean, corrupted = CLEAN, CORRUPTED
    if given.startswith("ids"):
        clean, corrupted = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in (clean, corrupted)
        )
    if given.endswith("<s>"):
        begin = "<s>" if given.startswith("text") else [tokenizer.bos_token_id]
        clean, corrupted = begin + clean, begin + corrupted
    rows = {**ROW, "clean": clean, "corrupted": corrupted}
    (pair,) = table(rows, add_bos=add_bos).pairs(tokenizer)
    added = add_bos is True or (add_bos == "auto" and bos and given == "text")
    begun = added or given.endswith("<s>")
    assert tokens(tokenizer, pair.clean) == ["<s>"] * begun + PLAIN
    assert pair.spans == ((3 + begun, 4 + begun),)
    assert [tokens(tokenizer, one) for one in (*pair.answer, *pair.wrong)] == [
        ["▁Paris"],
        ["▁London"],
    ]


def test_what_a_tokenizer_adds_is_found_by_tokenising(word_tokenizer):
    assert added_begin(word_tokenizer) == added_begin(prepending()) == ()
    tokenizer = prepending(bos=True)
    assert added_begin(tokenizer) == (tokenizer.bos_token_id,)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<unk> <s> $A </s>", special_tokens=[("<unk>", 0), ("<s>", 1), ("</s>", 2)]
    )
    assert added_begin(tokenizer) == (0, 1)


@pytest.mark.parametrize("name", GENERATED)
def test_every_task_begins_as_the_tokenizer_does(word_tokenizer, name):
    adding = _copy(word_tokenizer)
    adding.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    options = {"corruption": "filler"} if name == "newsroom" else {}
    task = tasks.load(name, **options)
    for plain, begun in zip(task.pairs(word_tokenizer, 3), task.pairs(adding, 3), strict=True):
        assert begun.clean == (0, *plain.clean) and begun.corrupted == (0, *plain.corrupted)
        assert (begun.answer, begun.wrong) == (plain.answer, plain.wrong)
        assert begun.spans == tuple((start + 1, end + 1) for start, end in plain.spans)
    off = tasks.load(name, add_bos=False, **options).pairs(adding, 3)
    assert off.fingerprint == task.pairs(word_tokenizer, 3).fingerprint
    if hasattr(task, "examples"):
        taught = zip(task.examples(word_tokenizer, 3), task.examples(adding, 3), strict=True)
        for plain, begun in taught:
            assert begun.prompt == (0, *plain.prompt) and begun.target == plain.target


def test_summaries_begin_and_continue_where_they_stand(articles_file):
    tokenizer = prepending(bos=True)
    task = tasks.load("summarization", path=articles_file, corruption="filler", filler="<unk>")
    pair, example = task.pairs(tokenizer, 1)[0], task.examples(tokenizer, 1)[0]
    assert pair.clean == example.prompt and pair.clean.count(tokenizer.bos_token_id) == 1
    words = [token for position in pair.answer for token in position]
    assert tokenizer.decode(words) == "Clara Dunn resigned as judge of Farrow."
    assert tokens(tokenizer, words)[:2] == ["▁", "C"]
    assert (*words, tokenizer.eos_token_id) == example.target


@pytest.mark.parametrize("value", ["yes", None, 1])
def test_what_add_bos_and_chat_are(unchecked, value):
    with pytest.raises(CircuitsError, match=f"^add_bos={value!r}: .* true or false, or auto"):
        tasks.load("ioi", add_bos=value)
    with pytest.raises(CircuitsError, match=f"^chat={value!r}: it is true or false"):
        tasks.load("newsroom", chat=value)


# Control tokens


def test_control_tokens_in_an_article_stay_text(tmp_path, tokenizer):
    path = tmp_path / "articles.jsonl"
    said = "John wrote <|endoftext|> at the end"
    rows = [{"article": f"Mary went {i}. {said} {i}.", "summary": f"{said} {i}."} for i in range(5)]
    path.write_text("\n".join(map(json.dumps, rows)))
    task = tasks.load("summarization", path=path, corruption="shuffle")
    for example in task.examples(tokenizer, split="all"):
        assert [*example.prompt, *example.target].count(tokenizer.eos_token_id) == 1
        assert example.target[-1] == tokenizer.eos_token_id
        assert said in tokenizer.decode(example.prompt)
    for pair in task.pairs(tokenizer, split="all"):
        assert tokenizer.eos_token_id not in pair.tokens
        assert said in tokenizer.decode(pair.clean)


def test_a_cue_of_control_tokens_is_refused(articles_file, tokenizer):
    task = tasks.load("summarization", path=articles_file, prompt=" <|endoftext|>")
    for make in (task.pairs, task.examples):
        with pytest.raises(CircuitsError, match=r"^prompt=' <.*'<.endoftext.>' would be read as t"):
            make(tokenizer, 1)


def test_control_tokens_in_a_table_are_refused_with_the_position(table):
    tokenizer = prepending(bos=True)
    row = {**ROW, "clean": "<s>the capital</s> of France is"}
    with pytest.raises(
        CircuitsError,
        match=r"^pairs.json, row 1: column 'clean': the control token '</s>' is written at "
        r"character 15; .*control=token",
    ):
        table(row).pairs(tokenizer)
    with pytest.raises(CircuitsError, match=r"row 1: column 'correct': .* '</s>' .* character 2"):
        table({**ROW, "correct": " </s>"}).pairs(tokenizer)
    with pytest.raises(CircuitsError, match=r"^table: unknown control 'keep'; known: refuse, text"):
        table(ROW, control="keep")
    ends = {**ROW, "clean": "the </s> of", "corrupted": "the <s> of", "correct": "</s>"}
    del ends["incorrect"]
    (live,) = table(ends, control="token").pairs(tokenizer)
    assert tokens(tokenizer, live.clean) == ["<s>", "▁the", "▁", "</s>", "▁", "▁of"]
    assert live.answer == ((tokenizer.eos_token_id,),)
    (text,) = table({**ends, "corrupted": "the .... of", "correct": " </s>"}, control="text").pairs(
        prepending()
    )
    assert tokenizer.eos_token_id not in text.tokens


# Answers behind token ids


def test_what_follows_ids_is_tokenised_where_it_stands(word_tokenizer):
    tokenizer = prepending(bos=True)
    paris = tokenizer.convert_tokens_to_ids(["▁Paris"])
    for prompt in (CLEAN, "</s>" + CLEAN, "x"):
        for special in (True, False):
            ids = tokenizer(prompt, add_special_tokens=special)["input_ids"]
            assert list(following(tokenizer, ids, " Paris")) == paris
    odd = tokenizer.convert_tokens_to_ids([*"tore", "▁", "▁"])  # no text is read as these
    assert list(following(tokenizer, odd, " Paris")) == paris
    assert following(tokenizer, tokenizer("the")["input_ids"], "</s>") != (2,)
    assert following(tokenizer, tokenizer("the")["input_ids"], "</s>", control=True) == (2,)
    with pytest.raises(CircuitsError, match="'t' merges with the end of"):
        following(word_tokenizer, encode(word_tokenizer, "my aun"), "t")


# Chat templates


@pytest.mark.parametrize("name", GENERATED)
def test_chat_puts_every_task_into_the_template(chat_tokenizer, name):
    options = {"corruption": "filler"} if name == "newsroom" else {}
    plain = tasks.load(name, **options).pairs(chat_tokenizer, 4, split="test")
    chat = tasks.load(name, chat=True, **options).pairs(chat_tokenizer, 4, split="test")
    head, tail = (encode(chat_tokenizer, text, control=True) for text in (HEAD, TAIL))
    for pair, framed in zip(plain, chat, strict=True):
        for ids, around in ((pair.clean, framed.clean), (pair.corrupted, framed.corrupted)):
            assert around[: len(head)] == head and around[-len(tail) :] == tail
            text = chat_tokenizer.decode(around[len(head) : -len(tail)])
            assert text == chat_tokenizer.decode(ids)
        first = [
            chat_tokenizer.decode(list(framed.clean[start:end])).strip()
            for start, end in framed.spans
        ]
        assert first == [
            chat_tokenizer.decode(list(pair.clean[start:end])).strip() for start, end in pair.spans
        ]
        answers = [
            chat_tokenizer.decode([position[0] for position in one.answer])
            for one in (pair, framed)
        ]
        assert answers[1].removesuffix("<|im_end|>") == answers[0].strip().removesuffix(
            "<|endoftext|>"
        )


def test_chat_of_a_template_that_begins_and_trims_itself(table):
    tokenizer = prepending(bos=True, chat=CHAT)
    row = {**ROW, "clean": f" {CLEAN} ", "corrupted": f"<s> {CORRUPTED} "}
    for add_bos in ("auto", True, False):
        (pair,) = table(row, chat=True, add_bos=add_bos).pairs(tokenizer)
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": CLEAN}], add_generation_prompt=True, return_dict=False
        )
        assert list(pair.clean) == rendered and rendered.count(tokenizer.bos_token_id) == 1
        assert tokens(tokenizer, pair.clean[slice(*pair.spans[0])]) == ["▁France"]
        assert tokens(tokenizer, pair.answer[0]) == ["▁Paris"]  # the template puts a space there


def test_chat_of_summaries_ends_with_the_turn_and_keeps_its_landmarks(articles_file, tokenizer):
    chatting = _copy(tokenizer)
    chatting.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    chatting.chat_template = CHATML
    options = {"path": articles_file, "corruption": "shuffle"}
    plain = tasks.load("summarization", **options).pairs(chatting, 3)
    task = tasks.load("summarization", chat=True, **options)
    chat = task.pairs(chatting, 3)
    end = chatting.convert_tokens_to_ids("<|im_end|>")
    assert [example.target[-1] for example in task.examples(chatting, 3)] == [end] * 3
    shift = len(encode(chatting, HEAD, control=True))
    found, without = key_positions(chatting, chat), key_positions(chatting, plain)
    for place, (pair, framed) in enumerate(zip(plain, chat, strict=True)):
        assert framed.spans == tuple((start + shift, end + shift) for start, end in pair.spans)
        sentences = {token + shift for token in without["sentence-initial"][place]}
        inside = {token for token in found["sentence-initial"][place] if token > shift}
        assert sentences and inside == {one for one in sentences if one < len(pair.clean) + shift}


def test_a_header_keeps_the_tokens_that_a_model_answers_behind(table, word_tokenizer):
    """GPT-2's rule splits two line breaks before a word, and not at the end of a text."""
    chatting = _copy(word_tokenizer)
    chatting.backend_tokenizer.model = type(chatting.backend_tokenizer.model)(
        vocab={**chatting.get_vocab(), "ĊĊ": len(chatting)}, merges=[("Ċ", "Ċ")]
    )
    chatting.chat_template = (
        "{{ messages[0]['content'] + '\\n\\n' }}"
        "{% if not add_generation_prompt %}{{ messages[1]['content'] }}{% endif %}"
    )
    row = {"clean": "ab", "corrupted": "ac", "correct": " x"}
    (pair,) = table(row, chat=True).pairs(chatting)
    assert tokens(chatting, pair.clean) == ["a", "b", "ĊĊ"]
    assert tokens(chatting, chatting("ab\n\nx")["input_ids"]) == ["a", "b", "Ċ", "Ċ", "x"]
    assert [tokens(chatting, one) for one in pair.answer] == [["x"]]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "the tokenizer has no chat template; leave out chat, or"),
        ("{{ raise_exception('no such role') }}", r"template cannot be used \(no such role\)"),
        ("{{ messages[0]", "template cannot be used"),
        ("nothing", "does not write the prompt once"),
        ("{{ messages[0]['content'] * 2 }}", "does not write the prompt once"),
    ],
)
def test_a_template_that_does_not_serve_is_refused(template, reason):
    with pytest.raises(CircuitsError, match=f"^chat: .*{reason}"):
        tasks.load("ioi", chat=True).pairs(prepending(chat=template), 2)


def test_chat_refuses_what_a_template_cannot_take(table):
    tokenizer = prepending(bos=True, chat=CHAT)
    with pytest.raises(CircuitsError, match=r"row 1: column 'clean': chat: .*given as token ids"):
        table({**ROW, "clean": [5, 6]}, chat=True).pairs(tokenizer)
    with pytest.raises(CircuitsError, match=r"row 1: .* chat: .* '</s>' is written .* character 5"):
        table({**ROW, "clean": "the </s> of"}, chat=True).pairs(tokenizer)
    with pytest.raises(CircuitsError, match="with chat, the template alone writes control tokens"):
        table(ROW, chat=True, control="token")
    loud = prepending(chat="{{ messages[0]['content'] | upper }}")
    with pytest.raises(CircuitsError, match="does not write"):
        table(ROW, chat=True).pairs(loud)


def test_a_template_is_the_same_every_day_and_does_not_think(table):
    dated = "{{ strftime_now('%d %b %Y') }}{% if enable_thinking %}<think>{% endif %}" + CHAT
    (pair,) = table(ROW, chat=True).pairs(prepending(chat=dated))
    text = prepending().decode(pair.clean)
    assert text.startswith("26 Jul 2024") and "<think>" not in text
