"""Reward models on texts: fit, adapt, known people, saving without people, and what goes wrong."""

import json

import numpy as np
import polars as pl
import pytest

from palate.data import PreferenceDataset, read
from palate.errors import FingerprintError, InputError, NotFittedError, StorageError, VersionError
from palate.features import featurize
from palate.features.base import Featurizer
from palate.models import make
from palate.models.reward_model import FeatureRewardModel
from palate.types import Items

WORDS = ("tea", "coffee", "water", "juice", "milk")


class Marks(Featurizer):
    """Length, exclamation marks and capitals of a reply."""

    name = "marks"
    cacheable = False
    fingerprint = "marks-1"
    dim = 3

    def embed(self, items, *, progress=None):
        rows = [[len(text) / 10, text.count("!"), sum(c.isupper() for c in text)] for _, text in items]
        return np.array(rows, np.float32).reshape(-1, 3)


class OtherMarks(Marks):
    fingerprint = "marks-2"


def town(n_users=12, rows=30, seed=0):
    """Even people like exclamation marks, odd people dislike them."""
    rng = np.random.default_rng(seed)
    found = []
    for user in range(n_users):
        sign = 1 if user % 2 == 0 else -1
        for _ in range(rows):
            prompt = f"Name a drink, please ({rng.integers(8)})."
            marks = rng.choice(4, 2, replace=False)
            words = rng.choice(WORDS, 2)
            texts = [f"{word}{'!' * mark}" for word, mark in zip(words, marks, strict=True)]
            left = sign * (marks[0] - marks[1]) > 0
            found.append(
                {"user": f"u{user:02}", "prompt": prompt, "left": texts[0], "right": texts[1], "label": int(left)}
            )
    return found


LOVER = [("Name a drink.", "tea!!!", "tea"), ("Name a drink.", "milk!!", "coffee"), ("Another?", "juice!", "milk")] * 2
HATER = [(prompt, rejected, chosen) for prompt, chosen, rejected in LOVER]


@pytest.fixture(scope="module")
def model():
    return FeatureRewardModel(Marks(), "individual", l2=0.3).fit(read(town()), rng=0)


def test_adapts_to_a_new_person(model):
    assert model.adapt(LOVER).prefer("New?", "water!!!", "water") > 0.8
    assert model.adapt(HATER).prefer("New?", "water!!!", "water") < 0.2
    scores = model.adapt(LOVER).score("New?", ["water", "water!!", "water!"])
    assert scores.argsort().tolist() == [0, 2, 1]
    assert model.adapt().score("New?", []).shape == (0,)


def test_score_and_prefer_agree_with_the_method(model):
    me = model.adapt(HATER)
    features = Marks().embed([("New?", "water"), ("New?", "water!!")])
    items = Items.of(features)
    assert me.score("New?", ["water", "water!!"]) == pytest.approx(model.method.reward(items, me.state.batch)[0])
    expected = model.method.prefer(items.take([0]), items.take([1]), me.state.batch, [0])[0]
    assert me.prefer("New?", "water", "water!!") == pytest.approx(expected)


def test_history_may_be_rows_triples_frames_or_data(model):
    dicts = [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in LOVER]
    frame = pl.DataFrame(dicts)
    dataset = read([{**row, "user": "x"} for row in dicts])
    shapes = [LOVER, dicts, frame, frame.to_pandas(), dataset]
    answers = [model.adapt(history).prefer("New?", "a!", "b") for history in shapes]
    assert answers == pytest.approx([answers[0]] * len(shapes), abs=1e-12)


def test_nobody_in_particular_gets_the_prior(model):
    for history in (None, [], ()):
        assert model.adapt(history).state.to_bytes() == model.method.prior_[0].to_bytes()


def test_people_known_from_training(model):
    assert model.person("u00").prefer("New?", "water!!!", "water") > 0.8
    assert model.person("u01").prefer("New?", "water!!!", "water") < 0.2
    with pytest.raises(InputError, match="unknown user 'nobody'; the model knows 12"):
        model.person("nobody")


def test_adapt_many_is_adapt_one_by_one(model):
    rows = [row for row in town(seed=5) if row["user"] < "u03"]
    dataset = read(rows)
    states = model.adapt_many(dataset)
    for person, user in enumerate(dataset.users):
        alone = model.adapt([row for row in rows if row["user"] == user])
        asked = [("New?", "a!", "b")]
        assert model.prefer(asked, states, [person])[0] == pytest.approx(alone.prefer(*asked[0]), abs=1e-9)


def test_known_items_keep_their_keys():
    """A text that was seen in training has the key it had there, so identity-only methods can score it."""
    dataset = read(town())
    model = FeatureRewardModel(None, "pooled").fit(dataset, rng=0)
    texts = dataset.item_texts()[:7]
    assert np.array_equal(model.items(texts[::-1]).keys, dataset.item_keys()[:7][::-1])
    stranger = model.adapt()
    assert np.ptp(model.reward(texts, stranger.state.batch)) > 0


def test_fit_on_some_rows_and_on_ready_items():
    dataset = read(town())
    rows = np.arange(100)
    items = featurize(dataset, Marks(), cache=False)
    one = FeatureRewardModel(Marks(), "individual").fit(dataset, rows=rows, items=items, rng=0)
    other = FeatureRewardModel(Marks(), make("individual")).fit(dataset, rows=rows, rng=0)
    assert one.fingerprint == other.fingerprint and one.info_["n_comparisons"] == 100


def test_base_reward_by_function(tmp_path):
    def base(texts):
        return [float(len(reply)) for _, reply in texts]

    model = FeatureRewardModel(Marks(), "individual", base_reward=base).fit(read(town()), rng=0)
    folder = model.save_pretrained(tmp_path / "m")
    again = FeatureRewardModel.from_pretrained(folder, features=Marks(), base_reward=base)
    replies = ["water", "water!!"]
    assert np.array_equal(again.adapt(LOVER).score("?", replies), model.adapt(LOVER).score("?", replies))
    without = FeatureRewardModel.from_pretrained(folder, features=Marks())
    scores = without.with_state(model.adapt(LOVER).state).score(
        "?", replies, base_reward=base([("?", r) for r in replies])
    )
    assert np.array_equal(scores, model.adapt(LOVER).score("?", replies))
    with pytest.raises(InputError, match="base reward"):
        without.adapt().score("?", replies)


@pytest.mark.parametrize("name", ["individual", "pooled"])
def test_saved_and_loaded_answers_the_same(name, tmp_path):
    model = FeatureRewardModel("style", name, cache=False).fit(read(town()), rng=0)
    folder = model.save_pretrained(tmp_path / "m", people=True)
    loaded = FeatureRewardModel.from_pretrained(folder, cache=False)
    replies = ["water", "water!!", "WATER"]
    assert np.array_equal(loaded.adapt(LOVER).score("?", replies), model.adapt(LOVER).score("?", replies))
    assert np.array_equal(loaded.person("u03").score("?", replies), model.person("u03").score("?", replies))
    assert loaded.info_ == model.info_ and loaded.info_["n_comparisons"] == 360
    path = tmp_path / "me.state"
    model.adapt(LOVER).save(path)
    assert np.array_equal(loaded.load_person(path).score("?", replies), model.adapt(LOVER).score("?", replies))


def test_people_are_not_saved_unless_asked(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "m")
    assert len(model.method.states_) == 12
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"u03" not in content and b"Name a drink" not in content
    loaded = FeatureRewardModel.from_pretrained(folder, features=Marks())
    assert loaded.adapt(LOVER).prefer("?", "a!", "b") == model.adapt(LOVER).prefer("?", "a!", "b")
    with pytest.raises(InputError, match="saved without its people"):
        loaded.person("u03")
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "method.safetensors"}


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_newer_and_damaged_folders_are_refused(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "m")
    load = lambda: FeatureRewardModel.from_pretrained(folder, features=Marks())  # noqa: E731
    edit(folder, format=99)
    with pytest.raises(VersionError, match="format 99 is newer"):
        load()
    edit(folder, format=1, kind="policy")
    with pytest.raises(InputError, match="kind 'policy'"):
        load()
    edit(folder, kind="features", fingerprint="0" * 32)
    with pytest.raises(InputError, match="two different fits"):
        load()
    edit(folder, fingerprint=model.fingerprint)
    assert load().fingerprint == model.fingerprint
    (folder / "method.safetensors").write_bytes((folder / "method.safetensors").read_bytes()[:200])
    with pytest.raises(InputError, match="not a saved method"):
        load()
    (folder / "method.safetensors").unlink()
    with pytest.raises(InputError, match="not a saved method"):
        load()
    (folder / "config.json").write_text('{"format": 1}')
    with pytest.raises(InputError, match="missing"):
        load()
    for broken in ('{"format": 1', "[]", '{"a": 1}'):
        (folder / "config.json").write_text(broken)
        with pytest.raises(InputError, match=r"damaged|not the settings"):
            load()
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="damaged"):
        load()
    with pytest.raises(InputError, match="no Palate model here"):
        FeatureRewardModel.from_pretrained(tmp_path / "nowhere")


def test_features_must_be_those_of_the_fit(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "m")
    with pytest.raises(InputError, match="have no name"):
        FeatureRewardModel.from_pretrained(folder)
    with pytest.raises(FingerprintError, match="marks"):
        FeatureRewardModel.from_pretrained(folder, features=OtherMarks())


def test_states_of_another_fit_and_broken_state_files(model, tmp_path):
    other = FeatureRewardModel(Marks(), "individual").fit(read(town(seed=9)), rng=0)
    with pytest.raises(FingerprintError):
        model.with_state(other.adapt(LOVER).state)
    path = tmp_path / "me.state"
    with pytest.raises(InputError, match="cannot be read"):
        model.load_person(path)
    for content in (b"", b"garbage", b"\x00" * 40, model.adapt(LOVER).state.to_bytes()[:60]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not the state of a person"):
            model.load_person(path)


def test_bad_input(model, tmp_path):
    fresh = FeatureRewardModel(Marks())
    for call in (lambda: fresh.adapt(LOVER), lambda: fresh.person("a"), lambda: fresh.save_pretrained(tmp_path)):
        with pytest.raises(NotFittedError, match="fit"):
            call()
    with pytest.raises(InputError, match="2 people"):
        model.adapt([row for row in town() if row["user"] in ("u00", "u01")])
    with pytest.raises(InputError, match="must be texts"):
        model.adapt().score("?", ["a", 3])
    with pytest.raises(InputError, match="beside a ready individual"):
        FeatureRewardModel(Marks(), make("individual"), l2=1.0)
    with pytest.raises(InputError, match="needs item features"):
        FeatureRewardModel(None, "gpo").fit(read(town()), rng=0)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        model.save_pretrained(tmp_path / "file" / "m")
    assert isinstance(read(town()), PreferenceDataset)
