"""Does a generator's reply stay correct and safe when it is picked for a person?

For prompts of the measured half that have a right or a safe answer, the best is taken of the better reply, the worse one and
several that a language model really writes: by the base reward, by one reward for all, and for each new person. The worse reply is known to
be wrong or unsafe; nobody judges the model's own replies, whose share is told beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.evaluate.suites.result import estimate_row
from palate.evaluate.suites.tax_exam import Cells, Part
from palate.evaluate.suites.tax_methods import Place, fitted
from palate.features import embed_items, make
from palate.generate import make_sampler
from palate.policies.generation import Sampling
from palate.rng import derive
from palate.statistics import two_way
from palate.types import Items

__all__ = ["Written", "picked", "replies", "written"]

_KINDS = ("should-refuse", "care", "facts")


@dataclass(frozen=True)
class Written:
    """Replies that a language model writes to some prompts.

    Args:
        sampler: as `palate.generate.make_sampler` takes it.
        prompts: of each kind (should-refuse, care, facts).
        n: replies to each.
        max_tokens: of a reply.
    """

    sampler: str
    prompts: int
    n: int
    max_tokens: int


def written(place: Place, how: Written) -> dict[str, Any]:
    """The numbers of the chosen pairs, and n replies to each of their prompts."""
    world, sampler = place.world(), make_sampler(how.sampler)
    kinds = [pair.subcategory for pair in world.pairs]
    chosen = [n for kind in _KINDS for n in np.flatnonzero([own == kind for own in kinds])[: how.prompts].tolist()]
    sampling = Sampling(max_tokens=how.max_tokens, temperature=1.0, repetition_penalty=1.1)
    texts = [
        list(
            sampler.sample(
                world.pairs[number].prompt, how.n, rng=derive(place.seed, "tax replies", number), sampling=sampling
            ).texts
        )
        for number in chosen
    ]
    return {"pairs": chosen, "texts": texts}


def picked(texts: Mapping[str, Any], *, place: Place, names: Sequence[str]) -> dict[str, Any]:
    """What the base reward, one reward for all and each method would pick: 0 the better, 1 the worse, 2 one of the model's own."""
    world = place.world()
    found: dict[str, Any] = {}
    offered = [_together(place, number, own) for number, own in zip(texts["pairs"], texts["texts"], strict=True)]
    for name in ("pretrained", "pooled", *names):
        method = fitted(place, name)
        states = method.adapt(world.history.first(place.answers, world.items))
        best = [method.reward(items, states).argmax(axis=1) for items in offered]
        found[name] = np.minimum(best, 2).tolist()
    return {"picks": found, "kinds": [world.pairs[number].subcategory for number in texts["pairs"]]}


def replies(cells: Cells) -> Part:
    """How often the worse reply is picked."""
    part = Part()
    values = next((values for identity, values in cells if identity["figure"] == "replies"), None)
    if values is None:
        return part
    body = []
    for name, picks in values["picks"].items():
        table = np.array(picks).T  # people, prompts
        people, prompts = table.shape
        user, prompt = np.repeat(np.arange(people), prompts), np.tile(np.arange(prompts), people)
        worse = two_way((table == 1).ravel().astype(float), user, prompt, rng=0)
        told = estimate_row(
            "replies", name, "worse reply picked", worse, better=float((table == 0).mean()), prompts=prompts
        )
        part.rows.append(told | {"written": float((table == 2).mean())})
        ends = "" if told["low"] is None else f"{max(told['low'], 0):.0%} to {min(told['high'], 1):.0%}"
        body.append(
            [name, f"{told['value']:.0%}", ends, f"{told['better']:.0%}", f"{part.rows[-1]['written']:.0%}", prompts]
        )
    part.tables["replies"] = (
        ["picked by", "the worse reply", "95 %", "the better", "one of the model's own", "prompts"],
        body,
    )
    return part


def _together(place: Place, number: int, texts: Sequence[str]) -> Items:
    """The better, the worse and the written replies to one prompt, with base rewards by the same weights."""
    world = place.world()
    prompt = world.pairs[number].prompt
    vectors = embed_items(make(place.features), [(prompt, text or " ") for text in texts])
    known = np.array([world.better[number], world.worse[number]])
    scores = None
    if world.items.base_reward is not None:
        scores = np.concatenate([world.scores[known], vectors @ world.weights])
    return Items.of(np.concatenate([world.items.features[known], vectors]), base_reward=scores)
