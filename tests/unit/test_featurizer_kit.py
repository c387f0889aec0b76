"""The featurizer kit passes an honest featurizer and catches each way to be wrong."""

import numpy as np
import pytest

from palate.testing import CheckFailed, check_featurizer


class Counts:
    """Length and number of vowels."""

    dim = 2

    def __init__(self, scale=1.0):
        self.scale = scale

    @property
    def fingerprint(self):
        return f"counts {self.scale}"

    def embed(self, items, *, progress=None):
        rows = [[len(reply), sum(letter in "aeiou" for letter in reply)] for _, reply in items]
        return np.array(rows, np.float32).reshape(-1, 2) * np.float32(self.scale)


class Wide(Counts):
    dim = 3


class Double(Counts):
    def embed(self, items, *, progress=None):
        return super().embed(items).astype(np.float64)


class Broken(Counts):
    def embed(self, items, *, progress=None):
        return super().embed(items) / np.float32(0.0) if items else super().embed(items)


class NoEmpty(Counts):
    def embed(self, items, *, progress=None):
        return super().embed(items) if items else np.zeros(0, np.float32)


class Batchwise(Counts):
    def embed(self, items, *, progress=None):
        vectors = super().embed(items)
        return vectors - vectors.mean(0) if len(vectors) > 1 else vectors


class Positional(Counts):
    def embed(self, items, *, progress=None):
        return super().embed(items) + np.arange(len(items), dtype=np.float32)[:, None]


class Constant(Counts):
    def embed(self, items, *, progress=None):
        return np.ones((len(items), 2), np.float32)


class Anonymous(Counts):
    fingerprint = ""


class SameName(Counts):
    fingerprint = "counts"


class Fresh(Counts):
    @property
    def fingerprint(self):
        return f"counts {id(self)}"


BROKEN = [
    (Wide, "expected"),
    (Double, "float64"),
    (Broken, "not finite"),
    (NoEmpty, "no text gives"),
    (Batchwise, "alone and in a batch"),
    (Positional, "another order"),
    (Constant, "the same vector"),
    (Anonymous, "fingerprint is ''"),
    (SameName, "leave the fingerprint unchanged"),
    (Fresh, "another fingerprint"),
]


def test_honest_featurizer_passes():
    check_featurizer(Counts, variants=[lambda: Counts(2.0), lambda: Counts(3.0)])


@pytest.mark.filterwarnings("ignore:divide by zero|invalid value")
@pytest.mark.parametrize(("broken", "complaint"), BROKEN)
def test_broken_featurizer_is_caught(broken, complaint):
    with pytest.raises(CheckFailed, match=complaint):
        check_featurizer(broken, variants=[lambda: broken(2.0)])
