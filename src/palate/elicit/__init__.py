"""Which question to ask a person next, and asking it."""

from palate.elicit.acquisition import (
    STRATEGIES,
    Strategy,
    bald,
    best_question,
    d_optimal,
    epig,
    eubo,
    pref,
    pref_program,
    random,
    strategy,
    thompson,
    v_optimal,
)
from palate.elicit.confidence import confidence_radius
from palate.elicit.contrast import contrasting_pair, generated_question, uncertain_direction
from palate.elicit.person import AskablePerson, AskingRewardModel
from palate.elicit.pool import Pool, PreparedPool, prepare
from palate.elicit.questions import QuestionTable, all_pairs
from palate.elicit.session import Asked, Session, SessionConfig
from palate.elicit.standing import Standing

__all__ = [
    "STRATEGIES",
    "AskablePerson",
    "AskingRewardModel",
    "Asked",
    "Pool",
    "PreparedPool",
    "QuestionTable",
    "Session",
    "SessionConfig",
    "Standing",
    "Strategy",
    "all_pairs",
    "bald",
    "best_question",
    "confidence_radius",
    "contrasting_pair",
    "d_optimal",
    "epig",
    "eubo",
    "generated_question",
    "pref",
    "pref_program",
    "prepare",
    "random",
    "strategy",
    "thompson",
    "uncertain_direction",
    "v_optimal",
]
