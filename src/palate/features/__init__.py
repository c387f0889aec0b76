"""From texts to vectors: hidden states, encoders, endpoints, vectors that exist, and a cache on disk."""

from palate.features.base import Featurizer, NoFeatures
from palate.features.base_reward import BaseReward, ClassifierScores, LikelihoodScores, ScoreColumns
from palate.features.catalogue import available, make
from palate.features.conditioned import conditioned_items
from palate.features.table import embed_items, featurize

__all__ = [
    "BaseReward",
    "ClassifierScores",
    "Featurizer",
    "LikelihoodScores",
    "NoFeatures",
    "ScoreColumns",
    "available",
    "conditioned_items",
    "embed_items",
    "featurize",
    "make",
]
