"""`palate bench --suite pref`: the figures of PReF on simulated readers of the shipped replies, beside the paper's values.

| figure | asks | paper |
|---|---|---|
| ablation | what SVD start and L2 are worth: mean and deviation over ten fits of the same data | Fig. 3 A |
| rank | how many base rewards, at 40 answers | Fig. 3 B |
| scale | more training people and prompts, with two text models | Fig. 4 |
| answers | new people after 5, 10, 20, 40 answers, beside one reward for all and a reward per person | Fig. 2 |
| per_user | how many times more answers a reward per person needs | Fig. 9: 25 |
| strategies | questions at random and chosen | Fig. 5 |

Source: Shenfeld et al. 2025, "Language Model Personalization via Reward Factorization", § 5. The paper trains a 0.5B language
model on role-played people; here the features are frozen and people answer with Bradley-Terry noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from palate.errors import ConfigError
from palate.evaluate.suites.base import Cell, Suite
from palate.evaluate.suites.pref_summary import summarise
from palate.evaluate.suites.pref_world import Size, adapted_auc, asked_auc, build_world, fitted, known_auc
from palate.models.factor import PRESETS

__all__ = ["SUITE"]

FEATURES = ("smollm2", "minilm")
LAST = 40
"""Answers after which ablation, rank and scale are scored."""

_RECIPES = {
    "Palate's settings": {},
    "as printed": PRESETS["paper"],
    "as printed, larger steps": {**PRESETS["paper"], "learning_rate": 3.0, "svd_learning_rate": 3.0},
}
"""How the factors are fitted. The printed step size is for a language model that is trained too; maps of frozen features hardly
move at it,
so it is also tried 3,000 times larger, the one such size that was tried."""

_SHORT = {"full": {}, "no L2": {"l2": 0.0, "item_l2": 0.0}, "no SVD": {"init": "random"}}

_FULL = {
    "size": Size(),
    "seeds": 3,
    "fits": 10,
    "ranks": (1, 2, 3, 4, 5, 6, 7, 8, 10, 12),
    "people": (25, 50, 100, 200, 300),
    "prompts": (6, 12, 24),
    "long": (5, 10, 20, 40, 80, 160, 320, 640, 1000),
    "askers": 30,
    "strategies": ("random", "pref", "pref_program", "v_optimal"),
}
_QUICK = {
    "size": Size(people=40, answers=20, new=8, history=100, tests=60),
    "seeds": 2,
    "fits": 2,
    "ranks": (1, 4),
    "people": (20, 40),
    "prompts": (12,),
    "long": (5, 20, 40, 100),
    "askers": 4,
    "strategies": ("random", "pref"),
}
KS = (5, 10, 20, LAST)


def plan(*, quick: bool = False, features: Sequence[str] = FEATURES, seeds: int | None = None) -> list[Cell]:
    """The cells.

    Args:
        quick: few people, two seeds, a few points of each figure.
        features: text models, as `palate.features.make` names them; all but the first only in `scale`.
        seeds: worlds whose mean is reported (ablation: always ten fits in the first).
    """
    if not features:
        raise ConfigError("features=(): name at least one text model, smollm2 say")
    shape = dict(_QUICK if quick else _FULL)
    if seeds is not None:
        if seeds < 1:
            raise ConfigError(f"seeds={seeds}: use at least 1")
        shape["seeds"] = seeds
    main = features[0]
    cells = _ablation(shape, main)
    for seed in range(shape["seeds"]):
        cells += [
            _cell("rank", str(rank), shape, main, seed, {"rank": rank}, partial(_new_people, settings={"rank": rank}))
            for rank in shape["ranks"]
        ]
        for name in features:
            cells += _scale(shape, name, seed)
        cells += _answers(shape, main, seed)
        cells += [
            _cell(
                "strategies",
                by,
                shape,
                main,
                seed,
                {"people": shape["askers"]},
                partial(_asked, by=by, people=shape["askers"]),
            )
            for by in shape["strategies"]
        ]
    return cells


def _ablation(shape: Mapping[str, Any], features: str) -> list[Cell]:
    cells = []
    for label, base in _RECIPES.items():
        for name, change in _SHORT.items():
            settings = {**base, **change}
            cells += [
                _cell(
                    "ablation", f"{name}, {label}", shape, features, 0, {"fit": fit, "settings": settings},
                    partial(_new_people, settings=settings, fit=fit),
                )
                for fit in range(shape["fits"])
            ]  # fmt: skip
    return cells


def _scale(shape: Mapping[str, Any], features: str, seed: int) -> list[Cell]:
    prompts = 64 - shape["size"].prompts
    points = [(people, prompts) for people in shape["people"]]
    points += [(shape["size"].people, few) for few in shape["prompts"]]
    return [
        _cell(
            "scale", f"{features}: {people} people, {few} prompts", shape, features, seed, {"people": people, "prompts": few},
            partial(_new_people, settings={}, people=people, prompts=few),
        )
        for people, few in points
    ]  # fmt: skip


def _answers(shape: Mapping[str, Any], features: str, seed: int) -> list[Cell]:
    cells = [
        _cell("answers", name, shape, features, seed, {}, partial(_after, name=name, ks=KS))
        for name in ("factor", "hierarchical", "pooled")
    ]
    return [
        *cells,
        _cell(
            "answers", "individual", shape, features, seed, {"ks": list(shape["long"])},
            partial(_after, name="individual", ks=shape["long"]),
        ),
    ]  # fmt: skip


def _cell(
    figure: str,
    setting: str,
    shape: Mapping[str, Any],
    features: str,
    seed: int,
    more: Mapping[str, Any],
    compute: Callable[..., Mapping[str, Any]],
) -> Cell:
    size = shape["size"]
    identity = {"figure": figure, "setting": setting, "features": features, "seed": seed, "size": vars(size), **more}
    return Cell(identity, partial(compute, size=size, features=features, seed=seed))


def _new_people(
    settings: Mapping[str, Any],
    size: Size,
    features: str,
    seed: int,
    fit: int = 0,
    people: int | None = None,
    prompts: int | None = None,
) -> dict[str, Any]:
    """Factor with some settings on some of the training rows, scored on new people and on new prompts of known ones."""
    world = build_world(size, features, seed)
    rows = world.smaller(people, prompts)
    method = fitted(world, "factor", dict(settings), seed + 1000 * fit, rows)
    found = {"auc": {str(LAST): adapted_auc(world, method, (LAST,))[0]}, "rows": len(rows)}
    return found if people is not None else found | {"known": known_auc(world, method)}


def _after(name: str, ks: Sequence[int], size: Size, features: str, seed: int) -> dict[str, Any]:
    world = build_world(size, features, seed)
    ks = [k for k in ks if k <= world.history.left.shape[1]]
    found = adapted_auc(world, fitted(world, name, {}, seed), ks)
    return {"auc": {str(k): auc for k, auc in zip(ks, found, strict=True)}, "ceiling": world.ceiling}


def _asked(by: str, people: int, size: Size, features: str, seed: int) -> dict[str, Any]:
    world = build_world(size, features, seed)
    found = asked_auc(world, fitted(world, "factor", {}, seed), by, KS, people, seed)
    return {"auc": {str(k): auc for k, auc in zip(KS, found, strict=True)}}


SUITE = Suite(
    name="pref",
    title="PReF's figures on simulated people",
    source="Shenfeld et al. 2025, § 5; digitised by eye, ±.01",
    plan=plan,
    summarise=summarise,
    settings=("features", "seeds"),
)
"""What `palate bench --suite pref` runs."""
