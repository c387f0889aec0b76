"""`palate bench --suite p-rlhf`: language models that write for each of several people who disagree.

| figure | asks | paper |
|---|---|---|
| conflicting | accuracy of the implicit reward: seen people, unseen ones, majority, minority | Table 4 |
| curves | the same while it trains | Fig. 5 |
| lengths | how long the replies are that each person gets | Fig. 3 |
| new | a new person of either camp after ten answers | (not in the paper) |
| personas | six one-sided profiles: accuracy, win rates, and the replies to one prompt side by side | Table 1, Table 8 |
| ablations, forty, convarg | T = 1, α = 1, without e_0, K = 2; 40 people; other texts | Tables 5 and 6 |

The last row takes hours on a CPU: it runs where there is an accelerator, or with `--all`.

Source: Li et al. 2024, "Personalized Language Modeling from Personalized Human Feedback", § 5.1, § 5.2, App. C. There a model
of 6 B parameters learns from 23,299 comparisons; here one of 135 M from a few hundred, so that one core should be done in about an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from palate.backends.huggingface import choose_device
from palate.data import state
from palate.evaluate.suites import p_rlhf_policies as policies
from palate.evaluate.suites.base import Cell, Suite
from palate.evaluate.suites.p_rlhf_policies import RANDOM, Recipe
from palate.evaluate.suites.p_rlhf_summary import summarise
from palate.evaluate.suites.p_rlhf_world import Pairs

__all__ = ["KINDS", "SUITE", "plan", "recipe_of"]

KINDS: Mapping[str, Mapping[str, Any]] = {
    "vanilla DPO": {"user_model": "uniform", "user_tokens": 0, "alpha": 0.0},
    "individual": {"user_model": "individual"},
    "cluster, K = 5": {"user_model": "cluster", "clusters": 5},
    "individual, T = 1": {"user_model": "individual", "user_tokens": 1},
    "individual, α = 1": {"user_model": "individual", "alpha": 1.0},
    "individual without e_0": {"user_model": "individual", "common": False},
    "cluster, K = 2": {"user_model": "cluster", "clusters": 2},
}
"""The paper's configurations: what differs from the settings that all share."""

MAIN = ("vanilla DPO", "individual", "cluster, K = 5")
ABLATIONS = ("individual, T = 1", "individual, α = 1", "individual without e_0", "cluster, K = 2")

_FULL: Mapping[str, Any] = {
    "base": "smollm2",
    "rows": 450,
    "personas": 450,
    "pairs": Pairs(contrast=0.5, characters=520),
    "test": 12,
    "prompts": 8,
    "max_tokens": 96,
    "new": 2,
    "answers": 10,
    "settings": {
        "user_tokens": 10, "alpha": 0.75, "beta": 0.1, "batch_size": 4, "learning_rate": 5e-4, "user_learning_rate": 5e-2,
        "lora_rank": 8, "lora_alpha": 16.0, "lora_dropout": 0.0, "adapt_steps": 8, "checkpoint_every": 25,
    },
}  # fmt: skip
_QUICK: Mapping[str, Any] = {
    **_FULL,
    "base": RANDOM,
    "rows": 30,
    "personas": 12,
    "pairs": Pairs(characters=350),
    "test": 1,
    "prompts": 2,
    "max_tokens": 12,
    "new": 1,
    "answers": 2,
    "settings": {**_FULL["settings"], "user_tokens": 2, "adapt_steps": 2},
}
_WIDER = 4
"""How many times more rows forty people and longer texts have."""


def plan(*, quick: bool = False, everything: bool | None = None) -> list[Cell]:
    """The cells.

    Args:
        quick: a random model of two layers, one test prompt, 30 rows.
        everything: also the ablations, forty people, and convarg's texts where they are on this machine; None does so where there
            is an accelerator.
    """
    shape = dict(_QUICK if quick else _FULL)
    if everything is None:
        everything = not quick and choose_device().type != "cpu"
    return list(_cells(shape, everything))


def recipe_of(kind: str, rows: int | None = None, **settings: Any) -> Recipe:
    """The recipe of a policy of the ten people, with other settings: for choosing them on validation prompts.

    Args:
        kind: of `KINDS`.
        rows: comparisons; None takes the suite's.
        settings: of `PolicyConfig`, in place of the suite's.
    """
    shape = {**_FULL, "rows": rows or _FULL["rows"], "settings": {**_FULL["settings"], **settings}}
    return _recipe(shape, "conflicting", kind)


def _cells(shape: Mapping[str, Any], everything: bool) -> Iterator[Cell]:
    for kind in MAIN:
        yield from _measured("conflicting", kind, _recipe(shape, "conflicting", kind), shape)
    first = _recipe(shape, "conflicting", MAIN[0])
    compute = partial(policies.lengths, prompts=shape["prompts"], max_tokens=shape["max_tokens"], base=True)
    yield _cell("lengths", "base", first, compute, prompts=shape["prompts"], max_tokens=shape["max_tokens"])
    for kind in MAIN:
        recipe = _recipe(shape, "conflicting", kind)
        compute = partial(policies.lengths, prompts=shape["prompts"], max_tokens=shape["max_tokens"])
        yield _cell("lengths", kind, recipe, compute, prompts=shape["prompts"], max_tokens=shape["max_tokens"])
    for kind in MAIN[1:]:
        more = {"pairs": shape["pairs"], "answers": shape["answers"], "people": shape["new"], "prompts": shape["test"]}
        yield _cell("new", kind, _recipe(shape, "conflicting", kind), partial(policies.adapted, **more), **more)
    yield from _personas(shape)
    if everything:
        for kind in ABLATIONS:
            yield from _measured("ablations", kind, _recipe(shape, "conflicting", kind), shape)
        for town in ("forty", *(("convarg",) if state("convarg") == "here" else ())):
            for kind in MAIN:
                recipe = _recipe({**shape, "rows": shape["rows"] * _WIDER}, town, kind)
                yield from _measured(town, kind, recipe, shape)


def _recipe(shape: Mapping[str, Any], town: str, kind: str) -> Recipe:
    pairs = shape["pairs"]
    if town == "convarg":
        # Arguments are longer and are not cut; those beyond the limit are left out.
        pairs = Pairs(pairs.contrast, 3 * (pairs.characters or 800))
    return Recipe(town, shape["base"], shape["rows"], pairs, {**shape["settings"], **KINDS[kind]})


def _measured(figure: str, kind: str, recipe: Recipe, shape: Mapping[str, Any]) -> Iterator[Cell]:
    """Training, then accuracy on held-out prompts."""
    yield _cell("curves", kind, recipe, policies.trained, of=figure)
    compute = partial(policies.accuracies, prompts=shape["test"])
    yield _cell(figure, kind, recipe, compute, prompts=shape["test"])


def _personas(shape: Mapping[str, Any]) -> Iterator[Cell]:
    recipe = _recipe({**shape, "rows": shape["personas"]}, "personas", "individual")
    yield _cell("curves", "personas", recipe, policies.trained, of="personas")
    yield _cell(
        "personas", "accuracy", recipe, partial(policies.accuracies, prompts=shape["test"]), prompts=shape["test"]
    )
    more = {"prompts": shape["prompts"], "max_tokens": shape["max_tokens"]}
    yield _cell("personas", "replies", recipe, partial(policies.personas, **more), **more)


def _cell(figure: str, setting: str, recipe: Recipe, compute: Callable[..., Mapping[str, Any]], **more: Any) -> Cell:
    more = {name: vars(value) if isinstance(value, Pairs) else value for name, value in more.items()}
    identity = {"figure": figure, "setting": setting, "recipe": recipe.identity(), **more}
    return Cell(identity, partial(compute, recipe))


SUITE = Suite(
    name="p-rlhf",
    title="P-RLHF's conflicting preferences and personas",
    source="Li et al. 2024, § 5.1, § 5.2 and App. C",
    plan=plan,
    summarise=summarise,
    settings=("everything",),
)
"""What `palate bench --suite p-rlhf` runs."""
