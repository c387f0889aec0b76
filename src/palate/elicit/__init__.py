"""Which question to ask a person next."""

from palate.elicit.acquisition import STRATEGIES, Pool, Strategy, bald, best_question, random, strategy
from palate.elicit.person import AskablePerson, AskingRewardModel

__all__ = [
    "STRATEGIES",
    "AskablePerson",
    "AskingRewardModel",
    "Pool",
    "Strategy",
    "bald",
    "best_question",
    "random",
    "strategy",
]
