"""P-RLHF's experiments, beside the paper's tables: `palate bench --suite p-rlhf`, with its rows kept.

    OMP_NUM_THREADS=1 python benchmarks/p_rlhf.py        about an hour of one core; writes benchmarks/results/p-rlhf.json
    python benchmarks/p_rlhf.py --choose                 settings of the individual policy, judged on validation prompts alone
    python benchmarks/p_rlhf.py --all                    also the ablations, 40 people and arguments of debates: for an accelerator

What must come out, where 70 % of people prefer the longer reply and 30 % the shorter: seen people at .88 or more, the minority at .90 or
more, unseen people within .02 of vanilla DPO; the minority's replies at most 40 % as long as the majority's; a new person of either camp
at .80 or more after ten answers. The words in the result say what did and what did not.
Cells are kept in --folder and policies in the cache folder, so that a run that was stopped goes on.
"""

from __future__ import annotations

import numpy as np
from common import run_and_keep, suite_options

from palate.evaluate.suites.p_rlhf import recipe_of
from palate.evaluate.suites.p_rlhf_policies import accuracies
from palate.evaluate.suites.p_rlhf_world import VALIDATION

CHOICES = (
    {},
    {"learning_rate": 1e-3},
    {"learning_rate": 1e-3, "alpha": 0.5},
    {"learning_rate": 1e-3, "batch_size": 8},
    {"learning_rate": 5e-4, "alpha": 0.5, "user_learning_rate": 2e-2},
)
"""What differs from the suite's settings."""


def choose() -> None:
    """Accuracies of the candidates on four validation prompts; policies are kept, so that this goes on where it was stopped."""
    for settings in CHOICES:
        found = accuracies(recipe_of("individual", **settings), use=VALIDATION, prompts=4)
        for kind in ("clear", "all"):
            own, generic = (np.array([_mean(person[kind]) for person in found[name]]) for name in ("own", "generic"))
            minority = np.isin(np.arange(len(own)), found["minority"])
            print(
                f"{settings}, {kind} pairs: seen {own.mean():.3f}, unseen {generic.mean():.3f}, majority "
                f"{own[~minority].mean():.3f}, minority {own[minority].mean():.3f}",
                flush=True,
            )


def _mean(shares: list[float | None]) -> float:
    """Over the prompts that have such pairs."""
    return float(np.mean([share for share in shares if share is not None]))


def main() -> None:
    parser = suite_options("p-rlhf", __doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="also what takes hours without an accelerator")
    parser.add_argument("--choose", action="store_true", help="try settings on validation prompts, and do nothing else")
    arguments = parser.parse_args()
    if arguments.choose:
        choose()
    else:
        run_and_keep("p-rlhf", arguments.folder, everything=arguments.all or None)


if __name__ == "__main__":
    main()
