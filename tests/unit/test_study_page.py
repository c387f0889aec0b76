"""The page of a blinded study: its words follow its numbers, and nobody is named unless asked."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from palate.cli.app import app
from palate.elicit.study import StudyResult, study_summary
from palate.report import write_study_report
from palate.statistics import mean_over_users, share


def invented(wins: float, people: int = 24, duels: int = 15) -> StudyResult:
    rng = np.random.default_rng(1)
    won = rng.binomial(duels, wins, people)
    shares = {f"ann-{number:02}": share(float(one), duels) for number, one in enumerate(won)}
    overall = mean_over_users(won / duels, rng=0)
    return StudyResult(shares, overall, overall, n_asked=people * duels, n_ties=31, n_same=12)


@pytest.mark.parametrize(
    ("wins", "people", "said"),
    [
        (0.75, 24, "people prefer it to the baseline"),
        (0.25, 24, "people prefer the baseline"),
        (0.5, 24, "no preference is shown"),
        (0.9, 5, "carries no claim"),
    ],
)
def test_the_sentence_follows_the_numbers(wins, people, said, tmp_path):
    result = invented(wins, people)
    page = write_study_report(result, tmp_path / "study.html").read_text(encoding="utf-8")
    assert said in page
    assert f"{100 * result.overall.value:.0f}" in page
    assert "http://" not in re.sub(r"http://www\.w3\.org/\S+", "", page) and "https://" not in page


def test_people_are_numbered_unless_names_are_asked_for(tmp_path):
    result = invented(0.6)
    page = write_study_report(result, tmp_path / "study.html").read_text(encoding="utf-8")
    assert "person 24" in page and "ann-" not in page
    named = write_study_report(result, tmp_path / "named.html", names=True).read_text(encoding="utf-8")
    assert "ann-00" in named


def test_the_numbers_are_those_of_the_rows(tmp_path):
    scores = {"ann": [1.0, 1.0, 0.5, 0.0], "bob": [0.0, 0.0, 1.0, 1.0]}
    rows = pl.DataFrame(
        [
            {"person": person, "phase": "test", "choice": "tie" if score == 0.5 else "left", "score": score}
            for person, values in scores.items()
            for score in values
        ]
    )
    result = study_summary(rows)
    page = write_study_report(result, tmp_path / "study.html").read_text(encoding="utf-8")
    assert result.people["ann"].value == 0.625 and result.n_ties == 1
    assert '"won":[0.5625,0.625,0.5]' in page


def test_a_page_that_is_none_is_refused(tmp_path):
    done = CliRunner().invoke(app, ["study", "nowhere", "-o", str(tmp_path), "--report", str(tmp_path / "study.pdf")])
    assert done.exit_code == 2 and "written as .html" in done.output
