"""HelpSteer2 and HelpSteer3 preferences with every annotator's own score."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from palate.data.build import gather, listed, short, whole
from palate.data.conversations import as_messages, flatten
from palate.data.readers import RawTable
from palate.data.source import Source, hub_file
from palate.data.streams import Rows

__all__ = ["SOURCES", "convert_three", "convert_two", "three", "two"]

_NO_PREFERENCE = -100
_TURN = re.compile(r"\n*<extra_id_1>(User|Assistant)\n")


def convert_two(files: Mapping[str, Rows]) -> RawTable:
    """One comparison per pair and annotation of HelpSteer2."""
    neither: list[int] = []
    parts = [(rows, partial(two, neither=neither)) for rows in files.values()]
    table = gather("helpsteer2", parts, needs=("prompt", "response_1", "response_2", "all_preferences_unprocessed"))
    if neither:
        table.notes.append(
            f"{len(neither):,} annotations state no preference (strength {_NO_PREFERENCE}) and were left out"
        )
    return table


def convert_three(files: Mapping[str, Rows]) -> RawTable:
    """One comparison per pair and annotation of HelpSteer3."""
    parts = [(rows, partial(three, part=name.partition(".")[0])) for name, rows in files.items()]
    return gather("helpsteer3", parts, needs=("context", "response1", "response2", "individual_preference"))


def two(row: Mapping[str, Any], neither: list[int]) -> Iterator[dict[str, Any]]:
    """The comparisons of a HelpSteer2 row.

    Args:
        row: prompt, response_1, response_2, all_preferences_unprocessed (strength), split.
        neither: to which an entry is added for each annotation that states no preference.
    """
    pair = {"prompt": _prompt(row["prompt"]), "left": row["response_1"], "right": row["response_2"]}
    strengths = [whole(given["strength"]) for given in listed(row["all_preferences_unprocessed"])]
    neither.extend(place for place, strength in enumerate(strengths) if strength == _NO_PREFERENCE)
    yield from _slots(pair, strengths, {"source_part": row.get("split")})


def three(row: Mapping[str, Any], part: str) -> Iterator[dict[str, Any]]:
    """The comparisons of a HelpSteer3 row.

    Args:
        row: context (messages), response1, response2, individual_preference (score), domain, language.
        part: "train" or "validation".
    """
    prompt = flatten(as_messages(listed(row["context"])))
    pair = {"prompt": prompt, "left": row["response1"], "right": row["response2"]}
    scores = [whole(given["score"]) for given in listed(row["individual_preference"])]
    yield from _slots(pair, scores, {"source_part": part, "domain": row.get("domain"), "language": row.get("language")})


def _slots(
    pair: Mapping[str, Any], strengths: Sequence[int | None], extra: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    for place, strength in enumerate(strengths, 1):
        if strength == _NO_PREFERENCE:
            continue
        if strength is None or not -3 <= strength <= 3:
            raise ValueError(f"a preference of {short(strength)} is unknown; it is a whole number from -3 to 3")
        label = 0.5 if strength == 0 else float(strength < 0)
        yield {"user": f"slot-{place}", **pair, "label": label, "strength": strength, **extra}


def _prompt(text: str) -> str:
    """The publisher's marks between turns as our conversations."""
    parts = _TURN.split(text)
    return flatten([("user", parts[0].strip())] + [(role.lower(), said.strip()) for role, said in _pairs(parts[1:])])


def _pairs(values: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(values[::2], values[1::2], strict=True)


_ABOUT = {
    "licence": "CC BY 4.0",
    "options": {"on_error": "skip"},
    "rule": (
        "response 1 is left; a negative number prefers it, a positive one the other, 0 is a tie. No annotator ids are "
        "published: user is the place in a row's list (slot-1, slot-2, …), not a person, so disagreement per pair can be "
        "audited but nobody's taste be learned"
    ),
}

_NO_IDS = (
    "the publisher names no annotators: user is a place in the row's list, not a person; the files were not fetched"
)

SOURCES = (
    Source(
        name="helpsteer2",
        title="pairs of replies with each annotator's own preference strength (HelpSteer2-Preference)",
        attribution="HelpSteer2-Preference, Wang et al. (ICLR 2025), NVIDIA, CC BY 4.0",
        citation="Wang et al. (2025). HelpSteer2-Preference: complementing ratings with preferences. ICLR 2025.",
        home="https://huggingface.co/datasets/nvidia/HelpSteer2",
        files=(hub_file("nvidia/HelpSteer2", "preference/preference.jsonl.gz"),),
        convert=convert_two,
        fields=("prompt, response_1, response_2, split, all_preferences_unprocessed (strength)",),
        verified="fields, file and licence by the publisher's card",
        unverified=f"that strength -100 means no preference (by programs that use it); {_NO_IDS}",
        **_ABOUT,
    ),
    Source(
        name="helpsteer3",
        title="40,476 pairs of replies in 13 languages with up to three annotators' own scores (HelpSteer3-Preference)",
        attribution="HelpSteer3-Preference, Wang et al. (2025), NVIDIA, CC BY 4.0",
        citation=(
            "Wang et al. (2025). HelpSteer3-Preference: open human-annotated preference data across diverse tasks and "
            "languages. arXiv:2505.11475."
        ),
        home="https://huggingface.co/datasets/nvidia/HelpSteer3",
        files=(
            hub_file("nvidia/HelpSteer3", "preference/train.jsonl.gz"),
            hub_file("nvidia/HelpSteer3", "preference/validation.jsonl.gz"),
        ),
        convert=convert_three,
        fields=("context, response1, response2, domain, language, individual_preference (score)",),
        verified="licence and scale by the paper and card; fields and train.jsonl.gz by programs that use them",
        unverified=_NO_IDS,
        **_ABOUT,
    ),
)
