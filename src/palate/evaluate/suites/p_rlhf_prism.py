"""P-RLHF's experiment on PRISM: real people, talks of several turns, what people say of themselves, and win rates.

    dataset = palate.data.read("prism")
    turns = prism_turns(dataset)
    policy = tune(turns.train, base=…, user_model="cluster", clusters=100)
    found = prism_win_rates({"policy": answers of it}, turns.samples(10, 10), judge_with(JudgeRewardModel(backend)))

A turn is one comparison: the reply that the person went on with, and one other. Some people are unseen; of the others some talks are
held out. A judge stands in a person's place with their words, the feedback they gave on the talk, and their choices in other turns.

Source: Li et al. 2024, § 5.3, App. E. Which of the other replies is the rejected one is not said there; here it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palate.data import PreferenceDataset
from palate.errors import DataError, InputError
from palate.evaluate.winrate import Judge, Sample, WinRate, win_rate
from palate.progress import Progress, silent
from palate.rng import hash_fraction

__all__ = ["CHOSEN", "PrismTurns", "prism_turns", "prism_win_rates", "profile"]

CHOSEN = "chosen reply"
"""The opponent that is the reply which the person chose."""

UNSEEN = 0.116
"""Share of people who are unseen: 162 of 1,396 in the paper."""

_HELD_OUT = 0.2
"""Share of the talks of seen people that are held out."""

_MOST_HISTORY = 8
"""Choices in other turns that a judge is shown at most."""

_TOLD = {
    "age": "age",
    "gender": "gender",
    "education": "education",
    "employment_status": "employment",
    "marital_status": "marital",
    "english_proficiency": "English",
    "study_locale": "lives in",
}
_NEEDED = ("conversation_id", "turn", "chosen")


@dataclass(frozen=True)
class PrismTurns:
    """Comparisons of PRISM, one for each turn, and what they are for.

    Args:
        dataset: one row a turn; `user_text` is the whole profile.
        train_rows: (m,) rows that a policy may learn from.
        test_rows: (m,) rows that are held out: other talks of seen people, and all talks of unseen ones.
        seen: (n_users,) whether a policy may know the person.
    """

    dataset: PreferenceDataset
    train_rows: np.ndarray
    test_rows: np.ndarray
    seen: np.ndarray

    @property
    def train(self) -> PreferenceDataset:
        """What a policy learns from."""
        return self.dataset.subset(self.train_rows)

    def samples(self, n_seen: int = 10, n_unseen: int = 10, per_user: int = 4) -> list[Sample]:
        """Held-out prompts of some people, drawn by a hash of their ids; the paper has 76 of 10 and 10.

        Args:
            n_seen, n_unseen: people.
            per_user: prompts of each, at most.

        Raises:
            InputError: too few people have held-out turns.
        """
        data, found = self.dataset, []
        who = data.user[self.test_rows]
        for seen, count in ((True, n_seen), (False, n_unseen)):
            people = [user for user in np.unique(who).tolist() if bool(self.seen[user]) is seen]
            if len(people) < count:
                raise InputError(
                    f"{len(people)} {'seen' if seen else 'unseen'} people have held-out turns; ask for at most that many"
                )
            people.sort(key=lambda user: hash_fraction(data.users[user], "prism samples"))
            for user in people[:count]:
                found += [self._sample(row) for row in self.test_rows[who == user][:per_user].tolist()]
        return found

    def _sample(self, row: int) -> Sample:
        data = self.dataset
        user = int(data.user[row])
        # A later turn of the same talk repeats the chosen reply in its prompt, which would tell the judge.
        talk, turn = data.extra["conversation_id"], data.extra["turn"].astype(int)
        told_it = (talk == talk[row]) & (turn >= turn[row])
        own = np.flatnonzero((data.user == user) & ~told_it)[:_MOST_HISTORY]
        feedback = str(data.extra["feedback"][row]).strip() if "feedback" in data.extra else ""
        words = "" if data.user_text is None else data.user_text[user]
        told = f"{words}\n\nOf the replies they chose in this talk they said: {feedback}" if feedback else words
        prompt, chosen = data.item_texts()[data.left[row] if data.label[row] == 1.0 else data.right[row]]
        return Sample(
            user=data.users[user],
            prompt=prompt,
            chosen=chosen,
            user_text=words,
            judge_text=told,
            history=data.subset(own) if len(own) else None,
            seen=bool(self.seen[user]),
        )


def prism_turns(dataset: PreferenceDataset) -> PrismTurns:
    """One comparison for each turn, the chosen reply with one other, sides as they are; the people's whole profiles; the split.

    Args:
        dataset: of `palate.data.read("prism")`: all pairs of replies.

    Raises:
        DataError: it has not the columns of PRISM, or no turn in which somebody chose.
    """
    missing = [name for name in _NEEDED if name not in dataset.extra]
    if missing:
        raise DataError(
            f"{dataset.name}: no column {missing[0]!r}; read PRISM's own files with palate.data.read('prism')"
        )
    rows = _one_of_each_turn(dataset)
    if not len(rows):
        raise DataError(f"{dataset.name}: no turn in which a reply was chosen over another")
    one = dataset.subset(rows)
    words = tuple(profile(one, user) for user in range(one.n_users))
    label = (one.extra["chosen"] == "left").astype(one.label.dtype)
    data = replace(one, label=label, user_text=words)
    seen = np.array([hash_fraction(user, "prism unseen") >= UNSEEN for user in data.users])
    talks = data.extra["conversation_id"].astype(str)
    held = np.array([hash_fraction(talk, "prism talks") < _HELD_OUT for talk in talks])
    # Who has no talk left to learn from is nobody that a policy could know.
    seen &= np.isin(np.arange(data.n_users), data.user[~held])
    test = held | ~seen[data.user]
    return PrismTurns(data, np.flatnonzero(~test), np.flatnonzero(test), seen)


def _one_of_each_turn(dataset: PreferenceDataset) -> np.ndarray:
    """Rows with the chosen reply on a side: of each turn the one that a hash draws."""
    talks, turns, chosen = (dataset.extra[name].astype(str) for name in _NEEDED)
    drawn: dict[tuple[str, str], tuple[float, int]] = {}
    for row in np.flatnonzero(chosen != "").tolist():
        place = (talks[row], turns[row])
        rejected = dataset.right[row] if chosen[row] == "left" else dataset.left[row]
        text = dataset.responses[dataset.item_response[rejected]]
        drawn[place] = min(drawn.get(place, (2.0, row)), (hash_fraction(text, "/".join(place)), row))
    return np.array(sorted(row for _, row in drawn.values()), np.int64)


def profile(dataset: PreferenceDataset, user: int) -> str:
    """What is known of a person in words: how they describe themselves, who they are, what matters to them."""
    own = np.flatnonzero(dataset.user == user)[:1]
    said = [] if dataset.user_text is None else [dataset.user_text[user]]
    facts = []
    for name, label in _TOLD.items():
        value = str(dataset.extra[name][own[0]]).strip() if name in dataset.extra and len(own) else ""
        if value and value != "None":
            facts.append(f"{label}: {value}")
    aspects = str(dataset.extra["aspects"][own[0]]) if "aspects" in dataset.extra and len(own) else ""
    if aspects and aspects != "None":
        facts.append(f"most important to them: {aspects}")
    return "\n\n".join(part for part in (*said, "\n".join(facts)) if part)


def prism_win_rates(
    answers: Mapping[str, Sequence[str]],
    samples: Sequence[Sample],
    judge: Judge,
    *,
    baseline: str | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Win rates of policies against the chosen replies, and against one of them; of all people, seen and unseen ones.

    Args:
        answers: policy -> its reply to each sample, see `palate.evaluate.winrate.replies_of`.
        samples: of `PrismTurns.samples`.
        judge: stands in each person's place.
        baseline: name of a policy in `answers` that the others are set against (vanilla DPO).
        progress: called after each verdict.

    Returns:
        Rows of policy, opponent, people ("all", "seen", "unseen") and the numbers of `WinRate.to_dict`.

    Raises:
        InputError: the baseline is not among the answers, or answers and samples are not equally many.
    """
    if baseline is not None and baseline not in answers:
        raise InputError(f"baseline={baseline!r} is not among the answers; there are: {', '.join(answers)}")
    for name, replies in answers.items():
        if len(replies) != len(samples):
            raise InputError(f"{name}: {len(replies)} replies for {len(samples)} samples; give one each")
    duels = [(name, CHOSEN) for name in answers]
    duels += [(name, baseline) for name in answers if baseline is not None and name != baseline]
    chosen = [sample.chosen for sample in samples]
    rows, done = [], 0
    for name, opponent in duels:
        theirs = chosen if opponent == CHOSEN else answers[opponent]
        verdict = []
        for sample, first, second in zip(samples, answers[name], theirs, strict=True):
            verdict.append(judge(sample, first, second))
            done += 1
            progress(done, len(duels) * len(samples), "verdicts")
        for people, found in _by_people(np.array(verdict), samples).items():
            rows.append({"policy": name, "opponent": opponent, "people": people, **found.to_dict()})
    return rows


def _by_people(verdict: np.ndarray, samples: Sequence[Sample]) -> dict[str, WinRate]:
    users = np.array([sample.user for sample in samples])
    seen = np.array([sample.seen for sample in samples])
    parts = {"all": np.ones(len(seen), bool), "seen": seen, "unseen": ~seen}
    return {name: win_rate(verdict[part], users[part]) for name, part in parts.items() if part.any()}
