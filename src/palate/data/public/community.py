"""Community Alignment: people of five countries choose one of four replies, turn after turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from palate.data.build import gather, short
from palate.data.conversations import flatten
from palate.data.readers import RawTable
from palate.data.source import Source, hub_file
from palate.data.streams import Rows

__all__ = ["SOURCES", "comparisons", "convert"]

_TURNS = ("first", "second", "third", "fourth")
_LETTERS = ("a", "b", "c", "d")
_EMPTY = frozenset(("", "nan", "none", "null", "empty string"))
_END = "<|end_of_text|>"

_ATTRIBUTES = {
    "annotator_age": "Age",
    "annotator_gender": "Gender",
    "annotator_country": "Country",
    "annotator_education_level": "Education",
    "annotator_ethnicity": "Ethnicity",
    "annotator_political": "Politics",
}


def convert(files: Mapping[str, Rows]) -> RawTable:
    """The chosen reply of each turn against the three others."""
    needs = ("annotator_id", "first_turn_prompt", "first_turn_preferred_response", "first_turn_response_a")
    return gather("community_alignment", [(rows, comparisons) for rows in files.values()], needs=needs)


def comparisons(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The comparisons of one conversation.

    It is followed to the first turn without a choice; the prompt of a turn is the talk so far along the chosen replies.

    Args:
        row: annotator_id, {first … fourth}_turn_prompt, …_response_a to _d, …_preferred_response ("response_b"), and the
            annotator's attributes.
    """
    about = {shown: row[name] for name, shown in _ATTRIBUTES.items() if _text(row.get(name))}
    shared = {
        "user": _text(row["annotator_id"]),
        "user_text": " ".join(f"{shown}: {value}." for shown, value in about.items()),
        "conversation_id": _text(row.get("conversation_id")),
        "language": _text(row.get("assigned_lang")),
        "pregenerated": _text(row.get("is_pregenerated_first_prompt")),
        **{shown.lower(): value for shown, value in about.items()},
    }
    so_far: list[tuple[str, str]] = []
    for number, turn in enumerate(_TURNS):
        asked, choice = _text(row.get(f"{turn}_turn_prompt")), _text(row.get(f"{turn}_turn_preferred_response"))
        if asked is None or choice is None:
            return
        letter = choice.lower().removeprefix("response_")
        replies = {name: _text(row.get(f"{turn}_turn_response_{name}")) for name in _LETTERS}
        if replies.get(letter) is None:
            raise ValueError(f"{turn}_turn_preferred_response is {short(choice)}, and there is no such reply")
        so_far.append(("user", asked))
        # Equal texts among the four would be a choice between the same.
        for other in dict.fromkeys(text for text in replies.values() if text not in (None, replies[letter])):
            yield {**shared, "prompt": flatten(so_far), "chosen": replies[letter], "rejected": other, "turn": number}
        so_far.append(("assistant", replies[letter]))


def _text(value: Any) -> str | None:
    """A cell's text without the mark that some models left at its end; None where it is empty."""
    text = "" if value is None else str(value).strip().removesuffix(_END).strip()
    return None if text.lower() in _EMPTY else text


SOURCES = (
    Source(
        name="community_alignment",
        title="one of four replies chosen, turn after turn: 233,000 choices of 3,500 people in five languages",
        licence="CC BY 4.0",
        attribution="Community Alignment, Zhang et al. (2025), Meta, CC BY 4.0",
        citation=(
            "Zhang et al. (2025). Cultivating pluralism in algorithmic monoculture: the Community Alignment dataset. "
            "arXiv:2507.09650."
        ),
        home="https://huggingface.co/datasets/facebook/community-alignment-dataset",
        options={"on_error": "skip"},
        files=(hub_file("facebook/community-alignment-dataset", "community_alignment.csv"),),
        convert=convert,
        fields=(
            "annotator_id, conversation_id, assigned_lang, is_pregenerated_first_prompt",
            "{first … fourth}_turn_prompt, _response_a … _d, _preferred_response",
            "annotator_age, _gender, _country, _education_level, _ethnicity, _political",
        ),
        rule=(
            "the chosen reply against each of the three others, so a choice gives up to three comparisons that are not "
            "independent; no ties; a talk is followed to the first turn without a choice"
        ),
        verified="licence, scale and the flag of prompts by the publisher's card; columns and words by programs that use them",
        unverified="the file's name (version 1.1) and size, which only programs that use it state; the file was not fetched",
    ),
)
