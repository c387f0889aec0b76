"""What the suite `winrate` says of its rows, judged from the numbers alone; and the papers' numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["IDEAL", "PREFACE", "PUBLISHED", "TITLES", "all_words"]

Row = Mapping[str, Any]

PUBLISHED: Mapping[tuple[Any, ...], float] = {
    **{("answers", "factor", k): value for k, value in ((5, 0.68), (10, 0.705), (20, 0.75), (40, 0.81))},
    **{("answers", "pooled", k): 0.55 for k in (5, 10, 20, 40)},
}
"""PReF, Fig. 2, bottom left (Attributes data), digitised by eye; "pooled" is its classic RLHF."""

IDEAL = "ideal observer"
"""Who knows everything but the person."""

WINS, SHARE = 0.75, 0.8
"""Asked for: wins against a random reply, and share of what the true reward reaches."""

TITLES = {
    "corpus": "Choosing from eight shipped replies, new prompts, after 10 answers",
    "known": "The same on prompts that others answered about, and with chosen questions",
    "answers": "Win rate by answers given, shipped replies, against a random reply",
    "sampled": "Choosing from replies really sampled from a language model, after 10 answers",
    "optimised": "Over-optimisation: true against learned reward as the best of more replies is taken",
    "judge": "A language model that knows the person judges the same choices",
}

PREFACE = (
    "A sample is a person and a prompt; the reply of the higher true reward wins. People are simulated, so their true reward is "
    "known. Win rates count a tie half (PReF); `ties win` counts it for both sides (P-RLHF). Per person: who wins most of a "
    "person's samples wins the person. Length-controlled: as if both replies were equally long (Dubois et al. 2024); people who "
    "like long or short replies lose by it what they wanted.",
    "Opponents: `plain`, a reply drawn at random or the model's first; `pooled`, the best of n by one reward for all; `profile`, a "
    "language model that is told the true taste (among the shipped replies it chooses the one that becomes likelier, among the "
    "sampled it writes one); `chosen`, of two shipped replies the one that the person took.",
    "Shipped and sampled replies are two tables, with different people: the first hold traits that were written into the replies, "
    "the taste of the second can be counted in any text (length, exclamation marks, …).",
)


def all_words(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Figure -> sentences."""
    return {
        "corpus": _reached(rows, "corpus"),
        "known": _reached(rows, "known"),
        "answers": _answers(rows) + _equal(rows, "answers"),
        "sampled": _sampled(rows) + _equal(rows, "sampled"),
        "optimised": _optimised(rows),
        "judge": _judge(rows),
    }


def _plain(rows: Sequence[Row], figure: str) -> dict[str, Row]:
    return {told["setting"]: told for told in rows if told["figure"] == figure and told["against"] == "plain"}


def _reached(rows: Sequence[Row], figure: str) -> list[str]:
    at = _plain(rows, figure)
    words = []
    best = at.get("true reward")
    for name, told in at.items():
        if best is None or name in ("true reward", "chosen", "longest reply"):
            continue
        verdict = "reached" if told["exact_other"] >= WINS else "missed"
        share = told["exact"] / told["exact_best"]
        words.append(
            f"{name}: better than another random reply in {told['exact_other']:.1%} of cases (asked for: {WINS:.0%}, {verdict}), than a "
            f"random one of all eight in {told['exact']:.1%}, {share:.0%} of the true reward's {told['exact_best']:.1%} (asked for: "
            f"{SHARE:.0%}); {told['reward_share']:.0%} of the reward that the best reply adds."
        )
    if figure == "corpus" and IDEAL in at:
        words.append(
            f"{IDEAL} knows every label, the 84 kinds of people and how they err, and has only to find out who answers: that is what "
            "so few answers can tell at best."
        )
    return words


def _answers(rows: Sequence[Row]) -> list[str]:
    own = [told for told in rows if told["figure"] == "answers" and told["published"] is not None]
    near = [told for told in own if told["setting"] == "factor"]
    if not near:
        return []
    told = ", ".join(f"{one['value']:.0%} ({one['published']:.0%})" for one in near)
    rises = all(a["value"] <= b["value"] + 0.01 for a, b in zip(near, near[1:], strict=False))
    shape = "The shape agrees: it rises with answers" if rises else "The shape does not agree"
    return [
        f"{shape}. factor, the paper's model, by answers, and the paper's: {told}. There GPT-4o judges replies of a language model "
        "against that model's own; here the true reward judges eight hand-written replies."
    ]


def _equal(rows: Sequence[Row], figure: str) -> list[str]:
    """Choices in which all candidates were the same to the chooser: flagged, the first was taken."""
    found = {
        (told["setting"], told["answers"]): told["undecided"]
        for told in rows
        if told["figure"] == figure and told.get("undecided")
    }
    return [
        f"{name} after {k} answers: {count} choices in which all candidates are equal to it; the first was taken."
        for (name, k), count in found.items()
    ]


def _sampled(rows: Sequence[Row]) -> list[str]:
    at = _plain(rows, "sampled")
    personal = [name for name in ("hierarchical", "factor") if name in at]
    if not personal or "true reward" not in at:
        return []
    name = personal[0]
    told, best = at[name], at["true reward"]
    words = [
        f"{name} wins {told['value']:.1%} [{told['low']:.1%}, {told['high']:.1%}] against the plain reply, where the true reward would "
        f"win {best['value']:.1%}; it gains {told['reward_share']:.0%} of the reward that the best of the candidates adds."
    ]
    if "pooled" in at:
        words.append(f"One reward for all wins {at['pooled']['value']:.1%}: most people's tastes cancel out in it.")
    if "profile" in at:
        low = at["profile"]["value"]
        words.append(
            f"Told the true taste in words, the same model wins {low:.1%} against its plain reply ({at['profile']['samples']} samples): "
            + ("a model of this size hardly follows such a wish." if low < 0.6 else "it follows the wish.")
        )
    words.append(
        "Sampled replies differ less in what people like than hand-written ones do, are cut at the token limit, and lie outside what "
        "the reward model was trained on: both lower what choosing can gain."
    )
    return words


def _optimised(rows: Sequence[Row]) -> list[str]:
    words = []
    own = [told for told in rows if told["figure"] == "optimised"]
    for where in dict.fromkeys(told["where"] for told in own):
        for name in dict.fromkeys(told["setting"] for told in own if told["where"] == where):
            line = [told for told in own if told["where"] == where and told["setting"] == name]
            falls = [b["n"] for a, b in zip(line, line[1:], strict=False) if b["value"] < a["value"] - 0.02]
            last = line[-1]
            if last["learned"] <= 0.05:
                continue
            words.append(
                f"{name}, {where}: at n = {last['n']} the learned reward promises {last['learned']:+.2f} logits and "
                f"{last['value']:+.2f} are true; "
                + (f"the true gain falls at n = {falls[0]}." if falls else "the true gain never falls.")
            )
    return words


def _judge(rows: Sequence[Row]) -> list[str]:
    words = []
    for told in rows:
        if told["figure"] != "judge":
            continue
        agrees = (
            "it decided nothing"
            if told["agrees"] is None
            else f"where it decided it agrees with the true reward in {told['agrees']:.0%}"
        )
        words.append(
            f"{told['judge']} gives {told['setting']} {told['value']:.0%} of {told['samples']} samples where the true reward gives "
            f"{told['true']:.0%}. It decided {told['decided']:.0%}; in {told['contradictions']:.0%} the order decided (a tie), "
            f"{told['unreadable']:.0%} of its answers were neither reply (a tie, flagged); {agrees}."
        )
        if told["decided"] < 0.5:
            words.append("A judge that contradicts itself on most questions measures nothing: believe the true reward.")
    return words
