import csv
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks
from tasks.errors import CircuitsError
from tasks.files import Row, read_rows

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
tables = st.lists(st.fixed_dictionaries({"clean": text, "corrupted": text}), min_size=1, max_size=5)


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
@given(rows=tables)
def test_what_is_written_is_read(tmp_path_factory, suffix, rows):
    path = tmp_path_factory.mktemp("rows") / f"pairs{suffix}"
    write(path, rows)
    read = read_rows(path)
    assert [dict(row.values) for row in read] == rows
    word = "line" if suffix == ".jsonl" else "row"
    assert [row.source for row in read] == [
        f"pairs{suffix}, {word} {i}" for i in range(1, len(rows) + 1)
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_an_article_of_any_length(tmp_path, suffix):
    rows = [{"article": "A long day. " * 20_000, "summary": "Long."}]
    path = tmp_path / f"articles{suffix}"
    write(path, rows)
    csv.field_size_limit(131_072)
    assert [dict(row.values) for row in read_rows(path)] == rows


def test_json_lines_under_the_ending_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"x": 1}\n\n{"x": 2}\n')
    assert [(row.source, row.values["x"]) for row in read_rows(path)] == [
        ("a.json, line 1", 1),
        ("a.json, line 3", 2),
    ]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_objects_over_several_lines(tmp_path, name):
    rows = [{"x": [1, {"deep": 2}], "y": "b"}, {"x": 2}, {"x": 3}]
    path = tmp_path / name
    path.write_text("\n" + "\n\n".join(json.dumps(row, indent=1) for row in rows) + "\n")
    read = read_rows(path)
    assert [dict(row.values) for row in read] == rows
    lines = path.read_text().splitlines()
    for row in read:
        assert lines[int(row.source.rpartition(" ")[2]) - 1] == "{"


def test_a_single_object_may_be_a_row(tmp_path):
    path = tmp_path / "a.json"
    for indent in (None, 1):
        path.write_text(json.dumps({"x": "1", "ids": [1, 2]}, indent=indent))
        (row,) = read_rows(path)
        assert (row.source, row.text("x")) == ("a.json, line 1", "1")
        with pytest.raises(CircuitsError, match=r"one object, where a list .*keys are: 'x', 'ids'"):
            row.cell("clean")


def test_an_object_of_columns_is_named_as_such(tmp_path, tokenizer):
    """As pandas' to_json(orient="list") writes it, and columns of a single text."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"clean": ["a b", "a b"], "corrupted": ["a c", "a d"]}))
    (row,) = read_rows(path)
    with pytest.raises(CircuitsError, match=r"^a\.json, line 1: one object with its columns as"):
        row.text("clean")
    path.write_text(json.dumps({"clean": ["a b"], "corrupted": ["a c"], "correct": [" a"]}))
    with pytest.raises(CircuitsError, match="one object with its columns as lists"):
        tasks.load("table", path=path).pairs(tokenizer)
    path.write_text(json.dumps({"clean": [1, 2], "corrupted": [1, 3], "correct_idx": [4, 5]}))
    (pair,) = tasks.load("table", path=path).pairs(tokenizer)
    assert (pair.clean, pair.answer) == ((1, 2), ((4, 5),))


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfclean,corrupted\na,b\n")
    assert read_rows(path)[0].text("clean") == "a"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"x": 1}\n{"x": \n', r"^a\.jsonl, line 2: not JSON \(Expecting value at"),
        ("a.jsonl", '{"x": 1}\n[1]\n', r"^a\.jsonl, line 2: list where an object"),
        ("a.json", '[{"x": 1}, 3]', r"^a\.json, row 2: int where an object"),
        ("a.json", '[{"x": 1},\n', r"^a\.json, line 2: not JSON"),
        ("a.json", '{\n "x": 1\n}\n{"x": \n', r"^a\.json, line 5: not JSON \(Expecting value"),
        ("a.json", '{"x": 1, "x": 2}', r"^a\.json, line 1: the key 'x' stands twice"),
        ("a.json", '[{"x": 1, "x": 2}]', r"^a\.json: the key 'x' stands twice"),
        ("a.json", '{\n"x": 1,\n"x": 2}', r"^a\.json, line 1: the key 'x' stands twice"),
        ("a.json", '{"data": [{"x": 1}], "n": 3}', r"^a\.json: one object, .*are: data, n$"),
        ("a.jsonl", '{\n"train": [{"x": 1}]}', r"^a\.jsonl: one object, .* keys are: train$"),
        ("a.json", '{"x": {"0": "a", "1": "b"}}', r"^a\.json: one object, where a list of rows"),
        ("a.csv", "x,y\n1,2\n1,2,3\n", r"^a\.csv, row 2: 3 cells, but the header names 2"),
        ("a.csv", "x,x\n1,2\n", r"^a\.csv: two columns are named 'x'"),
        ("a.csv", 'x,y\n1,"2\n', r"^a\.csv, row 1: malformed CSV"),
        ("a.json", "[" * 10**5, r"^a\.json: JSON that is nested too deep"),
        ("a.jsonl", "\n", r"a\.jsonl: the file has no rows"),
        ("a.csv", "", r"a\.csv: the file has no rows"),
        ("a.csv", "x,y\n", r"a\.csv: the file has no rows"),
        ("a.parquet", "no parquet", r"a\.parquet: not a Parquet file"),
        ("a.txt", "x", r"a\.txt: the ending '\.txt' is not one of \.jsonl"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(CircuitsError, match=message):
        read_rows(tmp_path / name)


def test_missing_folder_and_foreign_encoding(tmp_path):
    with pytest.raises(CircuitsError, match=r"none\.csv: no such file"):
        read_rows(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(CircuitsError, match="it is a folder"):
        read_rows(tmp_path / "folder.csv")
    (tmp_path / "a.csv").write_bytes(b"x\ncaf\xe9\n")
    with pytest.raises(CircuitsError, match=r"a\.csv: not UTF-8"):
        read_rows(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"b": "x"}, "a, row 1: no value in column 'a'; the row's columns are: 'b'"),
        ({"a": None}, "a, row 1: no value in column 'a'"),
        ({"a": "  "}, "a, row 1: column 'a' is blank"),
        ({"a": 3}, "a, row 1: column 'a' holds int, not text"),
    ],
)
def test_a_row_without_the_text_is_refused(values, message):
    with pytest.raises(CircuitsError, match=message):
        Row("a, row 1", values).text("a")


@pytest.mark.parametrize(
    ("name", "content", "kept", "left"),
    [
        (
            "a.jsonl",
            '{"x": 1}\n{"x": \n\n[1]\n{"x": 2, "x": 3}\n{"x": 4}\n\x00\x00\n<html>\n',
            {"line 1": 1, "line 6": 4},
            {
                "line 2": "not JSON (Expecting value at column 1)",
                "line 4": "list where an object with named columns is expected",
                "line 5": "the key 'x' stands twice in one JSON object; keep one of them",
                "line 7": "not JSON (Expecting value at column 1)",
                "line 8": "not JSON (Expecting value at column 1)",
            },
        ),
        (
            "a.jsonl",
            '{"x": 1}\n{"x": ' + "[" * 10**5 + "\n{" + '"x": ' + "9" * 5000 + '}\n{"x": 2}\n',
            {"line 1": 1, "line 4": 2},
            {
                "line 2": "JSON that is nested too deep",
                "line 3": "JSON with a number of thousands of digits",
            },
        ),
        (
            "a.json",
            'killed\n{"x": 1}\n{"x"',
            {"line 2": 1},
            {
                "line 1": "not JSON (Expecting value at column 1)",
                "line 3": "not JSON (Expecting ':' delimiter at column 5)",
            },
        ),
        (
            "a.json",
            '[{"x": 1}, 3, {"x": [{"y": 1, "y": 2}]}, {"x": 2}]',
            {"row 1": 1, "row 4": 2},
            {
                "row 2": "int where an object with named columns is expected",
                "row 3": "the key 'y' stands twice in one JSON object; keep one of them",
            },
        ),
        (
            "a.json",
            '{\n"x": 1}\n{\n"x": 2,\n"x": 3}\n{"x":\n4}\n',
            {"line 1": 1, "line 6": 4},
            {"line 3": "the key 'x' stands twice in one JSON object; keep one of them"},
        ),
        (
            "a.csv",
            'x,y\n1,2\n1,2,3\n\n4,"5"6\n7,"8\n9"\n3,4\n',
            {"row 1": "1", "row 4": "7", "row 5": "3"},
            {
                "row 2": "3 cells, but the header names 2 columns; quote a text that holds the "
                "delimiter",
                "row 3": "malformed CSV in line 5 (',' expected after '\"')",
            },
        ),
        (  # a quote that is never closed swallows rows, which are rows by themselves
            "a.csv",
            'x,y\n1,2\n3,"4\n5,6\n\n7,8\n',
            {"row 1": "1", "row 3": "5", "row 4": "7"},
            {"row 2": "malformed CSV in line 3 (unexpected end of data)"},
        ),
        (  # what it swallows may be its own text
            "a.tsv",
            'x\ty\n1\t2\n3\t"4 and\nmore of it\n7\t8\n',
            {"row 1": "1"},
            {"row 2": "malformed CSV in lines 3 to 5 (unexpected end of data)"},
        ),
        (
            "a.csv",
            'x\n1\n"2\n3\n',
            {"row 1": "1"},
            {"row 2": "malformed CSV in lines 3 to 4 (unexpected end of data)"},
        ),
    ],
)
def test_rows_that_cannot_be_read_are_left_out_when_that_is_asked_for(
    name, content, kept, left, tmp_path
):
    (tmp_path / name).write_text(content)
    with pytest.raises(CircuitsError, match=rf"^{name}"):
        read_rows(tmp_path / name)
    skipped = []
    rows = read_rows(tmp_path / name, skipped)
    assert {row.source: row.values["x"] for row in rows} == {
        f"{name}, {place}": value for place, value in kept.items()
    }
    assert {row.source: row.reason for row in skipped} == {
        f"{name}, {place}": reason for place, reason in left.items()
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '[{"x": 1},\n{"x": 2}', r"^a\.json, line 2: not JSON \(Expecting ',' delimiter"),
        ("a.jsonl", '[{"x": 1},\n{"x": 2},\n{"x": 3}\n', r"^a\.jsonl, line 1: not JSON"),
        ("a.json", '{\n "x": 1\n}\n{"x": 2}\n{"x": \n', r"^a\.json, line 6: not JSON"),
        ("a.json", '{"x": [\n  {"x": 2}\n], \n', r"^a\.json, line 4: not JSON"),
        ("a.csv", 'x,"y\n1,2\n', r"^a\.csv, row 1: malformed CSV \(unexpected end"),
        ("a.jsonl", "no\n", r"a\.jsonl: no row can be used \(1 row left out: 1 x not JSON"),
    ],
)
def test_what_breaks_the_whole_file_is_refused_all_the_same(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(CircuitsError, match=message):
        read_rows(tmp_path / name, [])
