"""`judge`: a language model is asked which reply a person would prefer.

It sees what is known about the person in words (`user_text`) and, with `examples` > 0, some of the person's own
comparisons. Every question is asked in both orders: where the answers disagree, the order decided and not the replies,
and that is a tie. Nothing is learned; adapting stores the history.

When not to use it: where a fitted reward is at hand. On real people such judges get 52 to 68 % of choices right, at one
or two model calls per question.

Zero-shot, the person's own comparisons and the stated profile are `JudgeConfig.zero_shot()`, `.rag()` and
`.stated_profile()`; `palate bench --methods judge:preset=rag` asks any of them (`palate.evaluate.judging`).

Source: Dong et al. 2025 (RAG: the three nearest own comparisons); Shenfeld et al. 2025 (both orders);
Dong, Hu and Collier 2024, "Can LLM be a Personalized Judge?" (certainty).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field

from palate.backends.base import ChatBackend
from palate.config import Config
from palate.data.dataset import PreferenceDataset
from palate.errors import InputError, RefusalError
from palate.features.base import Featurizer
from palate.models.personal import History, PersonalModel, Question, one_person
from palate.progress import Progress, silent
from palate.types import UserState, UserStates

__all__ = ["JudgeConfig", "JudgeRewardModel", "Verdicts"]

_SYSTEM = (
    "You decide which of two replies one particular person would prefer. Judge by this person's taste, "
    "not by your own. The order of the replies means nothing."
)
_ASK = "Which reply would this person prefer? Answer with one line: 1 or 2, or 0 if neither more than the other."
_ASK_SURE = (
    "Which reply would this person prefer? Answer with one line of two numbers: first 1 or 2, or 0 if neither more "
    "than the other; then your certainty from 1 to 100."
)
_REMIND = "I cannot read that. Answer with one number alone: 1, 2 or 0."
_REMIND_SURE = "I cannot read that. Answer with two numbers alone: 1, 2 or 0, then your certainty from 1 to 100."
_ANSWER = re.compile(
    r"(?:th(?:e|is)\s+person\s+(?:would\s+)?prefers?\s+)?(?:the\s+)?(?:answer|reply)?[\s:#*\"'(]*([012])(?![\d.]*\d)(?!\s*(?:/|or|and)\s*\d)"
    r"(?:(?:[\s,;:.()*-]|certainty|is)+(\d{1,3})(?!\d))?",
    re.IGNORECASE,
)


class JudgeConfig(Config):
    """How the judge is asked."""

    examples: int = Field(0, ge=0, description="Own comparisons of the person shown with every question; 0 for none.")
    choose: Literal["recent", "nearest", "prompt"] = Field(
        "recent",
        description="Which of them: the latest, those whose two replies are nearest to the question's, or those with the "
        "nearest prompt (both need `similarity`).",
    )
    profile: bool = Field(True, description="Show what the person says of themselves, where they do.")
    both_orders: bool = Field(True, description="Ask every question in both orders; a contradiction is a tie.")
    certainty: bool = Field(False, description="Ask for a certainty and let it scale the probability.")
    trust: float = Field(
        0.75, ge=0.5, le=1, description="Probability given to a verdict (with certainty: to one of 100)."
    )
    max_tokens: int = Field(32, ge=1, description="The judge's answer is cut after so many tokens.")
    workers: int = Field(4, ge=1, description="Questions asked at a time; 1 for a model in this process.")

    @classmethod
    def zero_shot(cls) -> Self:
        """Nothing known of the person: the judge's own taste."""
        return cls(profile=False)

    @classmethod
    def rag(cls) -> Self:
        """Dong et al. 2025: the three own comparisons with the most similar prompts (cosine of MiniLM)."""
        return cls(examples=3, choose="prompt", profile=False)

    @classmethod
    def stated_profile(cls) -> Self:
        """Dong, Hu and Collier 2024: the person in their own words, with a certainty from 1 to 100."""
        return cls(certainty=True, trust=1.0)


@dataclass(frozen=True)
class Verdicts:
    """What the judge said to m questions.

    Args:
        probability: (m,) that left is preferred.
        flag: (m,) "decided"; "tie" (the judge saw no difference); "contradiction" (the order decided); "unreadable"
            (no answer could be read, even when asked again).
        first_share: share of the one-sided answers that chose the reply shown first; ½ without position bias, NaN
            without answers.
        calls: how often the model was asked, repeats of unreadable answers included.
        unreadable: how many answers could not be read, even when asked again.
    """

    probability: np.ndarray
    flag: np.ndarray
    first_share: float
    calls: int
    unreadable: int


@dataclass(frozen=True)
class _Answer:
    """One readable or unreadable answer: +1 for the reply shown first, -1 for the second, 0 for neither, None."""

    choice: int | None
    certainty: float
    calls: int


class JudgeRewardModel:
    """A `RewardModel` that asks a language model.

    Args:
        backend: answers conversations; `palate.backends.openai.ChatClient(..., cache=folder)` keeps every answer on
            disk by its content, so that the same question costs nothing again and a killed run resumes.
        config: the settings; or give them by name.
        similarity: embeds texts, for `choose="nearest"`.
        name: says which model is asked, for the fingerprint; the backend's own description by default.
    """

    scalar = False

    def __init__(
        self,
        backend: ChatBackend,
        config: JudgeConfig | None = None,
        *,
        similarity: Featurizer | None = None,
        name: str | None = None,
        **settings: Any,
    ) -> None:
        if config is not None and settings:
            config = config.replace(**settings)
        self.config = JudgeConfig(**settings) if config is None else config
        if self.config.examples and self.config.choose != "recent" and similarity is None:
            raise InputError(
                f"choose={self.config.choose!r} needs similarity=, a featurizer; e.g. palate.features.make('minilm')"
            )
        self.backend = backend
        self.similarity = similarity
        about = [repr(backend) if name is None else name, self.config.model_dump_json()]
        about.append("" if similarity is None else similarity.fingerprint)
        self.fingerprint = hashlib.blake2b("\x1f".join(about).encode(), digest_size=16).hexdigest()

    def adapt(self, history: History = None, *, user_text: str = "", progress: Progress = silent) -> PersonalModel:
        """The judge of one person: stores their comparisons, in order of time, and their own words."""
        rows, written = [], ""
        dataset = one_person(history)
        if dataset is not None:
            rows = _history_rows(dataset)
            written = dataset.user_text[int(dataset.user[0])] if dataset.user_text is not None else ""
        texts = {"history": (json.dumps(rows),), "user_text": (user_text or written,)}
        return PersonalModel(self, UserState(UserStates("judge", self.fingerprint, 1, texts=texts)))

    def expected_calls(self, questions: int) -> int:
        """Model calls that so many questions take, before any that repeats an unreadable answer."""
        return questions * (2 if self.config.both_orders else 1)

    def prefer(
        self,
        questions: Sequence[Question],
        states: UserStates,
        user_index: np.ndarray | None = None,
        *,
        progress: Progress = silent,
    ) -> np.ndarray:
        """(m,) probability that the person of each question prefers left; `judge` tells more."""
        return self.judge(questions, states, user_index, progress=progress).probability

    def reward(
        self,
        texts: Sequence[tuple[str, str]],
        states: UserStates,
        *,
        base_reward: Sequence[float] | None = None,
        progress: Progress = silent,
    ) -> np.ndarray:
        """A judge has no reward."""
        raise InputError(
            "a judge only compares two replies and has no reward; use prefer, or score of an adapted model"
        )

    def judge(
        self,
        questions: Sequence[Question],
        states: UserStates,
        user_index: np.ndarray | None = None,
        *,
        progress: Progress = silent,
    ) -> Verdicts:
        """Ask every question.

        Args:
            questions: m of (prompt, left, right).
            states: of some people, from this judge.
            user_index: (m,) whose question each is; all of the first person where not given.
            progress: called with the number of calls to come before the first, and after each.

        Raises:
            EndpointError: the model cannot be reached; answers that came before are in the backend's cache.
        """
        states.require("judge", self.fingerprint)
        index = np.zeros(len(questions), int) if user_index is None else np.asarray(user_index)
        if len(index) != len(questions):
            raise InputError(f"{len(index)} users for {len(questions)} questions; give one each")
        orders = (False, True) if self.config.both_orders else (False,)
        shown = self._examples(questions, states, index)
        asked = [
            self._conversation(question, states[int(person)], examples, swapped)
            for question, person, examples in zip(questions, index, shown, strict=True)
            for swapped in orders
        ]
        answers = self._ask_all(asked, progress)
        grouped = [answers[i : i + len(orders)] for i in range(0, len(answers), len(orders))]
        decided = [self._verdict(group) for group in grouped]
        sided = [answer.choice for answer in answers if answer.choice]
        return Verdicts(
            probability=np.array([probability for probability, _ in decided], np.float64),
            flag=np.array([flag for _, flag in decided], dtype=np.str_),
            first_share=float(np.mean(np.array(sided) > 0)) if sided else float("nan"),
            calls=sum(answer.calls for answer in answers),
            unreadable=sum(answer.choice is None for answer in answers),
        )

    def _ask_all(self, asked: list[list[dict[str, str]]], progress: Progress) -> list[_Answer]:
        progress(0, len(asked), "judge")
        answers = []
        with ThreadPoolExecutor(self.config.workers) as pool:
            futures = [pool.submit(self._ask, messages) for messages in asked]
            try:
                for done, future in enumerate(futures, start=1):
                    answers.append(future.result())
                    progress(done, len(asked), "judge")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return answers

    def _ask(self, messages: list[dict[str, str]]) -> _Answer:
        """One answer; an unreadable one is asked for once more, with a reminder of the form."""
        certainty = self.config.certainty
        for attempt in (1, 2):
            text = self._text(messages)
            choice, sure = read_answer(text, certainty)
            if choice is not None:
                return _Answer(choice, sure, attempt)
            messages = [
                *messages,
                {"role": "assistant", "content": text[:500] or "…"},
                {"role": "user", "content": _REMIND_SURE if certainty else _REMIND},
            ]
        return _Answer(None, 0.0, 2)

    def _text(self, messages: list[dict[str, str]]) -> str:
        """The model's words; a refusal without any is an unreadable answer, not a failure of the endpoint."""
        try:
            return self.backend.chat(messages, temperature=0.0, max_tokens=self.config.max_tokens)
        except RefusalError:
            return ""

    def _verdict(self, answers: Sequence[_Answer]) -> tuple[float, str]:
        """Probability of left and a flag, from the answers in the given and, where asked, the exchanged order."""
        if any(answer.choice is None for answer in answers):
            return 0.5, "unreadable"
        sides = [answer.choice * sign for answer, sign in zip(answers, (1, -1), strict=False)]
        if any(side * sides[0] < 0 for side in sides):
            return 0.5, "contradiction"
        if not any(sides):
            return 0.5, "tie"
        strength = sum(side * answer.certainty for side, answer in zip(sides, answers, strict=True)) / len(sides)
        return 0.5 + (self.config.trust - 0.5) * strength, "decided"

    def _conversation(
        self, question: Question, state: UserState, examples: Sequence[dict[str, Any]], swapped: bool
    ) -> list[dict[str, str]]:
        prompt, left, right = question
        first, second = (right, left) if swapped else (left, right)
        parts = []
        if self.config.profile and state["user_text"].strip():
            parts.append(f"What is known about this person:\n{state['user_text'].strip()}")
        for number, row in enumerate(examples, start=1):
            parts.append(f"Earlier choice {number}.\n{_shown(row['prompt'], row['left'], row['right'])}\n{_said(row)}")
        parts.append(f"Now the question.\n{_shown(prompt, first, second)}")
        parts.append(_ASK_SURE if self.config.certainty else _ASK)
        return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "\n\n".join(parts)}]

    def _examples(
        self, questions: Sequence[Question], states: UserStates, index: np.ndarray
    ) -> list[list[dict[str, Any]]]:
        """The comparisons to show with every question, the most relevant last, where a reader's eye is."""
        count = self.config.examples
        histories = {int(person): json.loads(states[int(person)]["history"]) for person in np.unique(index)}
        if self.config.choose == "recent" or count == 0:
            return [histories[int(person)][-count:] if count else [] for person in index]
        asked = [(question, histories[int(person)]) for question, person in zip(questions, index, strict=True)]
        place = self._places([pair for pair in asked if len(pair[1]) > count])
        shown = []
        for question, rows in asked:
            if len(rows) > count:
                nearness = [place[_key(row)] @ place[question] for row in rows]
                rows = [rows[i] for i in np.argsort(np.round(nearness, 6), kind="stable")[len(rows) - count :]]
            shown.append(rows)
        return shown

    def _places(self, asked: Sequence[tuple[Question, list[dict[str, Any]]]]) -> dict[Question, np.ndarray]:
        """Unit vectors of all questions and earlier choices, each text embedded once."""
        met = dict.fromkeys(question for question, _ in asked)
        met |= dict.fromkeys(_key(row) for _, rows in asked for row in rows)
        if not met:
            return {}
        by_prompt = self.config.choose == "prompt"
        texts = {key: [("", key[0])] if by_prompt else [(key[0], side) for side in key[1:]] for key in met}
        number = {text: i for i, text in enumerate(dict.fromkeys(text for own in texts.values() for text in own))}
        vectors = self.similarity.embed(list(number)).astype(np.float64)
        middle = {key: vectors[[number[text] for text in own]].mean(0) for key, own in texts.items()}
        return {key: vector / max(float(np.linalg.norm(vector)), 1e-12) for key, vector in middle.items()}


def _key(row: dict[str, Any]) -> Question:
    """An earlier choice as the question that it answered."""
    return row["prompt"], row["left"], row["right"]


def read_answer(text: str, certainty: bool) -> tuple[int | None, float]:
    """The choice in a judge's answer: 1 for the first reply, -1 for the second, 0 for neither; None if there is none.

    Args:
        text: what the model wrote.
        certainty: whether a certainty must follow.

    Returns:
        The choice and its certainty in [0, 1] (1 where none was asked).
    """
    found = _ANSWER.match(text.strip())
    if found is None or (certainty and found[2] is None):
        return None, 0.0
    sure = float(found[2]) / 100.0 if certainty else 1.0
    return (None, 0.0) if not 0.0 <= sure <= 1.0 else ({"1": 1, "2": -1, "0": 0}[found[1]], sure)


def _history_rows(dataset: PreferenceDataset) -> list[dict[str, Any]]:
    """The rows as JSON-able dictionaries, the earliest first; rows without weight are left out."""
    texts = dataset.item_texts()
    order = np.arange(len(dataset)) if dataset.time is None else np.argsort(dataset.time, kind="stable")
    rows = []
    for i in order[dataset.weight[order] > 0].tolist():
        prompt, left = texts[dataset.left[i]]
        right = texts[dataset.right[i]][1]
        rows.append({"prompt": prompt, "left": left, "right": right, "label": float(dataset.label[i])})
    return rows


def _shown(prompt: str, first: str, second: str) -> str:
    asked = f"<prompt>\n{prompt}\n</prompt>\n" if prompt else ""
    return f"{asked}<reply 1>\n{first}\n</reply 1>\n<reply 2>\n{second}\n</reply 2>"


def _said(row: dict[str, Any]) -> str:
    if row["label"] == 0.5:
        return "This person preferred neither."
    return f"This person preferred reply {1 if row['label'] > 0.5 else 2}."
