"""People with known tastes: over the shipped replies, and in worlds where disagreement, noise and rank can be set."""

from palate.simulate.people import corpus_people
from palate.simulate.tastes import WORLDS, World
from palate.simulate.truth import Simulation, Truth
from palate.simulate.worlds import synthetic_world

__all__ = ["WORLDS", "Simulation", "Truth", "World", "corpus_people", "synthetic_world"]
