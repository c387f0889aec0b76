"""Converters of published sets, each on hand-made rows of the publisher's shape."""

import gzip
import json
import zipfile
from collections import Counter

import numpy as np
import polars as pl
import pytest

from palate.data import SOURCES, read
from palate.data.build import gather, hashed, iso_time, listed, score_pairs, whole
from palate.data.public import (
    arena,
    community,
    convarg,
    helpsteer,
    multipref,
    personalllm,
    polis,
    prism,
    psoups,
    tldr,
    ultrafeedback,
)
from palate.data.streams import Rows, open_rows, open_zip
from palate.errors import DataError


def rows(*given):
    return Rows.of(given)


def frame(table, **options):
    return read(table, **options).to_frame()


def choices(table):
    """(user, prompt, preferred, other) of decided rows, ("tie", …) of ties, in the order of the rows."""
    found = []
    for row in frame(table).iter_rows(named=True):
        pair = (row["left"], row["right"]) if row["label"] >= 0.5 else (row["right"], row["left"])
        found.append((row["user"], row["prompt"], *pair) if row["label"] != 0.5 else ("tie", row["user"], *pair))
    return found


# -- what converters share ------------------------------------------------------------------------------------------


def test_score_pairs_compare_what_has_a_text_and_a_score():
    texts = ["a", "b", None, "a ", "d", "e"]
    scores = [2, 1, 3, 9, 2.0, float("nan")]
    assert list(score_pairs(texts, scores)) == [
        (0, 1, 1.0),
        (0, 4, 0.5),
        (1, 3, 0.0),
        (1, 4, 0.0),
        (3, 4, 1.0),
    ]
    assert list(score_pairs(texts, scores, pairs=[(0, 1), (2, 3)])) == [(0, 1, 1.0)]


def test_small_readers():
    assert [whole(value) for value in (3, "4", 5.0, "5.5", None, "x")] == [3, 4, 5, None, None, None]
    assert listed("[1, 2]") == [1, 2] and listed(None) == [] and listed((1,)) == [1]
    with pytest.raises(ValueError, match="is no list"):
        listed(3)
    assert iso_time("2024-01-02 03:04:05") == "2024-01-02T03:04:05"
    assert iso_time("last week") is None and iso_time(None) is None
    assert hashed("a", "x") != hashed("b", "x") and len(hashed("a", "x")) == 12


def test_bad_rows_keep_their_place_and_file_and_leave_nothing_behind():
    def convert(row):
        yield {"user": row["u"], "prompt": "p", "left": "x", "right": row["r"], "label": 1}
        if row["r"] == "boom":
            raise ValueError("goes wrong half-way")

    parts = [
        (Rows.of([{"u": "a", "r": "y"}, {"u": "a", "r": "boom"}], "one.jsonl"), convert),
        (Rows.of([{"u": "b", "r": "x"}, 7, {"u": "b"}, {"u": "b", "r": "z"}], "two.jsonl"), convert),
    ]
    table = gather("set", parts)
    with pytest.raises(DataError, match="4 of 6 rows are bad") as caught:
        read(table)
    assert caught.value.problems == (
        "row 1 of two.jsonl: left and right are the same text; a comparison needs two different ones",
        "row 2: goes wrong half-way (one.jsonl)",
        "row 2: is a int; each must be an object (two.jsonl)",
        "row 3: has no r (two.jsonl)",
    )
    assert frame(table, on_error="skip")["right"].to_list() == ["y", "z"]


def test_a_changed_schema_is_one_line():
    with pytest.raises(
        DataError, match=r"the rows has no column winner, no judge, no conversation_b; it has: conversation_a; its"
    ):
        arena.convert({"train.parquet": rows({"conversation_a": []}), "x": rows()})
    with pytest.raises(DataError, match="has no rows"):
        multipref.convert({"train.parquet": rows()})


# -- families -------------------------------------------------------------------------------------------------------

PAIR = {
    "id": "arg1_arg2",
    "arg1": {"stance": "Books", "text": "Books are long.", "id": "arg1"},
    "arg2": {"stance": "Books", "text": "Books are cheap.", "id": "arg2"},
    "debateMetaData": {"title": "TV is better than Books"},
    "mTurkAssignments": {
        "mTurkAssignment": [
            {"turkID": "A1", "assignmentSubmitTime": "2016-02-14 19:22:33.0 UTC", "value": "a2"},
            {"turkID": "A2", "assignmentSubmitTime": "2016-02-15 03:20:06.0 UTC", "value": "equal"},
        ]
    },
}


def test_convarg_workers_are_hashed_and_equal_is_a_tie():
    found = frame(convarg.convert({"tv-is-better-than-books_books.xml": rows(PAIR)}))
    assert found["label"].to_list() == [0.0, 0.5]
    assert found["user"].to_list() == [hashed("convarg", "A1"), hashed("convarg", "A2")]
    assert set(found["prompt"]) == {"TV is better than Books — Books. Which argument is more convincing?"}
    assert set(found["source_topic"]) == {"tv-is-better-than-books_books"}
    assert found["time"].to_list()[0] == pytest.approx(1455477753.0)


def test_convarg_reads_the_publishers_xml_and_a_single_assignment(tmp_path):
    path = tmp_path / "a_b.xml"
    path.write_text(
        """<?xml version="1.0"?><list><annotatedArgumentPair><id>x</id>
        <arg1><stance>Yes</stance><text>First
line &amp; more</text></arg1><arg2><stance>Yes</stance><text>Second</text></arg2>
        <debateMetaData><title>T</title></debateMetaData>
        <mTurkAssignments><mTurkAssignment><turkID>W</turkID><value>a1</value></mTurkAssignment></mTurkAssignments>
        </annotatedArgumentPair></list>"""
    )
    found = frame(convarg.convert({path.name: open_rows(path)}))
    assert (found["left"][0], found["label"][0]) == ("First\nline & more", 1.0)


def test_convarg_with_an_unknown_value_is_a_bad_row():
    bad = {**PAIR, "mTurkAssignments": {"mTurkAssignment": {"turkID": "A", "value": "a3"}}}
    with pytest.raises(DataError, match="value a3 is unknown; there are: a1, a2, equal"):
        read(convarg.convert({"x.xml": rows(bad)}))


def polis_files(n_statements=40, people=3):
    comments = [
        {"comment-id": str(number), "moderated": "1" if number else "-1", "comment-body": f"statement {number}"}
        for number in range(n_statements + 1)
    ]
    votes = [
        {"timestamp": "1", "comment-id": str(number), "voter-id": str(person), "vote": "1" if number % 2 else "-1"}
        for person in range(people)
        for number in range(n_statements + 1)
    ]
    return comments, votes


def test_polis_votes_are_the_last_ones_on_statements_that_were_let_in():
    comments, votes = polis_files(4, 1)
    votes.append({"timestamp": "5", "comment-id": "1", "voter-id": "0", "vote": "-1"})
    votes.append({"timestamp": "0", "comment-id": "2", "voter-id": "0", "vote": "1"})
    table = polis.convert_votes({"comments.csv": Rows.of(comments), "votes.csv": Rows.of(votes)})
    found = dict(zip(table.columns["statement"], table.columns["vote"], strict=True))
    assert found == {"statement 1": -1, "statement 2": -1, "statement 3": 1, "statement 4": -1}


def test_polis_pairs_agree_with_the_votes_and_parts_share_no_statement():
    comments, votes = polis_files()
    votes += [{"timestamp": "1", "comment-id": "1", "voter-id": "few", "vote": "1"}]
    made = [polis.convert_pairs({"comments.csv": Rows.of(comments), "votes.csv": Rows.of(votes)}) for _ in range(2)]
    found = frame(made[0])
    assert found.equals(frame(made[1]))
    assert found["user"].n_unique() == 3
    for _, own in found.group_by("user"):
        sides = {part: set(rows["left"]) | set(rows["right"]) for (part,), rows in own.group_by("part")}
        assert not sides["history"] & sides["heldout"]
        assert own["part"].value_counts().sort("part")["count"].to_list() == [20, 40]
        assert own.unique(["left", "right"]).height == 60
    liked = [left if label == 1 else right for left, right, label in found.select("left", "right", "label").iter_rows()]
    assert all(int(statement.split()[1]) % 2 for statement in liked)
    assert 0.3 < found["label"].mean() < 0.7


def test_polis_with_an_unknown_vote_is_a_bad_row():
    comments, votes = polis_files(4, 1)
    votes[2]["vote"] = "7"
    table = polis.convert_votes({"comments.csv": Rows.of(comments), "votes.csv": Rows.of(votes, "votes.csv")})
    assert table.problems == [(3, "vote 7 is unknown; there are: 1, 0, -1")]


def soup_files(**more):
    row = {"user_input": "Say hello.", "completion_a": "Hello!", "completion_b": "Go away."}
    return {f"{name}.json": Rows.of([row, *more.get(name, [])]) for name in psoups.PREFERENCES}


def test_psoups_has_six_people_who_prefer_completion_a():
    again = {
        "user_input": "Say hello. " + psoups.PREFERENCES["P1A"],
        "completion_a": "Hello!",
        "completion_b": "Go away.",
    }
    table = psoups.convert(soup_files(P1A=[again]))
    assert choices(table) == [(name, "Say hello.", "Hello!", "Go away.") for name in psoups.PREFERENCES]
    dataset = read(table)
    assert dataset.user_text == tuple(psoups.PREFERENCES[name] for name in dataset.users)
    assert dataset.notes[0] == "1 rows repeat an earlier one and were left out"


def test_psoups_needs_all_six_files():
    files = soup_files()
    del files["P2B.json"]
    with pytest.raises(DataError, match=r"psoups: no file P2B.json"):
        psoups.convert(files)


def test_personalllm_reward_models_are_people_and_pairs_share_no_reply():
    row = {"prompt": "p", "subset": "s", **{f"response_{number}": f"reply {number}" for number in range(1, 9)}}
    for place, model in enumerate(personalllm.REWARD_MODELS):
        for number in range(1, 9):
            row[f"response_{number}_{model}"] = float(number if place else 9 - number)
    row["response_2_gemma_7b"] = row["response_1_gemma_7b"]
    row["response_3_gemma_7b"] = None
    found = frame(personalllm.convert({"train.parquet": rows(row)}))
    counts = Counter(found["user"])
    assert counts["gemma_7b"] == 3 and sum(counts.values()) == 39 and len(counts) == 10
    assert set(found.filter(user="gemma_2b")["label"]) == {1.0}
    assert set(found.filter(user="mistral_raft")["label"]) == {0.0}
    assert found.filter(user="gemma_7b")["label"].to_list() == [0.5, 0.0, 0.0]
    assert found.filter(user="beaver_7b").select("left", "right").rows() == [
        ("reply 1", "reply 2"),
        ("reply 3", "reply 4"),
        ("reply 5", "reply 6"),
        ("reply 7", "reply 8"),
    ]
    assert set(found["source_part"]) == {"train"}


def test_personalllm_without_scores_is_a_bad_row():
    row = {"prompt": "p", **{f"response_{number}": f"r{number}" for number in range(1, 9)}, "response_1_gemma_2b": None}
    with pytest.raises(DataError, match="has no score of any reward model"):
        read(personalllm.convert({"train.parquet": rows(row)}))


def reply(turn, text, score, chosen):
    return {"turn": turn, "role": "model", "content": text, "score": score, "if_chosen": chosen, "model_name": "m"}


TALK = {
    "user_id": "user1",
    "conversation_id": "c1",
    "conversation_type": "unguided",
    "generated_datetime": "2023-11-22 16:26:53",
    "conversation_history": [
        {"turn": 0, "role": "user", "content": "Hi"},
        reply(0, "A", 80, True),
        reply(0, "B", 20, False),
        reply(0, "C", 80, False),
        {"turn": 1, "role": "user", "content": "Why?"},
        reply(1, "D", 1, False),
        reply(1, "E", 2, True),
    ],
}


def test_prism_scores_imply_pairs_and_the_prompt_follows_the_chosen_replies():
    survey = [{"user_id": "user1", "self_description": "I like tea.", "system_string": "Be kind.", "age": "25-34"}]
    table = prism.convert({"conversations.jsonl": rows(TALK), "survey.jsonl": Rows.of(survey)})
    later = "User: Hi\n\nAssistant: A\n\nUser: Why?"
    assert choices(table) == [
        ("user1", "Hi", "A", "B"),
        ("tie", "user1", "A", "C"),
        ("user1", "Hi", "C", "B"),
        ("user1", later, "E", "D"),
    ]
    dataset = read(table)
    assert dataset.user_text == ("I like tea.\n\nBe kind.",)
    assert dataset.extra["turn"].tolist() == [0, 0, 0, 1]
    assert dataset.extra["age"].tolist() == ["25-34"] * 4
    assert dataset.time[0] == pytest.approx(1700670413.0)


def test_prism_without_the_survey_and_with_a_talk_that_breaks_off():
    broken = {
        **TALK,
        "conversation_history": [{**TALK["conversation_history"][0]}, reply(0, "A", 5, False), reply(0, "B", 6, False)],
    }
    assert choices(prism.convert({"conversations.jsonl": rows(broken)})) == [("user1", "Hi", "B", "A")]


def test_prism_with_messages_of_another_shape_is_a_bad_row():
    strange = {**TALK, "conversation_history": [{"turn": 0, "role": "tool", "content": "x"}]}
    with pytest.raises(DataError, match="role tool is unknown; there are: user, model"):
        read(prism.convert({"conversations.jsonl": rows(strange)}))
    with pytest.raises(DataError, match="conversation_history is hello; it must be a list"):
        read(prism.convert({"conversations.jsonl": rows({**TALK, "conversation_history": "hello"})}))


SUMMARY = {
    "info": {"id": "t3_1", "post": "Long story.", "title": "Help", "subreddit": "advice"},
    "summaries": [
        {"text": " short", "policy": "sup4", "note": None},
        {"text": " other", "policy": "ref", "note": None},
    ],
    "choice": 1,
    "worker": "w1",
    "batch": "batch9",
    "split": "train",
    "extra": {"confidence": 8},
}


def test_tldr_choice_names_the_preferred_summary_and_articles_are_left_out():
    article = {**SUMMARY, "info": {"id": "a", "post": None, "article": "News."}}
    table = tldr.convert({"train.parquet": rows(SUMMARY, {**SUMMARY, "choice": 0, "worker": "w2"}, article)})
    prompt = "SUBREDDIT: r/advice\nTITLE: Help\nPOST: Long story.\nTL;DR:"
    assert choices(table) == [("w1", prompt, "other", "short"), ("w2", prompt, "short", "other")]
    dataset = read(table)
    assert dataset.notes[0] == "1 rows are on CNN/DailyMail articles and were left out"
    assert dataset.extra["policy_left"].tolist() == ["sup4", "sup4"]
    assert dataset.extra["confidence"].tolist() == [8, 8]


@pytest.mark.parametrize(
    ("change", "says"), [({"choice": 2}, "choice 2 is unknown"), ({"summaries": []}, "has 0 summaries")]
)
def test_tldr_bad_rows(change, says):
    with pytest.raises(DataError, match=says):
        read(tldr.convert({"train.parquet": rows({**SUMMARY, **change})}))


def rated(text, *values):
    return {
        "response": text,
        "annotations": {aspect: {"Rating": value} for aspect, value in zip(ultrafeedback.ASPECTS, values, strict=True)},
    }


def feedback_files():
    one = {
        "instruction": "p1",
        "completions": [
            rated("x", "5", "1", "3", "3"),
            rated("y", "2", "4", "3", "4"),
            rated("z", "N/A", "1", "1", "1"),
        ],
    }
    two = {"instruction": "p2", "completions": [rated("x", "5", "5", "5", "5"), rated("y", "1", "1", "5", "1")]}
    pairs = [
        {
            "prompt": "p1",
            "chosen": [{"role": "user", "content": "p1"}, {"role": "assistant", "content": "x"}],
            "rejected": "y",
        },
        {"prompt": "p1", "chosen": "x", "rejected": "z"},
        {"prompt": "p2", "chosen": "x", "rejected": "y"},
    ]
    return {"train.parquet": Rows.of(pairs), "flan.jsonl": rows(one), "sharegpt.jsonl": rows(two)}


def test_ultrafeedback_p4_keeps_what_the_aspects_disagree_on():
    assert choices(ultrafeedback.convert_four(feedback_files())) == [
        ("helpfulness", "p1", "x", "y"),
        ("honesty", "p1", "y", "x"),
        ("tie", "instruction_following", "x", "y"),
        ("truthfulness", "p1", "y", "x"),
    ]


def test_ultrafeedback_p2_has_two_people_and_all_pairs():
    table = ultrafeedback.convert_two(feedback_files())
    assert [row[:3] for row in choices(table)] == [
        ("helpfulness", "p1", "x"),
        ("honesty", "p1", "y"),
        ("helpfulness", "p2", "x"),
        ("honesty", "p2", "x"),
    ]
    assert read(table).extra["controversial"].tolist() == [True, True, False, False]


def test_ultrafeedback_needs_pairs_and_ratings():
    with pytest.raises(DataError, match="needs train.parquet"):
        ultrafeedback.convert_four({"flan.jsonl": rows({})})


def talk(*texts):
    return [{"role": "user" if place % 2 == 0 else "assistant", "content": text} for place, text in enumerate(texts)]


VOTE = {
    "question_id": "q",
    "model_a": "m1",
    "model_b": "m2",
    "winner": "model_b",
    "judge": "arena_user_1",
    "conversation_a": talk("Hi", "A1"),
    "conversation_b": talk("Hi", "B1"),
    "turn": 1,
    "language": "English",
    "tstamp": 1682351591.1322,
}


def test_arena_votes_with_ties_and_several_turns():
    longer = {
        **VOTE,
        "winner": "tie (bothbad)",
        "conversation_a": talk("Hi", "A1", "And?", "A2"),
        "conversation_b": talk("Hi", "B1", "And?", "B2"),
        "turn": 2,
    }
    table = arena.convert({"train.parquet": rows(VOTE, longer)})
    left = "Assistant: A1\n\nUser: And?\n\nAssistant: A2"
    assert choices(table) == [
        ("arena_user_1", "Hi", "B1", "A1"),
        ("tie", "arena_user_1", left, left.replace("A1", "B1").replace("A2", "B2")),
    ]
    assert read(table).time[0] == pytest.approx(1682351591.1322)


def test_arena_with_an_unknown_winner_is_a_bad_row():
    with pytest.raises(DataError, match="winner both is unknown"):
        read(arena.convert({"train.parquet": rows({**VOTE, "winner": "both"})}))


def test_multipref_annotators_of_both_kinds():
    given = [("ann1", "A-is-slightly-better"), ("ann2", "Tie")]
    row = {
        "comparison_id": "c",
        "text": "p",
        "completion_a": "x",
        "completion_b": "y",
        "category": "QA",
        "source": "s",
        "normal_worker_annotations": [
            {"evaluator": who, "overall_pref": pref, "timestamp": "?"} for who, pref in given
        ],
        "expert_worker_annotations": [{"evaluator": "ann1", "overall_pref": "B-is-clearly-better"}],
    }
    table = multipref.convert({"train.parquet": rows(row)})
    assert choices(table) == [
        ("normal-ann1", "p", "x", "y"),
        ("tie", "normal-ann2", "x", "y"),
        ("expert-ann1", "p", "y", "x"),
    ]
    dataset = read(table)
    assert dataset.time is None
    assert dataset.extra["kind"].tolist() == ["normal", "normal", "expert"]


def test_helpsteer2_slots_and_turn_marks():
    row = {
        "split": "train",
        "prompt": "Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nBye",
        "response_1": "x",
        "response_2": "y",
        "all_preferences_unprocessed": [{"strength": 1}, {"strength": -100}, {"strength": -3}, {"strength": 0}],
    }
    table = helpsteer.convert_two({"preference.jsonl.gz": rows(row)})
    prompt = "User: Hi\n\nAssistant: Hello\n\nUser: Bye"
    assert choices(table) == [("slot-1", prompt, "y", "x"), ("slot-3", prompt, "x", "y"), ("tie", "slot-4", "x", "y")]
    assert "1 annotations state no preference (strength -100)" in read(table).notes[0]
    with pytest.raises(DataError, match="a preference of 9 is unknown"):
        read(helpsteer.convert_two({"a": rows({**row, "all_preferences_unprocessed": [{"strength": 9}]})}))


def test_helpsteer3_scores():
    row = {
        "context": talk("Fix it."),
        "response1": "x",
        "response2": "y",
        "domain": "code",
        "language": "python",
        "individual_preference": [{"score": -2, "reasoning": ""}, {"score": 2, "reasoning": ""}],
    }
    table = helpsteer.convert_three({"validation.jsonl.gz": rows(row)})
    assert choices(table) == [("slot-1", "Fix it.", "x", "y"), ("slot-2", "Fix it.", "y", "x")]
    assert read(table).extra["source_part"].tolist() == ["validation"] * 2


def conversation(**change):
    row = {
        "annotator_id": "7",
        "conversation_id": "c",
        "assigned_lang": "en",
        "annotator_age": "18-34",
        "annotator_gender": "",
    }
    for turn, choice in (("first", "response_b"), ("second", "response_a"), ("third", "")):
        row[f"{turn}_turn_prompt"] = f"{turn} prompt"
        row[f"{turn}_turn_preferred_response"] = choice
        for letter in "abcd":
            row[f"{turn}_turn_response_{letter}"] = f"{turn} {letter}<|end_of_text|>"
    return row | change


def test_community_alignment_first_choice_against_the_others():
    row = conversation(second_turn_response_c="second a", second_turn_response_d="EMPTY STRING")
    table = community.convert({"community_alignment.csv": rows(row)})
    later = "User: first prompt\n\nAssistant: first b\n\nUser: second prompt"
    assert choices(table) == [
        ("7", "first prompt", "first b", "first a"),
        ("7", "first prompt", "first b", "first c"),
        ("7", "first prompt", "first b", "first d"),
        ("7", later, "second a", "second b"),
    ]
    dataset = read(table)
    assert dataset.user_text == ("Age: 18-34.",)
    assert dataset.extra["age"].tolist() == ["18-34"] * 4


def test_community_alignment_with_a_choice_that_is_not_there():
    with pytest.raises(DataError, match="first_turn_preferred_response is response_e, and there is no such reply"):
        read(community.convert({"a.csv": rows(conversation(first_turn_preferred_response="response_e"))}))


# -- files ----------------------------------------------------------------------------------------------------------

RECORDS = [{"a": 1, "b": {"c": ["x"]}}, {"a": 2, "b": {"c": []}}]


def test_every_kind_of_file_gives_the_same_rows(tmp_path):
    lines = "\n".join(json.dumps(record) for record in RECORDS)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.json").write_text("\ufeff  " + json.dumps(RECORDS))
    (tmp_path / "c.json").write_text(lines)
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pl.DataFrame(RECORDS).write_parquet(tmp_path / "e.parquet")
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.writestr("repo-1/data/x.json", json.dumps(RECORDS))
        archive.writestr("repo-1/other/x.json", "[]")
    found = [open_rows(path) for path in sorted(tmp_path.iterdir()) if path.suffix != ".zip"]
    found += open_zip(tmp_path / "f.zip", "data/*.json").values()
    assert [list(stream.rows) for stream in found] == [list(enumerate(RECORDS, 1))] * 6
    assert [stream.unit for stream in found] == ["line", "row", "row", "line", "row", "row"]


def test_csv_rows_and_their_problems(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,"x\ny"\n2\n3,z\n')
    stream = open_rows(path)
    assert list(stream.rows) == [(2, {"a": "1", "b": "x\ny"}), (5, {"a": "3", "b": "z"})]
    assert stream.problems == [(4, "has 1 cells; the header names 2")]


def test_broken_lines_are_problems_of_the_stream(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n{"a": \n\xff\n'))
    stream = open_rows(path)
    assert [place for place, _ in stream.rows] == [1]
    assert [place for place, _ in stream.problems] == [2, 3]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet", "a.xml"])
def test_a_file_that_is_cut_short_is_one_line(tmp_path, name):
    whole_file = tmp_path / name
    if name.endswith("gz"):
        whole_file.write_bytes(gzip.compress(json.dumps({"a": "x" * 10000}).encode()))
    elif name.endswith("parquet"):
        pl.DataFrame({"a": np.arange(10000)}).write_parquet(whole_file)
    else:
        whole_file.write_text("<list><a><b>1</b></a><a><b>2</b></a></list>")
    whole_file.write_bytes(whole_file.read_bytes()[:-20])
    with pytest.raises(DataError, match="delete it and fetch it again"):
        list(open_rows(whole_file).rows)


def test_archives_that_are_broken_or_other(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(DataError, match="cut short or damaged"):
        open_zip(tmp_path / "a.zip", "*.json")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"holds nothing like \*.json"):
        open_zip(tmp_path / "b.zip", "*.json")
    with pytest.raises(DataError, match="unknown kind of file '.txt'"):
        open_rows(tmp_path / "x.txt")


# -- the registry ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.name)
def test_every_entry_says_what_a_user_must_know(source):
    for field in ("title", "licence", "attribution", "citation", "home", "rule", "verified", "unverified"):
        text = getattr(source, field)
        assert text and "\n" not in text, field
    assert source.files and source.convert is not None and source.fields
    assert all(file.url.startswith("https://") for file in source.files)
    assert all(isinstance(field, str) and len(field) > 3 for field in source.fields)
    assert len({file.name for file in source.files}) == len(source.files)
    assert source.noncommercial == ("NC" in source.licence)
    assert ("non-commercial use only" in source.licence_line) == source.noncommercial
    assert source.file == f"{source.name}.parquet"


def test_the_names_that_issue_three_asks_for():
    wanted = (
        "convarg polis_bowling_green psoups personalllm prism tldr ultrafeedback_p4 chatbot_arena multipref helpsteer2"
    )
    assert {*wanted.split(), "helpsteer3", "community_alignment"} <= SOURCES.keys()
