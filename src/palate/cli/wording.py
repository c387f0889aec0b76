"""Messages of the library in the words of the command line: `features=` is `--features` there."""

from __future__ import annotations

import re

__all__ = ["for_terminal"]

_PHRASES = {
    "user_column= (--user-column)": "--user-column",
    "on_error='skip'": "--skip-bad",
    "features=None": "--features none",
    "final=True": "--final",
    "save it with people=True, or adapt to their choices": "fit it again, or use palate adapt on their choices",
    "it must be history or heldout, or pass part=None": "it must be history or heldout; mend it, or rename the column",
    "write one with save_pretrained": "write one with palate fit",
    "rename them or pass columns=": "rename them",
    "add it, or name it with columns=": "add it, or rename the right one",
}
"""What is said differently as a whole."""

_SHARES = re.compile(
    r"(?<=more people), or a larger \w+(?: or \w+_share)?|a larger \w+_share, or (?=more rows)"
    r"|, or smaller test and validation shares"
)
"""Settings of a split, which no flag sets."""

_FLAGS = {
    name: "--" + name.replace("_", "-")
    for name in (
        "axes",
        "base_reward",
        "features",
        "folds",
        "methods",
        "min_raters",
        "protocol",
        "seeds",
        "set_aside",
        "sizes",
        "user_column",
        "workers",
        "worthwhile",
    )
}
_ARGUMENT = re.compile(rf"(?<![\w:,.-])({'|'.join(_FLAGS)})=(?=(\S?))")


def for_terminal(message: str) -> str:
    """The message with the flags of the command line in place of Python's arguments."""
    for python, words in _PHRASES.items():
        message = message.replace(python, words)
    message = _SHARES.sub("", message)
    return _ARGUMENT.sub(lambda found: _FLAGS[found[1]] + (" " if re.match(r"[\w'\"({\[-]", found[2]) else ""), message)
