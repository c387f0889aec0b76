"""From the cells of the suite `winrate` to rows, tables and pictures.

A sample is a person and a prompt; the reply with the higher true reward wins. Intervals resample people and prompts. Per person:
who wins most of a person's samples wins the person. A tie counts half (PReF), and for both in the column that says so (P-RLHF).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.evaluate.length_control import length_controlled
from palate.evaluate.suites.picture import curves
from palate.evaluate.suites.result import Finding, Row, row
from palate.evaluate.suites.winrate_methods import numbers
from palate.evaluate.suites.winrate_words import PREFACE, PUBLISHED, TITLES, all_words
from palate.evaluate.winrate import win_rate
from palate.statistics import two_way

__all__ = ["summarise"]

Cells = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
Side = tuple[np.ndarray, np.ndarray]
"""(samples,) true rewards and words of one side's replies."""

_ALMOST = 1e-9
_K = "10"


@dataclass
class _Ground:
    """Everybody's samples on new or known prompts, all seeds one after another.

    Args:
        user: (samples,) numbers; a person of another seed is another one.
        prompt: (samples,) numbers; the same prompt has the same one in every seed.
        reward: (samples, 8) true rewards of the candidates; words likewise.
        sides: who -> chosen place of each sample, -1 where nothing was chosen.
    """

    user: np.ndarray
    prompt: np.ndarray
    reward: np.ndarray
    words: np.ndarray
    sides: dict[str, np.ndarray]

    def side(self, name: str) -> Side:
        """True reward and words of what somebody chose."""
        place = np.maximum(self.sides[name], 0)[:, None]
        return tuple(np.take_along_axis(table, place, 1)[:, 0] for table in (self.reward, self.words))

    def gain(self, name: str) -> float:
        """Share of the reward that the best candidate adds to the mean one."""
        kept = self.sides[name] >= 0
        own, mean, best = self.side(name)[0], self.reward.mean(axis=1), self.reward.max(axis=1)
        return float((own - mean)[kept].sum() / (best - mean)[kept].sum())

    def exact(self, name: str, *, same: bool, among: str | None = None) -> float:
        """Wins against a random candidate, expected; with `same` one that may be the chosen itself (then a tie).

        `among` counts the samples of another side, which may have chosen for some prompts only.
        """
        kept = self.sides[among or name] >= 0
        own = self.side(name)[0][:, None]
        won = (own > self.reward + _ALMOST) + 0.5 * (np.abs(own - self.reward) <= _ALMOST)
        width = self.reward.shape[1]
        total = won.sum(axis=1) if same else won.sum(axis=1) - 0.5
        return float((total / (width if same else width - 1))[kept].mean())


def summarise(cells: Cells) -> Finding:
    """Rows, words, tables and pictures."""
    rows = _corpus(cells, "new", "corpus") + _corpus(cells, "known", "known") + _answers(cells)
    rows += _sampled(cells) + _optimised(cells) + _judge(cells)
    tables = {name: _table(rows, name) for name in ("corpus", "known", "sampled")}
    tables |= {"judge": _judge_table(rows), "optimised": _optimised_table(rows), "answers": _answers_table(rows)}
    pictures = {}
    if any(told["figure"] == "answers" for told in rows):
        pictures["answers"] = curves(
            _lines(rows, "answers", "answers"), "answers given", "win rate against a random reply", level=0.5
        )
    if any(told["figure"] == "optimised" for told in rows):
        pictures["optimised"] = curves(
            _lines(rows, "optimised", "n"), "candidates, n", "true gain over the mean candidate, logits"
        )
    return Finding(rows, all_words(rows), TITLES, PREFACE, {n: t for n, t in tables.items() if t[1]}, pictures)


def _ground(cells: Cells, group: str) -> _Ground:
    truths = {i["seed"]: values for i, values in cells if i["figure"] == "truth"}
    names = list(dict.fromkeys(f"{i['setting']}" for i, _ in cells if i["figure"] == "picks"))
    parts: dict[str, list[np.ndarray]] = {}
    people = 0
    for seed, values in truths.items():
        own = values[group]
        reward = np.array(own["reward"])
        n, p, width = reward.shape
        parts.setdefault("user", []).append(np.repeat(people + np.arange(n), p))
        parts.setdefault("prompt", []).append(np.tile(np.array(own["prompt"]), n))
        parts.setdefault("reward", []).append(reward.reshape(-1, width))
        parts.setdefault("words", []).append(np.tile(np.array(own["words"]), (n, 1)))
        sides = {"plain": numbers(own["plain"]), "chosen": numbers(own["chosen"]), "true reward": reward.argmax(axis=2)}
        sides |= {"longest reply": np.tile(np.array(own["words"]).argmax(axis=1), (n, 1))}
        for name in names:
            sides[name] = _picked(cells, name, seed, group, (n, p))
        for name, picks in sides.items():
            parts.setdefault(f"side {name}", []).append(picks.ravel())
        people += n
    joined = {name: np.concatenate(own) for name, own in parts.items()}
    sides = {name.removeprefix("side "): own for name, own in joined.items() if name.startswith("side ")}
    return _Ground(joined["user"], joined["prompt"], joined["reward"], joined["words"], sides)


def _picked(cells: Cells, name: str, seed: int, group: str, shape: tuple[int, int], k: str = _K) -> np.ndarray:
    """(people, prompts) chosen places; -1 for prompts and seeds that were left out."""
    found = np.full(shape, -1)
    for identity, values in cells:
        if identity["figure"] != "picks" or identity["setting"] != name or identity["seed"] != seed:
            continue
        own = values.get("ks", {}).get(k, {}).get(group) if "ks" in values else values.get(group)
        if own is not None:
            picks = numbers(own)
            found[:, : picks.shape[1]] = picks
    return found


def _corpus(cells: Cells, group: str, figure: str) -> list[Row]:
    if not any(i["figure"] == "truth" for i, _ in cells):
        return []
    ground, rows = _ground(cells, group), []
    opponents = ("plain", "pooled", "profile", "chosen") if figure == "corpus" else ("plain",)
    for name in ground.sides:
        if name == "plain" or (ground.sides[name] < 0).all():
            continue
        for other in opponents:
            if other == name or other not in ground.sides:
                continue
            kept = (ground.sides[name] >= 0) & (ground.sides[other] >= 0)
            if not kept.any():
                continue
            told = _versus(figure, name, other, ground.side(name), ground.side(other), ground.user, ground.prompt, kept)
            told["reward_share"] = ground.gain(name)
            if other == "plain":
                told |= {"exact": ground.exact(name, same=True), "exact_other": ground.exact(name, same=False)}
                told["exact_best"] = ground.exact("true reward", same=True, among=name)
            rows.append(told)
    return rows


def _versus(
    figure: str, name: str, other: str, one: Side, two: Side, user: np.ndarray, prompt: np.ndarray, kept: np.ndarray
) -> Row:
    """The win rate of one side over another."""
    gap = (one[0] - two[0])[kept]
    verdict = np.where(np.abs(gap) <= _ALMOST, 0.5, (gap > 0).astype(float))
    user, prompt = user[kept], prompt[kept]
    sample = two_way(verdict, user, prompt, rng=0)
    people, generous = (win_rate(verdict, [str(who) for who in user], ties=ties) for ties in ("half", "win"))
    told = sample.within(0.0, 1.0).to_dict()
    return row(figure, name, "win rate", told["value"], low=told["low"], high=told["high"]) | {
        "against": other, "answers": int(_K),
        "length_controlled": length_controlled(verdict, (one[1] - two[1])[kept].astype(float), prompt),
        "per_user": people.per_user.to_dict()["value"], "per_user_low": people.per_user.to_dict()["low"],
        "per_user_high": people.per_user.to_dict()["high"], "ties_win": generous.per_sample.value,
        "ties": people.ties, "samples": people.samples,
    }  # fmt: skip


def _answers(cells: Cells) -> list[Row]:
    rows = []
    picks = {i["setting"]: i["ks"] for i, _ in cells if i["figure"] == "picks" and i["by"] in ("random", "ideal")}
    if not picks:
        return rows
    ground = _ground(cells, "new")
    truths = {i["seed"]: np.array(v["new"]["reward"]).shape[:2] for i, v in cells if i["figure"] == "truth"}
    for name, ks in picks.items():
        for k in ks:
            own = [_picked(cells, name, seed, "new", shape, str(k)).ravel() for seed, shape in truths.items()]
            ground.sides["now"] = np.concatenate(own)
            kept = np.ones(len(ground.user), bool)
            told = _versus(
                "answers", name, "plain", ground.side("now"), ground.side("plain"), ground.user, ground.prompt, kept
            )
            told |= {"answers": k, "exact": ground.exact("now", same=True), "reward_share": ground.gain("now")}
            equal = sum(
                values["ks"][str(k)]["undecided"]
                for identity, values in cells
                if identity["figure"] == "picks" and identity["setting"] == name
            )
            rows.append(told | {"published": PUBLISHED.get(("answers", name, k)), "undecided": equal})
    return rows


def _sampled(cells: Cells) -> list[Row]:
    true = next((values for i, values in cells if i["figure"] == "sampled truth"), None)
    if true is None:
        return []
    reward = np.array(true["reward"])
    people, prompts, _ = reward.shape
    words = np.tile(np.array(true["words"]), (people, 1, 1))
    sides: dict[str, Side] = {"plain": _taken(reward, words, np.zeros((people, prompts), int))}
    for identity, values in cells:
        if identity["figure"] == "sampled picks":
            sides[identity["setting"]] = _taken(reward, words, numbers(values["picks"]))
    sides["true reward"] = _taken(reward, words, reward.argmax(axis=2))
    sides["longest reply"] = _taken(reward, words, words.argmax(axis=2))
    sides["chosen"] = (np.array(true["chosen"]).ravel(), np.array(true["chosen_words"]).ravel())
    told = next((values for i, values in cells if i["figure"] == "stated"), None)
    if told is not None:
        full, length = np.full((people, prompts), np.nan), np.zeros((people, prompts), int)
        own = np.array(told["reward"])
        full[: own.shape[0], : own.shape[1]], length[: own.shape[0], : own.shape[1]] = own, np.array(told["words"])
        sides["profile"] = (full.ravel(), length.ravel())
    undecided = {i["setting"]: values["undecided"] for i, values in cells if i["figure"] == "sampled picks"}
    user, prompt = np.repeat(np.arange(people), prompts), np.tile(np.arange(prompts), people)
    mean, best = reward.mean(axis=2).ravel(), reward.max(axis=2).ravel()
    rows = []
    for name, side in sides.items():
        for other in ("plain", "pooled", "profile", "chosen"):
            kept = ~np.isnan(side[0]) & (
                np.zeros(len(user), bool) if other not in sides else ~np.isnan(sides[other][0])
            )
            if name in ("plain", other) or not kept.any():
                continue
            told = _versus("sampled", name, other, side, sides[other], user, prompt, kept)
            inside = name not in ("chosen", "profile")
            told["undecided"] = undecided.get(name, 0)
            told["reward_share"] = float((side[0] - mean).sum() / (best - mean).sum()) if inside else None
            rows.append(told)
    return rows


def _taken(reward: np.ndarray, words: np.ndarray, places: np.ndarray) -> Side:
    return tuple(np.take_along_axis(table, places[..., None], 2).ravel() for table in (reward, words))


def _optimised(cells: Cells) -> list[Row]:
    """True and learned gain by n: shipped replies after ten answers (mean over seeds), and sampled ones."""
    found: dict[tuple[str, str], list[Mapping[str, Sequence[float]]]] = {}
    for identity, values in cells:
        if identity["figure"] == "picks" and identity["by"] in ("random", "ideal") and _K in values.get("ks", {}):
            found.setdefault(("shipped", identity["setting"]), []).append(values["ks"][_K]["curve"])
        if identity["figure"] == "sampled picks":
            found.setdefault(("sampled", identity["setting"]), []).append(values["curve"])
    return [
        {
            "figure": "optimised", "setting": name, "where": where, "metric": "true gain", "n": int(n), "answers": int(_K),
            "value": float(np.mean([one[n][1] for one in curves_])), "learned": float(np.mean([one[n][0] for one in curves_])),
        }
        for (where, name), curves_ in found.items()
        for n in sorted(curves_[0], key=int)  # cells are kept as JSON, whose keys stand in the order of the alphabet
    ]  # fmt: skip


def _judge(cells: Cells) -> list[Row]:
    rows = []
    for identity, values in cells:
        if identity["figure"] != "judge":
            continue
        told, flag, true = np.array(values["probability"]), np.array(values["flag"]), np.array(values["true"])
        verdict = np.where(flag == "decided", np.where(told > 0.5, 1.0, 0.0), 0.5)
        sample = two_way(verdict, np.array(values["person"]), np.array(values["prompt"]), rng=0)
        decided = flag == "decided"
        rows.append(
            {
                "figure": "judge", "setting": identity["setting"], "against": "plain", "metric": "win rate by the judge",
                "judge": values["model"], **{key: sample.to_dict()[key] for key in ("value", "low", "high")},
                "true": float(true.mean()), "samples": len(told), "decided": float(decided.mean()),
                "contradictions": float((flag == "contradiction").mean()), "unreadable": float((flag == "unreadable").mean()),
                "length_controlled": length_controlled(verdict, np.array(values["longer"], float), np.array(values["prompt"])),
                "agrees": float((verdict == true)[decided].mean()) if decided.any() else None,
                "first_share": values["first_share"], "calls": values["calls"],
            }
        )  # fmt: skip
    return rows


# -- tables and pictures ---------------------------------------------------------------------------------------------------


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _table(rows: Sequence[Row], figure: str) -> tuple[list[str], list[list[Any]]]:
    heads = ["chosen by", "against", "win rate, %", "95 %", "length-controlled", "ties win", "per person", "95 %"]
    heads += ["ties", "samples", "share of the best reward"]
    body = [
        [told["setting"], told["against"], _share(told["value"]), f"{_share(told['low'])} to {_share(told['high'])}",
         _share(told["length_controlled"]), _share(told["ties_win"]), _share(told["per_user"]),
         f"{_share(told['per_user_low'])} to {_share(told['per_user_high'])}", told["ties"], told["samples"],
         _share(told.get("reward_share"))]
        for told in rows
        if told["figure"] == figure
    ]  # fmt: skip
    return heads, body


def _answers_table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    own = [told for told in rows if told["figure"] == "answers"]
    ks = sorted({told["answers"] for told in own})
    body = []
    for name in dict.fromkeys(told["setting"] for told in own):
        at = {told["answers"]: told for told in own if told["setting"] == name}
        cells = [f"{_share(at[k]['value'])} ±{50 * (at[k]['high'] - at[k]['low']):.1f}" if k in at else "" for k in ks]
        body.append([name, *cells, *(_share(at[k]["published"]) if k in at else "" for k in ks)])
    return ["chosen by", *(f"{k} answers" for k in ks), *(f"paper: {k}" for k in ks)], body


def _optimised_table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    own = [told for told in rows if told["figure"] == "optimised"]
    body = [
        [told["where"], told["setting"], told["n"], f"{told['value']:+.2f}", f"{told['learned']:+.2f}"] for told in own
    ]
    return ["replies", "chosen by", "n", "true gain, logits", "learned gain, logits"], body


def _judge_table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    heads = [
        "judge",
        "judged",
        "win rate, %",
        "95 %",
        "length-controlled",
        "by true reward",
        "decided",
        "order decided",
    ]
    body = [
        [told["judge"], told["setting"], _share(told["value"]), f"{_share(told['low'])} to {_share(told['high'])}",
         _share(told["length_controlled"]), _share(told["true"]), _share(told["decided"]), _share(told["contradictions"]),
         _share(told["unreadable"]), told["samples"], told["calls"]]
        for told in rows
        if told["figure"] == "judge"
    ]  # fmt: skip
    return [*heads, "neither reply", "samples", "calls"], body


def _lines(rows: Sequence[Row], figure: str, across: str) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for told in rows:
        if told["figure"] == figure:
            label = f"{told['setting']}, {told['where']}" if "where" in told else told["setting"]
            lines.setdefault(label, []).append((told[across], told["value"]))
    return lines
