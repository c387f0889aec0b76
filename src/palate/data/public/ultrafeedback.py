"""UltraFeedback-P: four aspects of GPT-4's ratings as people (Poddar et al. 2024, "UF-P-4" and "UF-P-2")."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from palate.data.build import gather, whole
from palate.data.conversations import as_messages
from palate.data.readers import RawTable
from palate.data.source import Source, hub_file, hub_parquet
from palate.data.streams import Rows
from palate.errors import DataError

__all__ = ["ASPECTS", "SOURCES", "comparisons", "convert_four", "convert_two", "key"]

ASPECTS = ("helpfulness", "honesty", "instruction_following", "truthfulness")
"""The four people."""

PAIRS_FILE = "train.parquet"
"""The file that says which two replies of a prompt are compared."""

Ratings: TypeAlias = dict[bytes, tuple[int, ...]]
"""By the digest of prompt and reply, the rating of each aspect: the texts of all replies would take half a gigabyte."""


def key(prompt: str, reply: str) -> bytes:
    """What `Ratings` calls a reply."""
    return hashlib.blake2b(f"{prompt}\0{reply}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def convert_four(files: Mapping[str, Rows]) -> RawTable:
    """UF-P-4: four people, and only pairs on which they disagree."""
    return _convert(files, ASPECTS, contested_only=True)


def convert_two(files: Mapping[str, Rows]) -> RawTable:
    """UF-P-2: helpfulness and honesty, all pairs."""
    return _convert(files, ASPECTS[:2], contested_only=False)


def _convert(files: Mapping[str, Rows], people: Sequence[str], contested_only: bool) -> RawTable:
    ratings: Ratings = {}
    rated = [rows for name, rows in files.items() if name != PAIRS_FILE]
    if not rated or PAIRS_FILE not in files:
        raise DataError(
            f"ultrafeedback: needs {PAIRS_FILE} (which replies are compared) and the rated replies (*.jsonl)"
        )
    problems = gather(
        "ratings", [(rows, partial(_take, ratings=ratings)) for rows in rated], needs=("instruction", "completions")
    ).problems
    convert = partial(comparisons, ratings=ratings, people=people, contested_only=contested_only)
    table = gather("ultrafeedback", [(files[PAIRS_FILE], convert)], needs=("prompt", "chosen", "rejected"))
    table.problems.extend(problems)
    return table


def _take(row: Mapping[str, Any], ratings: Ratings) -> Iterator[dict[str, Any]]:
    """Note the ratings of a prompt's replies; those without all four are not used."""
    for reply in row["completions"]:
        given = [whole((reply["annotations"].get(aspect) or {}).get("Rating")) for aspect in ASPECTS]
        if None not in given:
            ratings[key(row["instruction"], reply["response"])] = tuple(given)
    return iter(())


def comparisons(
    row: Mapping[str, Any], ratings: Ratings, people: Sequence[str], contested_only: bool
) -> Iterator[dict[str, Any]]:
    """The comparisons of one pair: one for each person.

    Args:
        row: prompt, chosen, rejected (a text, or messages whose last one is the reply).
        ratings: of the replies; a pair of which one has none gives nothing.
        people: aspects.
        contested_only: leave out pairs on which no two people disagree.
    """
    left, right = _reply(row["chosen"]), _reply(row["rejected"])
    of_left, of_right = ratings.get(key(row["prompt"], left)), ratings.get(key(row["prompt"], right))
    if of_left is None or of_right is None:
        return
    difference = {aspect: of_left[place] - of_right[place] for place, aspect in enumerate(ASPECTS)}
    wanted = [difference[aspect] for aspect in people]
    contested = min(wanted) < 0 < max(wanted)
    if contested_only and not contested:
        return
    for aspect in people:
        step = difference[aspect]
        yield {
            "user": aspect,
            "prompt": row["prompt"],
            "left": left,
            "right": right,
            "label": 0.5 if step == 0 else float(step > 0),
            "controversial": contested,
            "source": row.get("source"),
        }


def _reply(value: Any) -> str:
    return value if isinstance(value, str) else as_messages(value)[-1][1]


_RATED = ("evol_instruct", "false_qa", "flan", "sharegpt", "truthful_qa", "ultrachat")

_ABOUT = {
    "licence": "MIT, as commonly stated (not verified here); replies and ratings by models of several providers",
    "attribution": "UltraFeedback, Cui et al. (ICML 2024); pairs: Argilla; people as in VPL, Poddar et al. (NeurIPS 2024)",
    "citation": (
        "Cui et al. (2024). UltraFeedback: boosting language models with scaled AI feedback. ICML 2024. Poddar et al. "
        "(2024). Personalizing reinforcement learning from human feedback with variational preference learning. NeurIPS 2024."
    ),
    "home": "https://huggingface.co/datasets/openbmb/UltraFeedback",
    "folder": "ultrafeedback",
    "options": {"on_error": "skip"},
    "files": (
        hub_parquet("argilla/ultrafeedback-binarized-preferences-cleaned", "default", "train"),
        *(hub_file("openbmb/UltraFeedback", f"{name}.jsonl") for name in _RATED),
    ),
    "megabytes": 950.0,
    "fields": (
        "train.parquet: prompt, chosen, rejected, source",
        "*.jsonl: instruction, completions (response, annotations.{aspect}.Rating)",
    ),
    "verified": "the recipe and the fields by VPL's program and METHODS M.3; the file names by programs that use them",
    "unverified": (
        "the licence; a tie stays a tie here, where VPL breaks it at random, so counts differ from its tables; the files were "
        "not fetched"
    ),
}

SOURCES = (
    Source(
        name="ultrafeedback_p4",
        title="four aspects of a rating as people, on the pairs on which they disagree (UF-P-4)",
        convert=convert_four,
        rule=(
            "helpfulness, honesty, instruction following and truthfulness are four people; each prefers the reply with its "
            "higher rating, equal ratings are a tie; pairs on which no two disagree are left out"
        ),
        **_ABOUT,
    ),
    Source(
        name="ultrafeedback_p2",
        title="two aspects of a rating as people, helpfulness and honesty (UF-P-2)",
        convert=convert_two,
        rule="as ultrafeedback_p4, with helpfulness and honesty, and all pairs",
        **_ABOUT,
    ),
)
