"""People with known tastes: over the shipped replies, and in worlds where disagreement, noise and rank can be set."""

from palate.simulate.people import corpus_people
from palate.simulate.truth import Simulation, Truth
from palate.simulate.worlds import synthetic_world

__all__ = ["Simulation", "Truth", "corpus_people", "synthetic_world"]
