"""Which question to ask a person next."""

from palate.elicit.acquisition import STRATEGIES, Pool, Strategy, bald, best_question, random, strategy

__all__ = ["STRATEGIES", "Pool", "Strategy", "bald", "best_question", "random", "strategy"]
