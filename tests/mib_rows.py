"""Rows as MIB's data sets have them, written by hand for the tests: no row is the benchmark's."""

import json


def ioi(one, two, other, *, split="train", place="market", thing="coin"):
    """`one` is the indirect object, `two` the subject; other is `random_c`."""

    def prompt(giver):
        return f"When {one} and {two} went to the {place}, {giver} gave a {thing} to"

    def changed(giver, right):
        return {"prompt": prompt(giver), "choices": [one, two], "answerKey": right}

    abc = prompt(other).replace(one, other)
    return {
        "split": split,
        "template": "When {name_A} and {name_B} went to the {place}, {name_C} gave a {object} to",
        "metadata": {
            "indirect_object": one,
            "subject": two,
            "object": thing,
            "place": place,
            "random_a": other,
            "random_b": other,
            "random_c": other,
        },
        "prompt": prompt(two),
        "choices": [one, two],
        "answerKey": 0,
        "s2_io_flip_counterfactual": changed(one, 1),
        "abc_counterfactual": {"prompt": abc, "choices": [other, two], "answerKey": 0},
    }


def choices(thing, colour, colours, *, split="train", name="copycolors"):
    """A question whose choices have letters, and numbers in the counterfactual."""
    key = colours.index(colour)

    def prompt(labels):
        listed = "".join(f"\n{label}. {one}" for label, one in zip(labels, colours, strict=True))
        return f"A {thing} is {colour}. What color is a {thing}?{listed}\nAnswer:"

    letters, numbers = list("ABCD")[: len(colours)], list(range(1, len(colours) + 1))
    return {
        "split": split,
        "dataset": name,
        "prompt": prompt(letters),
        "choices": {"label": letters, "text": colours},
        "answerKey": key,
        "symbol_counterfactual": {
            "prompt": prompt(numbers),
            "choices": {"label": numbers, "text": colours},
            "answerKey": key,
        },
    }


def arithmetic(one, two, other, *, operator="+", split="train"):
    """other: the first operand of the counterfactual."""

    def prompt(first):
        return f"The result of {first} {operator} {two} is "

    def result(first):
        return first + two if operator == "+" else first - two

    return {
        "split": split,
        "template": "The result of {a} {operator} {b} is ",
        "prompt": prompt(one),
        "label": str(result(one)),
        "operator": operator,
        "num_digit": 2,
        "operand1": one,
        "operand2": two,
        "random_counterfactual": {
            "label": result(other),
            "operand1": other,
            "operand2": two,
            "prompt": prompt(other),
        },
    }


def write(path, rows):
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
