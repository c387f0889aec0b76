"""Reading rows: every accepted shape, and every kind of bad row with its line."""

import gzip
import json
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from palate.data import PreferenceDataset, read
from palate.data.conversations import shared_text
from palate.errors import ConfigError, DataError

ROWS = [
    {"user": "ann", "prompt": "Tea?", "left": "Yes.", "right": "No.", "label": 1},
    {"user": "bob", "prompt": "Tea?", "left": "No.", "right": "Yes.", "label": 0.25},
    {"user": "ann", "prompt": "Why?", "left": "Because.", "right": "No.", "label": 0.5},
]


def decided(dataset):
    """Rows as (user, prompt, preferred, other), whatever the sides."""
    return [
        (
            row["user"],
            row["prompt"],
            *((row["left"], row["right"]) if row["label"] > 0.5 else (row["right"], row["left"])),
        )
        for row in dataset.to_frame().iter_rows(named=True)
    ]


def message(role, content):
    return {"role": role, "content": content}


# -- shapes ---------------------------------------------------------------------------------------------------------


def test_columns_are_normalised_and_numbered_in_sorted_order():
    dataset = read(ROWS)
    assert dataset.users == ("ann", "bob")
    assert dataset.prompts == ("Tea?", "Why?")
    assert dataset.responses == ("Because.", "No.", "Yes.")
    assert dataset.item_texts() == [("Tea?", "No."), ("Tea?", "Yes."), ("Why?", "Because."), ("Why?", "No.")]
    assert dataset.left.tolist() == [1, 0, 2]
    assert dataset.right.tolist() == [0, 1, 3]
    assert dataset.user.tolist() == [0, 1, 0]
    assert dataset.label.tolist() == [1.0, 0.25, 0.5]
    assert dataset.weight.tolist() == [1.0, 1.0, 1.0]
    assert (len(dataset), dataset.n_users, dataset.n_items, dataset.n_prompts) == (3, 2, 4, 2)
    assert dataset.time is None and dataset.user_text is None and dict(dataset.extra) == {}
    assert dataset.left.dtype == dataset.item_prompt.dtype == np.int32


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda rows: rows, id="list"),
        pytest.param(iter, id="iterator"),
        pytest.param(pl.DataFrame, id="polars"),
        pytest.param(lambda rows: pl.DataFrame(rows).lazy(), id="lazy"),
        pytest.param(pd.DataFrame, id="pandas"),
        pytest.param(lambda rows: pd.DataFrame(rows).astype({"user": "category", "label": "float32"}), id="categories"),
        pytest.param(lambda rows: {name: [row[name] for row in rows] for name in rows[0]}, id="columns"),
        pytest.param(
            lambda rows: pl.DataFrame(rows).with_columns(pl.col("prompt").cast(pl.Categorical)), id="polars-cat"
        ),
    ],
)
def test_every_source_gives_the_same_data(make):
    assert read(make(ROWS)).fingerprint == read(ROWS).fingerprint


@pytest.mark.parametrize(
    "extension", ["jsonl", "ndjson", "json", "array.json", "csv", "tsv", "semicolon.csv", "parquet"]
)
def test_every_file_gives_the_same_data(tmp_path, extension):
    path = tmp_path / f"answers.{extension}"
    frame = pl.DataFrame(ROWS, strict=False)
    if extension == "array.json":
        path.write_text(json.dumps(ROWS, indent=1))
    elif extension in ("jsonl", "ndjson", "json"):
        path.write_text("\n\n".join(json.dumps(row) for row in ROWS))
    elif extension == "parquet":
        frame.write_parquet(path, row_group_size=1)
    else:
        frame.write_csv(path, separator={"csv": ",", "tsv": "\t", "semicolon.csv": ";"}[extension], include_bom=True)
    dataset = read(path)
    assert dataset.fingerprint == read(ROWS).fingerprint
    assert dataset.name == path.stem
    assert read(str(path)).fingerprint == dataset.fingerprint


def test_a_data_set_is_read_as_itself():
    dataset = read(ROWS)
    assert read(dataset) is dataset
    assert PreferenceDataset.from_rows(ROWS).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    "name", ["user", "user_id", "worker", "worker_id", "annotator", "annotator_id", "rater", " User "]
)
def test_columns_that_name_the_person(name):
    rows = [{name if key == "user" else key: value for key, value in row.items()} for row in ROWS]
    assert read(rows).users == ("ann", "bob")


def test_other_names_by_option():
    rows = [{"who": r["user"], "q": r["prompt"], "a1": r["left"], "a2": r["right"], "label": r["label"]} for r in ROWS]
    named = read(rows, user_column="who", columns={"prompt": "q", "left": "a1", "right": "a2"})
    assert named.fingerprint == read(ROWS).fingerprint


def test_the_named_user_column_wins_and_the_other_one_is_kept():
    rows = [{**row, "annotator": f"team {row['user']}"} for row in ROWS]
    assert read(rows).users == ("ann", "bob")
    assert "annotator" in read(rows).notes[0]
    by_team = read(rows, user_column="annotator")
    assert by_team.users == ("team ann", "team bob")
    assert by_team.extra["original_user"].tolist() == ["ann", "bob", "ann"]
    assert by_team.to_frame()["user"].to_list() == ["team ann", "team bob", "team ann"]


@pytest.mark.parametrize(
    "users", [[1, 2, 1], [1.0, 2.0, 1.0], ["1", "2", "1"], [np.int64(1), np.int64(2), np.int64(1)]]
)
@pytest.mark.parametrize("frame", [list, pd.DataFrame])
def test_numbers_as_ids(users, frame):
    rows = [{**row, "user": user} for row, user in zip(ROWS, users, strict=True)]
    assert read(frame(rows)).users == ("1", "2")


@pytest.mark.parametrize(
    ("label", "value"),
    [
        (1, 1), (0, 0), (True, 1), (0.75, 0.75), ("0.75", 0.75), ("1", 1), ("left", 1), ("Right", 0), ("A", 1), (" b ", 0),
        ("tie", 0.5), ("TIE", 0.5), ("equal", 0.5), ("neither", 0.5), ("first", 1), ("second", 0), (np.float32(0.5), 0.5),
    ],
)  # fmt: skip
def test_labels(label, value):
    assert read([{**ROWS[0], "label": label}]).label.tolist() == [value]
    mixed = read([{**ROWS[0], "label": label}, {**ROWS[1], "label": "right"}])
    assert mixed.label.tolist() == [value, 0.0]


@pytest.mark.parametrize(
    "time",
    [
        1715938200, 1715938200.0, "1715938200", "2024-05-17T09:30:00", "2024-05-17 09:30:00", "2024-05-17T09:30:00Z",
        "2024-05-17T11:30:00+02:00", datetime(2024, 5, 17, 9, 30), datetime(2024, 5, 17, 9, 30, tzinfo=UTC),
    ],
)  # fmt: skip
@pytest.mark.parametrize("frame", [list, pd.DataFrame, pl.DataFrame])
def test_times(time, frame):
    assert read(frame([{**ROWS[0], "time": time}])).time.tolist() == [1715938200.0]


def test_dates_and_missing_times():
    dataset = read(pl.DataFrame([{**ROWS[0], "time": date(1970, 1, 2)}, {**ROWS[1], "time": None}]))
    assert dataset.time[0] == 86400
    assert np.isnan(dataset.time[1])
    assert "1 of 2 rows have no time" in dataset.notes[0]
    assert read([{**ROWS[0], "time": None}, {**ROWS[1], "time": ""}]).time is None


def test_weight_user_text_and_extra_columns():
    rows = [
        {**ROWS[0], "weight": 2, "user_text": "", "part": "history", "n": 3, "nested": [1]},
        {**ROWS[1], "weight": "0.5", "user_text": "likes tea", "part": "heldout", "n": 4, "nested": [2]},
        {**ROWS[2], "weight": 0, "user_text": "is a cook", "part": "history", "n": None, "nested": [3]},
    ]
    dataset = read(rows)
    assert dataset.weight.tolist() == [2.0, 0.5, 0.0]
    assert dataset.user_text == ("is a cook", "likes tea")
    assert dataset.extra["part"].tolist() == ["history", "heldout", "history"]
    np.testing.assert_array_equal(dataset.extra["n"], [3, 4, np.nan])
    assert "nested" not in dataset.extra
    assert any("nested" in note for note in dataset.notes)


def test_several_texts_about_one_person_are_noted():
    rows = [{**ROWS[0], "user_text": "likes tea"}, {**ROWS[2], "user_text": "hates tea"}]
    dataset = read(rows)
    assert dataset.user_text == ("likes tea",)
    assert "several user texts" in dataset.notes[0]


# -- TRL's shapes ---------------------------------------------------------------------------------------------------

PROMPT = [message("user", "What colour is the sky?")]
TRL = {
    "explicit plain": {"prompt": "What colour is the sky?", "chosen": "Blue.", "rejected": "Green."},
    "implicit plain": {"chosen": "What colour is the sky? Blue.", "rejected": "What colour is the sky? Green."},
    "explicit conversational": {
        "prompt": PROMPT,
        "chosen": [message("assistant", "Blue.")],
        "rejected": [message("assistant", "Green.")],
    },
    "implicit conversational": {
        "chosen": [*PROMPT, message("assistant", "Blue.")],
        "rejected": [*PROMPT, message("assistant", "Green.")],
    },
    "prompt given twice": {
        "prompt": "What colour is the sky?",
        "chosen": [*PROMPT, message("assistant", "Blue.")],
        "rejected": [*PROMPT, message("assistant", "Green.")],
    },
}


@pytest.mark.parametrize("shape", TRL)
@pytest.mark.parametrize("source", ["rows", "polars", "pandas", "parquet", "jsonl"])
def test_the_four_shapes_of_trl(shape, source, tmp_path):
    rows = [{**TRL[shape], "user_id": 7}]
    made = {
        "rows": lambda: rows,
        "polars": lambda: pl.DataFrame(rows),
        "pandas": lambda: pd.DataFrame(rows),
        "parquet": lambda: pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet") or tmp_path / "a.parquet",
        "jsonl": lambda: (tmp_path / "a.jsonl").write_text(json.dumps(rows[0])) and tmp_path / "a.jsonl",
    }[source]()
    assert decided(read(made)) == [("7", "What colour is the sky?", "Blue.", "Green.")]


def test_several_turns_become_paragraphs_that_name_the_speaker():
    turns = [
        message("system", "Be brief."),
        message("user", "Hi"),
        message("assistant", "Hello"),
        message("user", "Bye"),
    ]
    row = {
        "user": "u",
        "prompt": turns,
        "chosen": [message("assistant", "Bye.")],
        "rejected": [message("assistant", "No")],
    }
    flat = "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: Bye"
    assert decided(read([row])) == [("u", flat, "Bye.", "No")]
    implicit = {"user": "u", "chosen": turns + row["chosen"], "rejected": turns + row["rejected"]}
    assert decided(read([implicit])) == [("u", flat, "Bye.", "No")]


def test_messages_of_text_parts():
    parts = [{"type": "text", "text": "Blue,"}, {"type": "text", "text": "mostly."}]
    row = {**TRL["explicit conversational"], "chosen": [message("assistant", parts)], "user": "u"}
    assert decided(read([row]))[0][2] == "Blue,\nmostly."


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("a bc", "a bd", ("a", "bc", "bd")),
        ("same words go on", "same words", ("same", "words go on", "words")),
        ("x", "y", ("", "x", "y")),
        (
            "\n\nHuman: Hi\n\nAssistant: I am well",
            "\n\nHuman: Hi\n\nAssistant: I am ill",
            ("Human: Hi\n\nAssistant:", "I am well", "I am ill"),
        ),
    ],
)
def test_the_common_beginning_of_plain_texts(chosen, rejected, expected):
    assert shared_text(chosen, rejected) == expected


def test_a_label_beside_chosen_and_rejected_is_only_kept():
    dataset = read([{**TRL["explicit plain"], "user": "u", "label": "politics"}])
    assert decided(dataset) == [("u", "What colour is the sky?", "Blue.", "Green.")]
    assert dataset.extra["original_label"].tolist() == ["politics"]


def test_sides_of_chosen_and_rejected_are_drawn_by_hash():
    rows = [
        {"user": f"u{i}", "prompt": f"p{i % 7}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(2000)
    ]
    dataset = read(rows)
    assert abs(dataset.label.mean() - 0.5) < 0.05
    back = {row: label for row, label in zip(decided(dataset), dataset.label, strict=True)}
    again = read(rows[::-1])
    assert {row: label for row, label in zip(decided(again), again.label, strict=True)} == back
    flipped = read([{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows])
    np.testing.assert_array_equal(flipped.left, dataset.left)
    np.testing.assert_array_equal(flipped.label, 1.0 - dataset.label)


# -- bad rows -------------------------------------------------------------------------------------------------------

BAD_ROWS = [
    ({"label": "maybe"}, "label 'maybe' is unknown"),
    ({"label": 2}, "label 2 is unknown"),
    ({"label": -1}, "label -1 is unknown"),
    ({"label": None}, "label is missing"),
    ({"label": float("nan")}, "label is missing"),
    ({"label": float("inf")}, "label inf is unknown"),
    ({"left": ""}, "left is empty"),
    ({"right": " \t\n"}, "right is empty"),
    ({"prompt": None}, "prompt is missing"),
    ({"prompt": float("nan")}, "prompt is missing"),
    ({"user": ""}, "user is empty"),
    ({"user": None}, "user is missing"),
    ({"left": "No.", "right": "No. "}, "left and right are the same text"),
    ({"left": b"bytes"}, "left is of type bytes"),
    ({"left": ["Yes", "No"]}, "left is a list with 'Yes'"),
    ({"left": []}, "left is an empty list"),
    (
        {"left": [message("user", [{"type": "image"}])]},
        "left has the message part {'type': 'image'}; only text parts can be read",
    ),
    ({"left": "\ud800"}, "left is broken Unicode"),
    ({"weight": -1}, "weight -1 is no weight"),
    ({"weight": None}, "weight is missing"),
    ({"weight": "heavy"}, "weight 'heavy' is no weight"),
    ({"time": "yesterday"}, "time 'yesterday' is no time"),
]


@pytest.mark.parametrize(("change", "message"), BAD_ROWS, ids=lambda value: str(value)[:30])
def test_a_bad_row_is_named_with_rule_and_fix(change, message):
    rows = [{**row, "weight": 1, "time": 0} for row in ROWS]
    rows[1] = {**rows[1], **change}
    with pytest.raises(DataError) as caught:
        read(rows)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"row 2: {message}")
    assert "1 of 3 rows is bad" in str(caught.value)
    assert "on_error='skip'" in str(caught.value)
    assert "\n" not in str(caught.value)
    kept = read(rows, on_error="skip")
    assert len(kept) == 2
    assert kept.left_out == caught.value.problems
    assert "1 bad row was left out" in kept.notes[0]
    assert kept.fingerprint == read([rows[0], rows[2]]).fingerprint


def test_all_bad_rows_are_reported_and_the_message_names_the_first():
    rows = [{**ROWS[0], "label": "maybe"}] * 50 + [{**ROWS[0], "left": "", "label": 7}]
    with pytest.raises(DataError) as caught:
        read(rows)
    assert len(caught.value.problems) == 51
    assert "left is empty" in caught.value.problems[-1] and "label 7 is unknown" in caught.value.problems[-1]
    assert "51 of 51 rows are bad: row 1:" in str(caught.value)
    assert "and 48 more" in str(caught.value)
    with pytest.raises(DataError, match="no good row is left"):
        read(rows, on_error="skip")


def jsonl(*rows):
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (jsonl(ROWS[0], b"", ROWS[1], b"{oops"), "line 4: is no JSON object (Expecting property name"),
        (jsonl(ROWS[0], b"[1, 2]"), "line 2: is a list; each must be an object"),
        (jsonl(ROWS[0], b"[" * 100_000), "line 2: is no JSON object"),
        (jsonl(ROWS[0], b'{"user": "\xff"}', ROWS[1]), "line 2: is broken UTF-8 at byte 11"),
        (jsonl(ROWS[0], {**ROWS[1], "left": "x" * 5000}, ROWS[1]), "line 2: is longer than 2,000 bytes"),
        (jsonl(ROWS[0], {"user": "x"}), "line 2: prompt is missing"),
        (jsonl(ROWS[0], {**ROWS[1], "left": "\ud800"}), "line 2: left is broken Unicode"),
    ],
    ids=["malformed", "no object", "too deep", "utf-8", "long", "missing", "surrogate"],
)
def test_bad_lines_of_json(tmp_path, content, problem):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path, max_line_bytes=2000 if b"xxxxx" in content else 10**7)
    assert [found for found in caught.value.problems if found.startswith(problem)], caught.value.problems
    assert len(caught.value.problems) == 1
    assert str(path) in str(caught.value)


HEADER = b"user,prompt,left,right,label\n"
GOOD = b"ann,p,yes,no,1\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (HEADER + GOOD + b'bob,p,"two\nlines",no,0\nann,p,yes,no,maybe\n', "line 5: label 'maybe'"),
        (HEADER + GOOD + b"ann,p,yes,no\n", "line 3: has 4 cells; the header names 5"),
        (HEADER + GOOD + b"ann,p,\xff,no,1\n" + GOOD, "line 3: is broken UTF-8 at byte 7"),
        (HEADER + GOOD + b'ann,p,"yes,no,1\n', "line 3: is no CSV row (unexpected end of data)"),
        (HEADER + GOOD + b'ann,p,"yes"!,no,1\n' + GOOD, "line 3: is no CSV row"),
        (HEADER + GOOD + b"ann,p," + b"x" * 5000 + b",no,1\n" + GOOD, "line 3: is longer than 2,000 bytes"),
        (HEADER + GOOD + b"\r\nann,p,,no,1\r\n", "line 4: left is empty"),
    ],
    ids=["after a row of two lines", "ragged", "utf-8", "open quote", "text after quote", "long", "blank line"],
)
def test_bad_lines_of_csv(tmp_path, content, problem):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path, max_line_bytes=2000)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(problem)
    assert read(path, max_line_bytes=2000, on_error="skip").users[0] == "ann"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n\n", "has no rows"),
        ("a.csv", HEADER, "has no rows"),
        ("a.csv", b"user,user,left\n1,2,3\n", "names 'user' twice"),
        ("a.csv", b"us\xffer,prompt\n1,2\n", "line 1: is broken UTF-8"),
        ("a.csv", "user,prompt".encode("utf-16"), "is UTF-16"),
        ("a.json", b"[{]", "no JSON"),
        ("a.json", b'[{"user": "\xff"}]', "broken UTF-8 at byte 11"),
        ("a.parquet", b"no parquet at all", "no readable Parquet file"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0), "unknown kind of file '.gz'"),
        ("a.xlsx", b"x", "unknown kind of file '.xlsx'"),
        ("a", b"x", "unknown kind of file 'without extension'"),
        ("a.jsonl", None, "no such file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="^[^\n]*$") as caught:
        read(path)
    assert message in str(caught.value)


def test_a_damaged_parquet_file_never_brings_the_process_down(tmp_path):
    """Polars' own reader aborts on some of these."""
    path = tmp_path / "a.parquet"
    pl.DataFrame(ROWS * 5, strict=False).write_parquet(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        try:
            read(path, on_error="skip")
        except DataError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
    assert refused > 20
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="no readable Parquet file"):
        read(path)


def test_a_folder_is_no_file(tmp_path):
    folder = tmp_path / "a.csv"
    folder.mkdir()
    with pytest.raises(DataError, match="a folder; give one of the files"):
        read(folder)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt", "left", "right", "label"}, "does not say who chose"),
        ({"user", "left", "right", "label"}, "no column prompt"),
        ({"user", "prompt", "left", "right"}, "no column label"),
        ({"user", "prompt", "chosen"}, "neither prompt, left, right, label nor chosen, rejected"),
    ],
)
def test_missing_columns(columns, message):
    with pytest.raises(DataError) as caught:
        read([{name: "x" for name in sorted(columns)}])
    assert message in str(caught.value)
    assert all(name in str(caught.value) for name in columns)


def test_sources_and_options_that_make_no_sense():
    with pytest.raises(DataError, match="has no column 'who' \\(for user\\)"):
        read(ROWS, user_column="who")
    with pytest.raises(ConfigError, match="columns= has 'answer'"):
        read(ROWS, columns={"answer": "left"})
    with pytest.raises(DataError, match="cannot read a int"):
        read(3)
    with pytest.raises(DataError, match="has no rows"):
        read([])
    with pytest.raises(DataError, match="different lengths"):
        read({"user": ["a"], "prompt": []})
    with pytest.raises(ConfigError, match="on_error='ignore'"):
        read(ROWS, on_error="ignore")


# -- repeats --------------------------------------------------------------------------------------------------------


def test_duplicates_and_contradictions_are_kept_and_noted():
    swapped = {**ROWS[0], "left": "No.", "right": "Yes.", "label": 1}
    dataset = read([ROWS[0], ROWS[0], ROWS[0], swapped, ROWS[1]])
    assert len(dataset) == 5
    assert [note.split(";")[0] for note in dataset.notes] == [
        "2 rows repeat an earlier one exactly",
        "1 pair was decided both ways by the same person",
    ]
    same_choice = {**ROWS[0], "left": "No.", "right": "Yes.", "label": 0}
    assert read([ROWS[0], same_choice, ROWS[1]]).notes == ()


def test_one_person_reads_fine_and_is_noted():
    dataset = read([ROWS[0]])
    assert dataset.n_users == 1
    assert "only one person" in dataset.notes[0]


# -- Hugging Face ---------------------------------------------------------------------------------------------------


def test_hub_data_sets():
    datasets = pytest.importorskip("datasets", reason="the extra palate[hub] is not installed")
    dataset = datasets.Dataset.from_list([{**TRL["implicit conversational"], "user_id": f"u{i}"} for i in range(3)])
    assert read(dataset).users == ("u0", "u1", "u2")
    assert read(dataset.select([2])).users == ("u2",)
    with pytest.raises(DataError, match="several parts"):
        read(datasets.DatasetDict(train=dataset))
