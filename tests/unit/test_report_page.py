"""The report as a whole: what it says, what it holds, and that it survives what results can be like."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from report_world import KS, METHODS, broken_numbers, invented_audit, invented_results, save

from palate.errors import InputError
from palate.evaluate.results import Results
from palate.report import write_audit_report, write_report
from palate.report.verdicts import verdict_of
from palate.report.view import panels

TWO = ("pooled", "hierarchical")
QUESTIONS = ["room", "works", "whom", "answers", "cost", "sure"]


class Page(HTMLParser):
    """Sections, ids, figures and texts of a report."""

    VOID = {"meta", "link", "br", "input", "img", "hr"}

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.sections: list[str] = []
        self.figures: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.answers_in: dict[str, list[str]] = {}
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags.append(tag)
        if found.get("id"):
            self.ids.append(found["id"])
        self.references += [
            value.removeprefix("#")
            for key in ("href", "aria-labelledby", "data-figure", "data-copy")
            if (value := found.get(key)) and (key != "href" or value.startswith("#"))
        ]
        self.references += re.findall(r"url\(#([^)]+)\)", " ".join(value or "" for value in found.values()))
        if tag == "section":
            self.sections.append(found["id"])
        if tag == "figure":
            self.figures.append(found["id"])
        if tag not in self.VOID:
            self.open.append(f"{tag}.{found.get('class', '')}")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop().startswith(f"{tag}."), f"unbalanced </{tag}>"

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())
            if self.open[-1] == "p.answer":
                self.answers_in.setdefault(self.sections[-1], []).append(data.strip())

    @property
    def answers(self) -> list[str]:
        """The first answer of each section."""
        return [found[0] for found in self.answers_in.values()]

    @property
    def data(self) -> dict[str, dict[str, list]]:
        return json.loads(re.search(r'id="figure-data">(.*?)</script>', self.source, re.S).group(1))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Page]:
    folder = tmp_path_factory.mktemp("results")
    results = invented_results(folder, skipped=[("judge", "judge: no endpoint was given")], curves=True)
    return results, Page(write_report(results, folder / "report.html"))


def report(results: Results, tmp_path: Path) -> Page:
    return Page(write_report(results, tmp_path / "report.html"))


def test_opens_with_the_verdict_and_answers_six_questions_in_order(usual) -> None:
    _, page = usual
    assert page.sections == ["verdict", *QUESTIONS, "methods", "provenance"]
    assert page.texts["h3."][0] == "Personalize"
    assert len(page.answers) == len(QUESTIONS)


def test_numbers_in_the_sentences_are_those_of_the_rows(usual) -> None:
    results, page = usual
    (row,) = results.select(method="hierarchical", metric="accuracy_gain", k="seen")
    expected = f"+{100 * row['value']:.1f} points (+{100 * row['low']:.1f} to +{100 * row['high']:.1f})"
    assert expected in page.answers[1]
    assert expected in " ".join(page.texts["p."])
    (row,) = results.select(method="hierarchical", metric="accuracy_gain", k=40)
    assert f"+{100 * row['value']:.1f} points" in page.answers[3]


def test_the_first_screen_answers_all_six_questions_with_the_numbers_of_the_sections(usual) -> None:
    results, page = usual
    assert [text for text in page.texts["span.q"]] == [
        "Is there room?", "What works?", "For whom?", "After how many answers?", "At what cost?", "How sure?",
    ]  # fmt: skip
    texts = dict(zip(QUESTIONS, page.texts["span.t"], strict=True))
    (row,) = results.select(method="hierarchical", metric="accuracy_gain", k="seen")
    assert f"+{100 * row['value']:.1f} points (+{100 * row['low']:.1f} to +{100 * row['high']:.1f})" in texts["works"]
    (few,) = results.select(method="hierarchical", metric="accuracy_gain", k=5)
    assert f"+{100 * few['value']:.1f} after 5" in texts["answers"]
    assert "11 s" in page.texts["strong."]
    together = next(
        r for r in results.differences if (r["reference"], r["k"], r["method"]) == ("pooled", "seen", "hierarchical")
    )
    assert f"+{100 * together['low']:.1f} to +{100 * together['high']:.1f}" in texts["sure"]
    assert {"Surely better", "hierarchical"} <= set(page.texts["strong.good"])


def test_prompts_stand_with_their_texts_and_shrunken_gains(usual) -> None:
    _, page = usual
    assert "surely helps on" in page.answers_in["whom"][1]
    texts = page.texts["th.text"]
    assert texts[0] == "Invented prompt <0>: what shall we have for dinner on day 0?"
    assert texts[-1].startswith("Invented prompt <39>")
    assert len(texts) == 10
    drawn = page.data["data1-1-prompts"]
    assert drawn["gain"] == sorted(drawn["gain"], reverse=True)
    assert len(drawn["text"]) == 40


def test_prompts_that_differ_by_chance_are_said_to_be_alike(tmp_path: Path) -> None:
    results = invented_results(tmp_path, methods=TWO, audits=False)
    alike = results.per_prompt.with_columns(spread=pl.lit(0.0), chance=pl.lit(0.6))
    page = report(replace(results, per_prompt=alike), tmp_path)
    assert "do not differ more than chance" in page.answers_in["whom"][1]


def test_groups_of_people_by_attribute_have_a_table(usual, tmp_path: Path) -> None:
    results, plain = usual
    first = results.rows[0]
    place = {
        "data": first["data"],
        "protocol": first["protocol"],
        "k": "seen",
        "method": "hierarchical",
        "column": "country",
    }
    numbers = {"pooled_accuracy": 0.61, "gain": 0.0731, "low": 0.05, "high": 0.09, "claim": True}
    groups = (
        place | {"group": "Portugal", "n_users": 80} | numbers,
        place
        | {"group": "Iceland", "n_users": 7}
        | numbers
        | {"gain": -0.0417, "low": -0.1, "high": 0.02, "claim": False},
    )
    page = report(replace(results, groups=groups), tmp_path)
    assert "Gain by country" in page.source and "Gain by country" not in plain.source
    assert "Portugal" in page.source and "+7.3" in page.source and "−4.2" in page.source


def test_training_curves_are_drawn_where_they_were_measured(usual, tmp_path: Path) -> None:
    results, page = usual
    drawn = page.data["data1-1-training"]
    assert set(drawn["axis"]) == {"users", "comparisons"}
    mine = [(n, a) for axis, n, m, a in zip(drawn["axis"], drawn["size"], drawn["method"], drawn["accuracy"], strict=True)
            if (axis, m) == ("users", "hierarchical")]  # fmt: skip
    assert [n for n, _ in mine] == [20, 40, 80]
    assert mine[0][1] < mine[-1][1]
    (full,) = results.select(method="hierarchical", metric="accuracy", k=40)
    assert "from 20 to 80 training people" in page.answers_in["answers"][1]
    assert "(the last doubling brought +0.4)" in page.answers_in["answers"][1]
    assert full["value"] > mine[-1][1] > 0.5
    assert "data1-1-training" not in report(invented_results(methods=TWO, audits=False), tmp_path).figures


def test_differences_come_with_intervals_that_hold_together(usual) -> None:
    results, page = usual
    drawn = page.data["data1-1-differences"]
    assert set(drawn["reference"]) == {"pooled", "hierarchical"}
    for method, reference, value in zip(drawn["method"], drawn["reference"], drawn["accuracy_difference"], strict=True):
        (row,) = [
            r for r in results.differences if (r["k"], r["reference"], r["method"]) == ("seen", reference, method)
        ]
        assert value == pytest.approx(row["value"], rel=1e-4, abs=1e-6)
    assert "Judging all 5 methods at once" in page.answers_in["sure"][0]


def test_what_was_told_the_truth_is_a_line_and_no_competitor(tmp_path: Path) -> None:
    page = report(invented_results(tmp_path, methods=TWO, ceilings=True), tmp_path)
    assert "oracle" not in page.answers[1]
    assert page.texts["strong.good"].count("hierarchical") == 1
    assert "oracle" not in page.data["data1-1-seconds"]["method"]
    assert "oracle" not in page.data["data1-1-people"]["method"]
    curve = page.data["data1-1-answers"]
    named = zip(curve["method"], curve["metric"], curve["gain"], strict=True)
    gains = [gain for method, metric, gain in named if (method, metric) == ("oracle", "accuracy_gain")]
    assert len(gains) == len(KS) + 1
    assert min(gains) > 0.1
    assert "Dashed lines are no competitors" in page.source
    assert "th.quiet" in page.texts


def test_sentences_change_with_the_numbers(usual, tmp_path: Path) -> None:
    _, page = usual
    harmful = invented_results(tmp_path, strength=-0.5)
    other = report(harmful, tmp_path)
    assert "Also better than pooled" in page.answers[1]
    assert "no method is surely better" in other.answers[1]
    assert "Worse than pooled:" in other.answers[1]
    assert "At no number of answers" in other.answers[3]
    assert "none is surely better" in other.answers[5]


def test_every_figure_has_its_data_and_its_ids_are_unique(usual) -> None:
    _, page = usual
    assert len(page.figures) == 12
    assert set(page.data) == set(page.figures)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    for columns in page.data.values():
        assert len({len(column) for column in columns.values()}) == 1
        assert all(columns.values())


def test_figure_data_are_the_numbers_of_the_rows(usual) -> None:
    results, page = usual
    table = page.data["data1-1-answers"]
    for metric, method, k, gain in zip(*(table[key] for key in ("metric", "method", "k", "gain")), strict=True):
        (row,) = results.select(method=method, metric=metric, k=k)
        assert gain == pytest.approx(row["value"], rel=1e-5, abs=1e-9)
    assert {k for k in table["k"] if k != "seen"} == set(KS)


def test_asks_nothing_of_the_network_and_is_small(usual) -> None:
    _, page = usual
    assert len(page.source) < 1_000_000
    addresses = set(re.findall(r"https?://[^\"'\s)<]+", page.source))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "img" not in page.tags
    assert not re.search(r"<(script|link|iframe)[^>]+(src|href)=\"(?!data:,)", page.source)


def test_figures_follow_the_theme(usual) -> None:
    _, page = usual
    assert "#fe00" not in page.source  # no stand-in colour is left
    drawings = re.findall(r"<svg.*?</svg>", page.source, re.S)
    assert len(drawings) == 12
    for drawing in drawings:
        assert not re.search(r"#[0-9a-f]{6}\b", drawing), "a colour that does not follow the theme"
        assert "var(--" in drawing
        assert 'role="img"' in drawing
        assert "<desc" in drawing
        assert not re.search(r"<svg[^>]* (width|height)=", drawing)


def test_same_results_give_the_same_file(usual, tmp_path: Path) -> None:
    results, page = usual
    assert report(results, tmp_path).source == page.source


def test_skipped_methods_are_shown_with_their_reason(usual) -> None:
    _, page = usual
    assert "Not run: judge (judge: no endpoint was given)." in page.texts["p.note"]


def test_methods_paragraph_and_bibtex_name_what_took_part(usual) -> None:
    _, page = usual
    (paragraph,) = [text for text in page.texts["p."] if text.startswith("We compared")]
    assert "pooled, sklearn, individual, factor, gpo and hierarchical" in paragraph
    assert "0, 1, 3, 5, 10, 20 and 40 answers" in paragraph
    assert "2 seeds (0 and 1)" in paragraph
    assert "simultaneous over all of them" in paragraph
    assert "shrunken towards the typical one" in paragraph
    assert "Learning curves in training users" not in paragraph
    assert "Learning curves in training people and comparisons" in paragraph
    (entries,) = [text for text in page.texts["pre."] if "@software{palate" in text]
    assert {"owen2007pigeonhole", "romano2005stepdown", "dersimonian1986meta"} <= set(
        re.findall(r"@\w+\{(\w+),", entries)
    )
    assert entries.count("{") == entries.count("}")
    assert "shenfeld2025pref" in entries
    assert "zhao2024gpo" in entries
    assert "habernal2016argument" not in entries
    assert entries.count("{") == entries.count("}")


NASTY = "</script><script>alert('x')</script> & \"q\" <img src=x onerror=alert(1)> {{ 7*7 }} $a_b$ \u2028 \udce9"


def test_nasty_names_stay_text(usual, tmp_path: Path) -> None:
    _, harmless = usual
    methods = ["pooled", "hierarchical", "<b onclick=alert(2)>x</b>"]
    results = invented_results(tmp_path, data=(NASTY,), methods=methods, skipped=[(NASTY, NASTY)], licence=NASTY)
    results = replace(results, manifest=dict(results.manifest) | {"notes": [NASTY], "machine": NASTY})
    page = report(results, tmp_path)
    assert page.tags.count("script") == harmless.tags.count("script")
    assert "img" not in page.tags
    assert "b" not in page.tags or page.tags.count("b") == len(page.figures)  # only the template's own
    assert "{{ 7*7 }}" in page.source
    assert "49 $a_b$" not in page.source
    assert set(page.references) <= set(page.ids)
    assert page.data  # the JSON has not been broken out of


def test_audit_alone_is_the_first_section(tmp_path: Path) -> None:
    page = Page(write_audit_report(invented_audit("votes <1>"), tmp_path / "audit.html"))
    assert page.sections == ["verdict", "room", "provenance"]
    assert len(page.figures) == 4
    assert "surely wrong more often than right about 8.3" in page.answers[0]


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [("personalize", "Personalize"), ("don't", "Do not personalize"), ("collect", "Collect more first")],
)
def test_verdicts_of_the_audit(tmp_path: Path, verdict: str, headline: str) -> None:
    page = Page(write_audit_report(invented_audit(verdict=verdict), tmp_path / "audit.html"))
    assert page.texts["h3."][0] == headline


def test_audit_that_found_nothing_says_why(tmp_path: Path) -> None:
    audit = invented_audit()
    unknown = {
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
        "unit": "pairs",
        "method": None,
        "reason": "no repeats",
    }
    for key in ("divergence", "high_divergence", "mv_acc", "consistency", "minority_share", "noisy_share"):
        audit[key] = unknown
    audit["room"] = {"achievable": None, "upper": None, "non_personal": {}, "personal": unknown, "reason": "one person"}
    audit["decision"] = {
        "verdict": "collect",
        "reason": "one person",
        "expected_gain": None,
        "need": None,
        "power_curve": [],
    }
    page = Page(write_audit_report(audit, tmp_path / "audit.html"))
    assert page.figures == []
    assert "could not be tried: one person" in page.answers[0]
    assert page.texts["td.wrap quiet"].count("no repeats") >= 4


def test_disagreement_between_audit_and_benchmark_is_told() -> None:
    gained, idle = (panels(invented_results(methods=TWO, strength=strength)) for strength in (1.0, 0.0))
    assert "gained more than the audit expected" in verdict_of("d", invented_audit(verdict="don't"), gained).why
    assert "no method of this benchmark has surely used" in verdict_of("d", invented_audit(), idle).why
    assert "The benchmark" not in verdict_of("d", invented_audit(), gained).why


def test_fewer_than_twenty_people_claim_nothing(tmp_path: Path) -> None:
    page = report(invented_results(tmp_path, methods=TWO, n_people=12), tmp_path)
    assert page.texts["h3."][0] == "No claim"
    assert all("No claim" in page.answers[i] for i in (0, 1, 2, 3))
    assert page.answers[5].startswith("Not sure at all")
    assert "td.good" not in page.texts


def test_without_an_audit_the_benchmark_decides(tmp_path: Path) -> None:
    page = report(invented_results(tmp_path, methods=TWO, audits=False), tmp_path)
    assert page.texts["h3."][0] == "Personalize"
    assert any(text.startswith("No audit was made") for text in page.texts["p."])
    assert "there is no audit of these data" in page.answers[0]


def test_results_in_memory_have_no_calibration_plot_and_say_so(tmp_path: Path) -> None:
    page = report(invented_results(None, methods=TWO, audits=False), tmp_path)
    assert "data1-1-calibration" not in page.figures
    assert any("No calibration plot" in text for text in page.texts["p.note"])


@pytest.mark.parametrize(
    "settings",
    [
        {"methods": ["pooled"]},
        {"methods": ["hierarchical"]},
        {"methods": ["pooled", "factor"]},
        {"methods": ["pooled", "hierarchical:rank=16,l2=0.001,epochs=400", "a-plugin-of-somebody-else"]},
        {"methods": ["pooled", "factor"], "ks": []},
        {"methods": ["pooled", "factor"], "ks": [0], "seeds": [3]},
        {"methods": ["pooled", "factor"], "ks": [5, 10], "seen": False, "protocol": "something-new"},
        {"methods": ["pooled", "factor"], "n_people": 1},
        {"data": ["a", "b", "c"], "methods": TWO, "ks": [5]},
    ],
    ids=str,
)
def test_any_shape_of_results_gives_a_whole_page(tmp_path: Path, settings: dict) -> None:
    page = report(invented_results(tmp_path, audits=len(settings) == 1, **settings), tmp_path)
    n_data = len(settings.get("data", ["one"]))
    assert list(page.answers_in) == QUESTIONS
    assert all(len(found) % n_data == 0 for found in page.answers_in.values())
    assert len(page.texts["p.data"]) == n_data
    assert "nan" not in " ".join(text for texts in page.texts.values() for text in texts).lower().split()
    assert len(page.ids) == len(set(page.ids))
    assert not page.open


def test_numbers_that_are_missing_become_dashes(tmp_path: Path) -> None:
    results = invented_results(tmp_path, audits=False)
    page = report(replace(results, rows=tuple(broken_numbers(results))), tmp_path)
    assert "–" in page.texts["td."]
    assert "nan" not in " ".join(text for texts in page.texts.values() for text in texts).lower().split()


def test_final_scores_are_marked(tmp_path: Path) -> None:
    page = report(invented_results(tmp_path, methods=TWO, audits=False, final=True, seen=False), tmp_path)
    assert "town votes, known items, final people" in page.texts["h3."]
    assert any("set aside" in text for text in page.texts["p."])


def test_thousands_of_people_are_sampled_in_the_drawing_only(tmp_path: Path) -> None:
    results = invented_results(tmp_path, n_people=3000, n_rows=4, ks=(5,), seeds=(0,), methods=TWO, audits=False)
    page = report(results, tmp_path)
    assert len(page.source) < 1_000_000
    assert len(page.data["data1-1-people"]["accuracy_gain"]) == 3000
    drawing = re.search(r'<figure id="data1-1-people">.*?</figure>', page.source, re.S).group()
    assert len(drawing) < 60_000
    assert "A random 400 people are drawn" in page.source


def test_a_saved_folder_reports_as_its_results(tmp_path: Path) -> None:
    results = invented_results(tmp_path, methods=TWO, audits=False)
    save(results, tmp_path)
    assert report(Results.load(tmp_path), tmp_path).source == report(results, tmp_path).source


def test_nothing_to_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows and no audit"):
        write_report(Results(rows=(), manifest={}), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_methods_keep_their_colour_in_every_figure(usual) -> None:
    _, page = usual
    for name in ("gains", "answers", "people", "seconds", "calibration"):
        drawing = re.search(rf'<figure id="data1-1-{name}">.*?</figure>', page.source, re.S).group()
        for method, colour in (("factor", "blue"), ("gpo", "violet"), ("hierarchical", "ours")):
            assert re.search(rf'<text style="[^"]*fill:var\(--method-{colour}\)[^>]*>{method}</text>', drawing), (
                name,
                method,
            )
    assert set(METHODS) <= {text for text in page.texts["th."]} | {text for text in page.texts["th.strong"]}


def test_two_protocols_of_one_data_set_stand_side_by_side(tmp_path: Path) -> None:
    known, new = (
        invented_results(methods=TWO, ks=(0, 5), audits=False, protocol=name) for name in ("known-items", "new-items")
    )
    both = replace(
        known,
        rows=known.rows + new.rows,
        cells=known.cells + new.cells,
        per_user=pl.concat([known.per_user, new.per_user]),
    )
    page = report(both, tmp_path)
    assert page.texts["p.data"] == ["town votes"]
    assert [len(page.answers_in[name]) for name in QUESTIONS] == [
        1,
        2,
        3,
        2,
        2,
        4,
    ]  # prompts are those of the first alone
    assert {"data1-1-gains", "data1-2-gains"} <= set(page.figures)
    assert len(page.ids) == len(set(page.ids))


def test_audit_without_minorities_says_nobody(tmp_path: Path) -> None:
    audit = invented_audit()
    for key in ("minority_share", "noisy_share"):
        audit[key] |= {"value": 0.0, "low": 0.0, "high": 0.01, "count": 0}
    page = Page(write_audit_report(audit, tmp_path / "audit.html"))
    assert "There is nobody about whom the majority is surely wrong" in page.answers[0]
    assert "nobody seems to answer at random" in page.answers[0]
