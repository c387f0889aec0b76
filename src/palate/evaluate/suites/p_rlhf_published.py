"""What Li et al. 2024 (P-RLHF) report, to stand beside the suite `p-rlhf`."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PUBLISHED", "PUBLISHED_LENGTHS", "PUBLISHED_PERSONAS"]

PUBLISHED: Mapping[str, Mapping[str, tuple[float, float, float, float]]] = {
    "conflicting": {
        "vanilla DPO": (0.5891, 0.5537, 0.7482, 0.2510),
        "individual": (0.9104, 0.5534, 0.8926, 0.9435),
        "cluster, K = 5": (0.9112, 0.5455, 0.8924, 0.9478),
        "individual, T = 1": (0.8878, 0.5492, 0.8592, 0.9415),
        "individual, α = 1": (0.9354, 0.5487, 0.9237, 0.9523),
        "individual without e_0": (0.8888, 0.5477, 0.8713, 0.9196),
        "cluster, K = 2": (0.7279, 0.5501, 0.8232, 0.5124),
    },
    "forty": {
        "vanilla DPO": (0.5491, 0.5758, 0.6796, 0.3061),
        "individual": (0.9297, 0.5785, 0.9194, 0.9514),
        "cluster, K = 5": (0.9174, 0.5677, 0.9027, 0.9444),
    },
}
"""Tables 4, 5 and 6: Accuracy-top, Accuracy-generic, Accuracy-average of the majority and of the minority. There unseen people are
other workers on other posts, so that Accuracy-generic is lower than Accuracy-top of vanilla DPO."""

PUBLISHED_LENGTHS: Mapping[str, str] = {"minority": "0 words"}
"""Figure 3 in numbers, as far as the text gives them; the majority's are longer than the base model's."""

PUBLISHED_PERSONAS: Mapping[str, tuple[float, ...]] = {
    "base": (0.9167, 0.8636, 1.0, 0.5957, 0.96, 1.0, 0.8893),
    "vanilla DPO": (0.9592, 0.8667, 1.0, 0.6304, 1.0, 1.0, 0.9094),
    "base, told the wish": (0.7347, 0.7442, 0.9048, 0.48, 0.5909, 0.76, 0.7024),
}
"""Table 1: win rates of P-DPO against others, users 1 to 6 and their mean, judged by GPT-4."""
