"""The command line: `palate VERB …`, one module per family of verbs.

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted by Ctrl-C. With `--json` standard output carries JSON and
nothing else; words, progress and errors go to standard error.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line on `sys.argv`."""
    try:
        from palate.cli.app import app

        app(prog_name="palate")
    except KeyboardInterrupt:  # while Python still imports; the verbs see to it themselves
        raise SystemExit(130) from None
