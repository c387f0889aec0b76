"""What a section of the report is made of; plain values that the template lays out and escapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from palate.report.canvas import Drawing

__all__ = ["Answer", "Block", "Cell", "Section", "Table", "Verdict"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text: what it says.
        colour: CSS colour of the swatch before it, for methods.
        tone: "good", "bad", "strong", "quiet" or nothing.
    """

    text: str
    colour: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A small table; the first column names the rows, all others are numbers.

    Args:
        caption: what it shows.
        head: column titles.
        rows: cells, as many as titles.
        note: a line beneath, for what needs a word.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Block:
    """One figure with its sentence and its table.

    Args:
        heading: which data set and protocol, or what is shown.
        answer: the answer in words, computed from the numbers.
        drawings: figures, each with its how-to-read.
        tables: tables beneath them.
        notes: further lines.
    """

    heading: str
    answer: str
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """One of the six questions.

    Args:
        name: anchor in the page.
        question: the heading.
        short: the same in a word or two, for the contents.
        blocks: one per data set and protocol.
    """

    name: str
    question: str
    short: str
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True)
class Answer:
    """One of the six questions answered at a glance.

    Args:
        section: name of the section that says more.
        question: a few words.
        value: the answer in a word or a number.
        text: what it rests on, one line.
        tone: "good", "warn" or nothing.
    """

    section: str
    question: str
    value: str
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Verdict:
    """What to do about one data set.

    Args:
        data: its name.
        tone: "good" (personalize), "plain" (don't), "warn" (collect more, or no claim).
        headline: two or three words.
        why: one or two sentences.
        facts: (label, value) pairs beside it.
        bar: low, value and high of the gain in percentage points and the half width of the axis, or None.
        credit: where the data come from and under which licence, if stated.
        answers: the six questions at a glance.
    """

    data: str
    tone: str
    headline: str
    why: str
    facts: Sequence[tuple[str, str]] = ()
    bar: tuple[float, float, float, float] | None = None
    credit: str = ""
    answers: Sequence[Answer] = ()
