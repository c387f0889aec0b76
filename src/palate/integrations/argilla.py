"""Argilla's exports as comparisons: one for each annotator and pair of replies that an answer implies.

Read are the records of both generations, as JSON or as Python objects; Argilla itself is not needed:

    v1  {"fields": {…}, "responses": [{"user_id": …, "status": …, "values": {question: {"value": …}}}]}
        and the flat table of `FeedbackDataset.format_as("datasets")`
    v2  {"fields": {…}, "responses": {question: [{"value": …, "user_id": …}]}}
        and the flat records of `records.to_list(flatten=True)`

Three kinds of answers imply pairs: a ranking of the replies (equal ranks are a tie), a rating of each reply (the higher one is
preferred, equal ones are a tie), and the choice of one of two replies (a reply's name, or a word for a tie). Only
submitted answers count. Shapes after Argilla's own programs, v1.29 and v2.8; v1's flat table is not verified.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from palate.data import PreferenceDataset, read
from palate.data.build import gather, score_pairs, short
from palate.data.streams import Rows, open_rows
from palate.data.values import LABEL_WORDS
from palate.errors import ConfigError, DataError

__all__ = ["comparisons"]

_PROMPTS = ("prompt", "instruction", "question", "input", "query", "context", "conversation", "post", "text")
_REPLY = re.compile(
    r"(response|reply|completion|answer|output|generation|candidate|summary|chosen|rejected)", re.IGNORECASE
)
_TIES = frozenset(word for word, label in LABEL_WORDS.items() if label == 0.5)


@dataclass(frozen=True)
class _Answer:
    user: str
    question: str
    value: Any


@dataclass(frozen=True)
class _Form:
    """Which fields hold the prompt and the replies, and which question is asked; None and () mean: find out."""

    prompt: str | None
    replies: tuple[str, ...]
    question: str | None


def comparisons(
    records: str | os.PathLike[str] | Iterable[Mapping[str, Any]],
    *,
    prompt: str | None = None,
    replies: Sequence[str] | None = None,
    question: str | None = None,
    on_error: str = "raise",
    name: str | None = None,
) -> PreferenceDataset:
    """Comparisons from records that people annotated in Argilla.

    Args:
        records: an export (.json, .jsonl, .parquet), or its records as dictionaries.
        prompt: the field with the prompt; found by its name ("prompt", "instruction", …) by default.
        replies: the fields with the replies; by default those that a ranking names, or whose name says so ("response-1").
        question: the question whose answers are used; by default all that imply pairs. A number that answers it says
            which reply is preferred, counted from 1 (0: a tie).
        on_error: as in `palate.data.read`.
        name: of the data set; the file's name by default.

    Returns:
        The data set; `record` and `question` are extra columns.

    Raises:
        DataError: the records have none of the shapes above, no answer implies a pair, or rows are bad.
    """
    if replies is not None and len(replies) < 2:
        raise ConfigError(f"replies={list(replies)}: a comparison needs two; name the fields of all replies")
    is_file = isinstance(records, (str, os.PathLike))
    rows = open_rows(Path(records)) if is_file else Rows.of(records, "the records")
    form = _Form(prompt, tuple(replies or ()), question)
    seen: dict[str, None] = {}
    table = gather(rows.name, [(rows, partial(_of_record, form=form, seen=seen))])
    if not len(table.place) and not table.problems:
        asked = ", ".join(seen) or "none with a submitted answer"
        raise DataError(
            f"{rows.name}: no answer implies a pair of replies; questions are: {asked}; a ranking, a rating of each reply or a "
            "choice of one is needed: name the fields with prompt= and replies= (--prompt-field, --reply-field), the "
            "question with question= (--question)"
        )
    return read(table, on_error=on_error, name=name or (Path(records).stem if is_file else "argilla"))


def _of_record(record: Mapping[str, Any], form: _Form, seen: dict[str, None]) -> Iterator[dict[str, Any]]:
    """The comparisons of one record; `seen` gathers the questions."""
    fields, answers = _parsed(record)
    seen.update(dict.fromkeys(answer.question for answer in answers))
    answers = [answer for answer in answers if form.question in (None, answer.question)]
    if not answers:
        return
    replies = _reply_fields(fields, answers, form)
    if len(replies) < 2:
        return
    shared = {"prompt": fields[_prompt_field(fields, replies, form)], "record": str(record.get("id") or "")}
    for user in dict.fromkeys(answer.user for answer in answers):
        own = [answer for answer in answers if answer.user == user]
        for question, scores, pairs in _scores(own, replies, form):
            texts = [fields[reply] if isinstance(fields[reply], str) else repr(fields[reply]) for reply in replies]
            for left, right, label in score_pairs(texts, scores, pairs=pairs):
                yield {
                    "user": user,
                    **shared,
                    "left": fields[replies[left]],
                    "right": fields[replies[right]],
                    "label": label,
                    "question": question,
                }


# -- what a record holds --------------------------------------------------------------------------------------------


def _parsed(record: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[_Answer]]:
    """Fields and submitted answers, whichever generation wrote them."""
    if not isinstance(record.get("fields"), Mapping):
        return _flat(record)
    responses, answers = record.get("responses") or {}, []
    if isinstance(responses, Mapping):
        for question, given in responses.items():
            answers += [_answer(one, question, one.get("value")) for one in given or [] if _counts(one.get("status"))]
    else:
        for one in responses:
            for question, value in (one.get("values") or {}).items() if _counts(one.get("status")) else ():
                answers.append(_answer(one, question, value.get("value") if isinstance(value, Mapping) else value))
    return record["fields"], answers


def _flat(record: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[_Answer]]:
    answers: list[_Answer] = []
    fields = {key: value for key, value in record.items() if isinstance(value, str) and "." not in key and key != "id"}
    for column, values in record.items():
        question = column.removesuffix(".responses")
        if question != column:
            users = record.get(f"{column}.users") or []
            states = record.get(f"{column}.status") or [None] * len(users)
            given = zip(values or [], users, states, strict=True)
            answers += [_answer({"user_id": user}, question, value) for value, user, state in given if _counts(state)]
        elif isinstance(values, Mapping) and {"user_id", "value"} <= values.keys():
            rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
            answers += [_answer(row, column, row["value"]) for row in rows if _counts(row.get("status"))]
        elif isinstance(values, list) and values and all(_is_answer(row) for row in values):
            answers += [_answer(row, column, row["value"]) for row in values if _counts(row.get("status"))]
    if not answers and not any("responses" in key for key in record):
        there = ", ".join(map(str, list(record)[:12]))
        raise ValueError(
            f"is no Argilla record: neither fields and responses nor answers with user_id; it has: {there}"
        )
    return fields, answers


def _is_answer(value: Any) -> bool:
    return isinstance(value, Mapping) and {"user_id", "value"} <= value.keys()


def _answer(given: Mapping[str, Any], question: str, value: Any) -> _Answer:
    if given.get("user_id") in (None, ""):
        raise ValueError(f"an answer to {question!r} has no user_id; every answer needs one")
    return _Answer(str(given["user_id"]), question, value)


def _counts(status: Any) -> bool:
    """Whether an answer was submitted; exports without a state hold submitted ones only."""
    return status is None or str(getattr(status, "value", status)) == "submitted"


# -- which fields ---------------------------------------------------------------------------------------------------


def _key(name: str) -> str:
    """A name without the signs that fields and options write differently: response-1, Response 1, response_1."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _reply_fields(fields: Mapping[str, Any], answers: Sequence[_Answer], form: _Form) -> list[str]:
    if form.replies:
        missing = [name for name in form.replies if name not in fields]
        if missing:
            raise ValueError(f"has no field {', '.join(missing)}; it has: {', '.join(fields)}")
        return list(form.replies)
    ranked = {_key(name) for answer in answers for name in _ranks(answer.value)}
    named = [field for field in fields if _key(field) in ranked]
    return named if len(named) > 1 else [field for field in fields if _REPLY.search(field) and fields[field]]


def _prompt_field(fields: Mapping[str, Any], replies: Sequence[str], form: _Form) -> str:
    if form.prompt is not None:
        if form.prompt not in fields:
            raise ValueError(f"has no field {form.prompt}; it has: {', '.join(fields)}")
        return form.prompt
    others = [field for field in fields if field not in replies]
    for wanted in _PROMPTS:
        if wanted in (lower := {field.lower(): field for field in others}):
            return lower[wanted]
    if len(others) == 1:
        return others[0]
    raise ValueError(
        f"does not say which field is the prompt; name it with prompt= (--prompt-field): {', '.join(others)}"
    )


# -- what an answer says --------------------------------------------------------------------------------------------


_Said: TypeAlias = "tuple[str, list[float | None], list[tuple[int, int]] | None]"
"""A question, how high one person holds each reply, and the pairs of replies that this compares; None for all pairs."""


def _scores(answers: Sequence[_Answer], replies: Sequence[str], form: _Form) -> Iterator[_Said]:
    """What one person's answers say; ratings of single replies count as one question."""
    rated: dict[str, float] = {}
    for answer in answers:
        ranks = {_key(name): rank for name, rank in _ranks(answer.value).items()}
        if sum(_key(reply) in ranks for reply in replies) > 1:
            yield answer.question, [_negative(ranks.get(_key(reply))) for reply in replies], None
        elif isinstance(answer.value, (int, float)) and not isinstance(answer.value, bool):
            target = _rated_reply(answer.question, replies)
            if target is not None:
                rated[target] = float(answer.value)
            elif form.question is not None:
                yield answer.question, *_chosen(answer.value, replies)
        elif isinstance(answer.value, str):
            chosen = _choice(answer.value, replies)
            if chosen is not None:
                yield answer.question, *_chosen(chosen, replies)
    if len(rated) > 1:
        yield "ratings", [rated.get(reply) for reply in replies], None


def _ranks(value: Any) -> dict[str, float | None]:
    """Options of a ranking with their ranks, 1 the best; empty where the value is no ranking."""
    if isinstance(value, Mapping) and {"rank", "value"} <= value.keys() and isinstance(value["value"], (list, tuple)):
        return dict(zip(value["value"], value["rank"], strict=True))
    if isinstance(value, (list, tuple)) and value and all(isinstance(entry, str) for entry in value):
        return {entry: rank for rank, entry in enumerate(value, 1)}
    if isinstance(value, (list, tuple)) and value and all(isinstance(entry, Mapping) for entry in value):
        return {entry["value"]: entry.get("rank") for entry in value}
    return {}


def _negative(rank: Any) -> float | None:
    return -float(rank) if isinstance(rank, (int, float)) else None


def _rated_reply(question: str, replies: Sequence[str]) -> str | None:
    """The reply that a rating is about: the one that the question names, or that ends with the same number."""
    asked = _key(question)
    named = [reply for reply in replies if _key(reply) in asked]
    number = re.search(r"\d+$", asked)
    if not named and number:
        named = [reply for reply in replies if re.search(r"\d*$", _key(reply)).group() == number.group()]
    return max(named, key=len) if named else None


def _choice(value: str, replies: Sequence[str]) -> int | None:
    """The number of the reply that a choice names, 0 for a tie; None where it names none."""
    word = value.strip().lower()
    for number, reply in enumerate(replies, 1):
        if _key(word) == _key(reply):
            return number
    if word in _TIES:
        return 0
    if len(replies) == 2 and word in LABEL_WORDS:
        return 1 if LABEL_WORDS[word] == 1.0 else 2
    return None


def _chosen(number: float, replies: Sequence[str]) -> tuple[list[float | None], list[tuple[int, int]] | None]:
    """The chosen reply against all others, among which nothing was said; 0 says that all are equal."""
    places = range(len(replies))
    if number not in range(len(replies) + 1):
        raise ValueError(f"a choice of {short(number)} is unknown; there are {len(replies)} replies")
    if number == 0:
        return [0.0 for _ in places], None
    best = int(number) - 1
    return [float(place == best) for place in places], [
        (i, j) for i in places for j in places if i < j and best in (i, j)
    ]
