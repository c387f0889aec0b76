"""What is known about people before the first answer, from columns and words to the model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import palate
from palate.cli.app import app
from palate.data import read
from palate.errors import InputError
from palate.features import make
from palate.features.people import PeopleFeatures, attributes_of

COUNTRIES = ("North", "South")


def rows(n_users=60, each=12, seed=0):
    """In the North people like exclamation marks, in the South they do not; their texts say so too."""
    rng = np.random.default_rng(seed)
    found = []
    for user in range(n_users):
        north = user % 2 == 0
        for number in range(each):
            marks = rng.choice(6, 2, replace=False)
            left, right = (f"good day{'!' * mark}" for mark in marks)
            label = int(((marks[0] > marks[1]) == north) == (rng.random() < 0.9))
            row = {"user": f"u{user:02}", "prompt": f"Greet {rng.integers(3)}", "left": left, "right": right}
            # Only the first row says it, as tables of people joined to rows often do.
            known = {"country": COUNTRIES[not north] if number == 0 else None}
            known["user_text"] = "I shout!!! a lot!!!" if north else "I prefer quiet words, always."
            found.append(row | {"label": label} | known)
    return found


@pytest.fixture(scope="module")
def model():
    return palate.fit(rows(), features="style", method="hierarchical", rank=2, side=["country"])


def test_somebody_of_whom_only_the_country_is_known(model):
    shouts, quiet = "hi!!!!!", "hi"
    north, south = (model.meet(attributes={"country": name}) for name in COUNTRIES)
    assert north.prefer("Greet 1", shouts, quiet) > 0.65 and south.prefer("Greet 1", shouts, quiet) < 0.35
    unknown = model.meet(attributes={"country": "Atlantis"})
    nobody = model.adapt()
    assert unknown.prefer("Greet 1", shouts, quiet) == pytest.approx(nobody.prefer("Greet 1", shouts, quiet), abs=1e-9)
    assert south.ask([("Greet 1", shouts, quiet)]) == ("Greet 1", shouts, quiet)


def test_answers_overrule_the_country(model):
    history = [{"prompt": "Greet 1", "chosen": "a!!!!!", "rejected": "a", "country": "South"}] * 12
    assert model.adapt(history).prefer("Greet 1", "hi!!!!!", "hi") > 0.5
    silent = model.adapt([{**row, "country": None} for row in history[:1]]).prefer("Greet 1", "hi!!!!!", "hi")
    southern = model.adapt(history[:1]).prefer("Greet 1", "hi!!!!!", "hi")
    assert southern < silent


def test_saved_and_loaded(model, tmp_path):
    loaded = palate.load_model(model.save_pretrained(tmp_path / "m"))
    one, other = (m.meet(attributes={"country": "North"}).score("Greet 1", ["hi!!!", "hi"]) for m in (model, loaded))
    assert one == pytest.approx(other, abs=1e-9) and loaded.people_ == model.people_


def test_user_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    model = palate.fit(rows(), features="style", method="hierarchical", rank=2, side=["user_text"])
    loud = model.adapt(user_text="I shout!!! a lot!!!").prefer("Greet 1", "hi!!!!!", "hi")
    quiet = model.adapt(user_text="I prefer quiet words, always.").prefer("Greet 1", "hi!!!!!", "hi")
    assert loud > 0.6 > 0.4 > quiet
    history = [("Greet 1", "a!", "a")]
    assert model.adapt(history, user_text="I shout!!! a lot!!!").prefer("Greet 1", "hi!!!!!", "hi") > loud - 0.05


def test_people_without_text_among_people_with_text():
    some = [row | {"user_text": row["user_text"] if row["user"] < "u40" else ""} for row in rows()]
    model = palate.fit(some, features="style", method="hierarchical", rank=2, side=["user_text", "country"])
    dataset = read(some)
    features = model.people_.beside(
        dataset.comparisons(model._featurized(dataset, lambda *_: None)), dataset, make("style")
    )
    table = features.user_features
    assert np.isnan(table[40:, :-2]).all() and not np.isnan(table[:40]).any() and not np.isnan(table[:, -2:]).any()
    assert np.isfinite(model.method.states_.arrays["mean"]).all()


def test_attributes_of_people():
    found = attributes_of(read(rows(4, 3)), "country")
    assert found == ("North", "South", "North", "South")


@pytest.mark.parametrize(
    ("side", "method", "message"),
    [
        (["planet"], "factor", "no column 'planet'; the extra columns are: country"),
        (["user_text"], "factor", "says nothing about people in words"),
        (["country"], "conditional", "conditional does not use what is known"),
        (["country"], "pooled", "pooled does not use"),
        (["ident"], "factor", "has 60 values"),
    ],
)
def test_what_is_no_side_information(side, method, message):
    wordless = [{k: v for k, v in row.items() if k != "user_text"} for row in rows(each=2)]
    if side == ["ident"]:
        wordless = [row | {"ident": row["user"]} for row in wordless]
    with pytest.raises(InputError, match=message):
        palate.fit(wordless, features="style", method=method, side=side)


def test_attributes_that_were_not_learned(model):
    with pytest.raises(InputError, match="attribute 'age' was not learned; the model knows: country"):
        model.meet(attributes={"age": "old"})
    plain = palate.fit(rows(6, 4), features="style", method="pooled")
    with pytest.raises(InputError, match="the model knows: none"):
        plain.meet(attributes={"country": "North"})
    assert plain.meet().state.to_bytes() == plain.adapt().state.to_bytes()


def test_an_attribute_is_a_column_for_each_value():
    people = PeopleFeatures(False, {"c": ("a", "b", "d")})
    table = people(["", "", ""], {"c": ["b", "", "z"]}, make("style"))
    assert table[0].tolist() == [0.0, 1.0, 0.0] and np.isnan(table[1:]).all()
    assert PeopleFeatures.from_json(json.loads(json.dumps(people.to_json()))) == people


def test_command_line(tmp_path):
    data = tmp_path / "c.jsonl"
    data.write_text("\n".join(map(json.dumps, rows(12, 4))))
    words = [
        "fit",
        str(data),
        "-o",
        str(tmp_path / "m"),
        "--features",
        "style",
        "--method",
        "factor",
        "--side",
        "country",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert json.loads((tmp_path / "m" / "config.json").read_text())["side"]["values"] == {"country": ["North", "South"]}
