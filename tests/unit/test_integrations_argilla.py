"""Argilla's exports, both generations, on hand-made records."""

import json

import pytest
from typer.testing import CliRunner

from palate.cli.app import app
from palate.errors import ConfigError, DataError
from palate.integrations import argilla

FIELDS = {"prompt": "Hi?", "response-1": "A", "response-2": "B", "response-3": "C"}


def decided(dataset):
    """(user, preferred, other), or ("tie", user, left, right), sorted."""
    found = []
    for row in dataset.to_frame().iter_rows(named=True):
        pair = (row["left"], row["right"]) if row["label"] >= 0.5 else (row["right"], row["left"])
        found.append((row["user"], *pair) if row["label"] != 0.5 else ("tie", row["user"], *pair))
    return sorted(found)


def v1(values, user="ann", status="submitted", fields=FIELDS):
    return {"fields": fields, "responses": [{"user_id": user, "status": status, "values": values}], "id": "r1"}


def v2(responses, fields=FIELDS):
    return {"id": "r1", "fields": fields, "metadata": {}, "suggestions": {}, "responses": responses, "vectors": {}}


RANKED = [("ann", "A", "B"), ("ann", "C", "B"), ("tie", "ann", "A", "C")]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(
            v1(
                {
                    "ranking": {
                        "value": [{"value": f"response-{n}", "rank": rank} for n, rank in ((1, 1), (2, 2), (3, 1))]
                    }
                }
            ),
            id="v1",
        ),
        pytest.param(
            v2(
                {
                    "ranking": [
                        {
                            "user_id": "ann",
                            "value": [{"value": f"response-{n}", "rank": rank} for n, rank in ((1, 1), (2, 2), (3, 1))],
                        }
                    ]
                }
            ),
            id="v2-with-ranks",
        ),
        pytest.param(
            {
                **FIELDS,
                "ranking": [
                    {
                        "user_id": "ann",
                        "status": "submitted",
                        "value": {"rank": [1, 2, 1], "value": ["response-1", "response-2", "response-3"]},
                    }
                ],
            },
            id="v1-flat",
        ),
        pytest.param(
            {
                **FIELDS,
                "ranking": {
                    "user_id": ["ann"],
                    "status": ["submitted"],
                    "value": [{"rank": [1, 2, 1], "value": ["response-1", "response-2", "response-3"]}],
                },
            },
            id="v1-flat-columns",
        ),
    ],
)
def test_a_ranking_implies_all_its_pairs_and_equal_ranks_are_ties(record):
    assert decided(argilla.comparisons([record])) == sorted(RANKED)


@pytest.mark.parametrize(
    "record",
    [
        v2({"order": [{"value": ["response-3", "response-1", "response-2"], "user_id": "ann"}]}),
        {
            "id": "r1",
            **FIELDS,
            "order.responses": [["response-3", "response-1", "response-2"], ["response-1"]],
            "order.responses.users": ["ann", "bob"],
            "order.responses.status": ["submitted", "discarded"],
        },
    ],
    ids=["nested", "flat"],
)
def test_an_ordered_list_is_a_ranking_without_ties(record):
    dataset = argilla.comparisons([record])
    assert decided(dataset) == [("ann", "A", "B"), ("ann", "C", "A"), ("ann", "C", "B")]
    assert set(dataset.extra["record"]) == {"r1"} and set(dataset.extra["question"]) == {"order"}
    assert dataset.prompts == ("Hi?",)


def test_ratings_of_each_reply_are_compared_within_a_person():
    record = v2(
        {
            "rating_1": [{"value": 5, "user_id": "ann"}, {"value": 1, "user_id": "bob"}],
            "rating_2": [{"value": 3, "user_id": "ann"}, {"value": 1, "user_id": "bob"}],
            "rating_3": [{"value": 4, "user_id": "ann"}],
            "comment": [{"value": "nice", "user_id": "ann"}],
        }
    )
    assert decided(argilla.comparisons([record])) == [
        ("ann", "A", "B"),
        ("ann", "A", "C"),
        ("ann", "C", "B"),
        ("tie", "bob", "A", "B"),
    ]


TWO = {"instruction": "Hi?", "answer_a": "A", "answer_b": "B", "source": "web"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("answer_b", [("ann", "B", "A")]),
        ("Answer A", [("ann", "A", "B")]),
        ("a", [("ann", "A", "B")]),
        ("right", [("ann", "B", "A")]),
        ("tie", [("tie", "ann", "A", "B")]),
    ],
)
def test_a_choice_of_one_of_two(value, expected):
    assert decided(argilla.comparisons([v2({"best": [{"value": value, "user_id": "ann"}]}, TWO)])) == expected


def test_a_choice_of_one_of_three_says_nothing_of_the_others():
    record = v1({"best": {"value": "response-2"}})
    assert decided(argilla.comparisons([record])) == [("ann", "B", "A"), ("ann", "B", "C")]


def test_a_numbered_choice_counts_where_the_question_is_named():
    record = v1({"choice": {"value": 2}}, fields=TWO)
    with pytest.raises(DataError, match="no answer implies a pair of replies; questions are: choice"):
        argilla.comparisons([record])
    assert decided(argilla.comparisons([record], question="choice")) == [("ann", "B", "A")]
    with pytest.raises(DataError, match="a choice of 3 is unknown; there are 2 replies"):
        argilla.comparisons([v1({"choice": {"value": 3}}, fields=TWO)], question="choice")


def test_only_submitted_answers_count():
    values = {"best": {"value": "answer_a"}}
    records = [
        v1(values, "ann", "draft", TWO),
        v1(values, "bob", "discarded", TWO),
        v1(values, "eve", "submitted", TWO),
    ]
    assert decided(argilla.comparisons(records)) == [("eve", "A", "B")]


def test_a_question_can_be_chosen():
    record = v2(
        {"style": [{"value": "answer_a", "user_id": "ann"}], "facts": [{"value": "answer_b", "user_id": "ann"}]}, TWO
    )
    assert decided(argilla.comparisons([record])) == [("ann", "A", "B"), ("ann", "B", "A")]
    assert decided(argilla.comparisons([record], question="facts")) == [("ann", "B", "A")]


def test_fields_can_be_named_and_chats_are_read():
    chat = [{"role": "user", "content": "Hi?"}]
    record = v2({"pick": [{"value": "one", "user_id": "ann"}]}, {"talk": chat, "one": "A", "two": "B", "topic": "t"})
    dataset = argilla.comparisons([record], prompt="talk", replies=["one", "two"])
    assert decided(dataset) == [("ann", "A", "B")] and dataset.prompts == ("Hi?",)
    with pytest.raises(DataError, match="has no field three; it has: talk, one, two, topic"):
        argilla.comparisons([record], replies=["one", "three"])
    with pytest.raises(
        DataError, match=r"does not say which field is the prompt; name it with prompt= .*: talk, topic"
    ):
        argilla.comparisons([record], replies=["one", "two"])
    with pytest.raises(DataError, match="has no field question"):
        argilla.comparisons([record], prompt="question", replies=["one", "two"])
    with pytest.raises(ConfigError, match="a comparison needs two"):
        argilla.comparisons([record], replies=["one"])


def test_bad_records_are_named_by_their_number():
    good = v2({"best": [{"value": "answer_a", "user_id": "ann"}]}, TWO)
    nobody = v2({"best": [{"value": "answer_a", "user_id": ""}]}, TWO)
    with pytest.raises(DataError) as caught:
        argilla.comparisons([good, {"text": "x"}, nobody])
    assert caught.value.problems == (
        "row 2: is no Argilla record: neither fields and responses nor answers with user_id; it has: text",
        "row 3: an answer to 'best' has no user_id; every answer needs one",
    )
    assert len(argilla.comparisons([good, {"text": "x"}, nobody], on_error="skip")) == 1


@pytest.mark.parametrize(
    "responses",
    [
        {"best": 3},
        {"best": [3]},
        [3],
        [{"user_id": "a", "values": 3}],
        {"best": [{"user_id": "a", "value": [{"x": 1}]}]},
    ],
)
def test_answers_of_another_shape_are_bad_rows_not_crashes(responses):
    with pytest.raises(DataError, match="row 1: "):
        argilla.comparisons([v2(responses, TWO)])


def test_convert_from_the_command_line(tmp_path):
    path, out = tmp_path / "records.json", tmp_path / "choices.parquet"
    path.write_text(json.dumps([v1({"best": {"value": "response-2"}})]))
    words = ["data", "convert", str(path), "--from", "argilla", "-o", str(out), "--json"]
    done = CliRunner().invoke(app, words)
    assert json.loads(done.stdout)["rows_written"] == 2
    assert json.loads(done.stdout)["name"] == "records"
    done = CliRunner().invoke(app, ["data", "convert", str(path), "--from", "argila", "-o", str(out)])
    assert (done.exit_code, done.stderr) == (2, "error: --from 'argila' is unknown; there are: argilla, label-studio\n")
    done = CliRunner().invoke(app, ["data", "convert", str(path), "--question", "best", "-o", str(out)])
    assert done.exit_code == 2 and "go with --from" in done.stderr
    done = CliRunner().invoke(app, [*words, "--question", "other"])
    assert done.exit_code == 2 and "questions are: best" in done.stderr and len(done.stderr.splitlines()) == 1
