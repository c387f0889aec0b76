"""`palate bench --suite tax`: what personalizing costs where one reply is better for everybody, whom, and what a guard saves.

| figure | asks |
|---|---|
| base | what the base reward can tell on pairs that it has not seen; below .75 a category is not measurable |
| tax | personalized - pooled and personalized - base, by method, category and person, on top of a base reward |
| alone | the same where methods start from people's choices alone, as in Dong et al. 2025 |
| guard | gain and tax under the guard, spread by spread; the spread is chosen on other people and other pairs |
| ways | other guards than Palate's, strength by strength |
| replies | does what is picked for a person stay correct and safe, where a language model writes too? |
| fairness | who gains, who loses, by trait and by minority, and how many answers each group needs |
| belief | does a wrong belief in the prompt change which factual answer a language model finds likelier? |

Source: Dong et al. 2025, "When Personalization Meets Reality", § 3.3 and Fig. 5 (there RewardBench, after fine-tuning).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from palate.data.checksums import digest
from palate.errors import ConfigError
from palate.evaluate.suites import tax_methods as methods
from palate.evaluate.suites.base import Cell, Suite
from palate.evaluate.suites.pref_world import Size
from palate.evaluate.suites.tax_belief import believed
from palate.evaluate.suites.tax_methods import Place
from palate.evaluate.suites.tax_replies import Written, picked, written
from palate.evaluate.suites.tax_summary import summarise
from palate.evaluate.suites.tax_world import HALVES, STARTS, check_pairs, open_pairs
from palate.models.registry import available

__all__ = ["SUITE", "plan"]

_VALIDATION_SEED = 1000
"""Added to the seed of the people on whom the guard's spread is chosen."""

_FULL: Mapping[str, Any] = {
    "features": "smollm2",
    "size": Size(people=200, answers=60, new=60, history=200, tests=100),
    "answers": 20,
    "methods": None,
    "starts": STARTS,
    "guarded": ("hierarchical", "factor"),
    "ks": (0, 3, 5, 10, 20, 40),
    "belief": 30,
    "written": Written("smollm2", 4, 6, 48),
}
_QUICK: Mapping[str, Any] = {
    **_FULL,
    "features": "style",
    "size": Size(people=40, answers=30, new=12, history=60, tests=40),
    "methods": ("pretrained", "pooled", "individual", "factor"),
    "guarded": ("factor",),
    "ks": (0, 5, 20),
    "belief": 0,
    "written": None,
}
_CURVES = ("pooled", "individual", "factor", "hierarchical")


def plan(
    *,
    quick: bool = False,
    features: Sequence[str] | None = None,
    seeds: int | None = None,
    pairs: str | None = None,
) -> list[Cell]:
    """The cells.

    Args:
        quick: few people, four methods, statistics of the text as features.
        features: one text model, as `palate.features.make` names it; by default SmolLM2.
        seeds: worlds of people.
        pairs: file of RewardBench, RewardBench 2, XSTest or our own form instead of the shipped pairs.

    Raises:
        ConfigError: not one text model, or no seed.
        DataError: the file of pairs cannot be read.
    """
    shape = dict(_QUICK if quick else _FULL)
    if features is not None:
        if len(features) != 1:
            raise ConfigError(f"features={','.join(features)!r}: the suite tax takes one text model")
        shape["features"] = features[0]
    if seeds is not None and seeds < 1:
        raise ConfigError(f"seeds={seeds}: use at least 1")
    return list(_Planner(shape, pairs, seeds or 1).cells())


class _Planner:
    """Puts the cells in order: those that share a world together."""

    def __init__(self, shape: Mapping[str, Any], file: str | None, seeds: int) -> None:
        self.shape, self.file, self.seeds = shape, file, seeds
        self.names = shape["methods"] or (*available(), "sklearn")
        check_pairs(open_pairs(file))  # a bad file is told before anything runs
        self.digest = None if file is None else digest(Path(file))

    def cells(self) -> Iterator[Cell]:
        """All of them."""
        for seed in range(self.seeds):
            for start in self.shape["starts"]:
                for half in HALVES:
                    yield from self._measured(self._place(seed, half, start))
            place = self._place(seed, HALVES[0], "none")
            for name in (name for name in _CURVES if name in self.names):
                compute = partial(methods.learning, name=name, ks=self.shape["ks"])
                yield self._cell("curve", name, place, compute, ks=list(self.shape["ks"]))
            for half in HALVES:
                place = self._place(seed + _VALIDATION_SEED, half, "base", inside=True)
                for name in self.shape["guarded"]:
                    yield self._cell("guard", f"{name}: validation", place, partial(methods.frontier, name=name))
        yield from self._replies()
        if self.shape["belief"] and self.file is None:
            most = self.shape["belief"]
            yield Cell({"figure": "belief", "setting": "smollm2", "most": most}, partial(believed, "smollm2", most))

    def _measured(self, place: Place) -> Iterator[Cell]:
        if place.start == "base":
            yield self._cell("base", place.half, place, methods.base)
        for name in self.names:
            if name == "pretrained" and place.start == "none":
                continue
            yield self._cell("tax", name, place, partial(methods.measured, name=name))
        if place.start == "base":
            for name in self.shape["guarded"]:
                yield self._cell("guard", name, place, partial(methods.frontier, name=name))
                yield self._cell("ways", name, place, partial(methods.other_guards, name=name))

    def _replies(self) -> Iterator[Cell]:
        how: Written | None = self.shape["written"]
        if how is None or self.file is not None:
            return
        place = self._place(0, HALVES[0], "base")
        about = {"sampler": how.sampler, "prompts": how.prompts, "n": how.n, "max_tokens": how.max_tokens}
        texts = self._cell("written", how.sampler, place, partial(written, how=how), **about)
        compute = partial(picked, place=place, names=self.shape["guarded"])
        identity = {**texts.identity, "figure": "replies", "setting": "picked", "names": list(self.shape["guarded"])}
        yield from (texts, Cell(identity, compute, (texts,)))

    def _place(self, seed: int, half: str, start: str, *, inside: bool = False) -> Place:
        shape = self.shape
        return Place(shape["size"], shape["features"], seed, half, start, shape["answers"], self.file, inside)

    def _cell(
        self, figure: str, setting: str, place: Place, compute: Callable[..., dict[str, Any]], **more: Any
    ) -> Cell:
        size = place.size
        identity = {"figure": figure, "setting": setting, "features": place.features, "seed": place.seed}
        identity |= {"half": place.half, "start": place.start, "answers": place.answers, "pairs": self.digest}
        identity |= {"inside": place.inside}
        identity |= {"size": [size.people, size.answers, size.new, size.history, size.tests, size.prompts]}
        return Cell({**identity, **more}, lambda: compute(place))


SUITE = Suite(
    name="tax",
    title="The personalization tax: what knowing the person costs where one reply is better for everybody",
    source="Dong et al. 2025, When Personalization Meets Reality",
    plan=plan,
    summarise=summarise,
    settings=("features", "seeds", "pairs"),
)
"""The suite `tax`."""
