"""Public problem sources by name: where they are, at which commit, and in which shape."""

from dataclasses import dataclass

from openrlhf_ktae.tasks.math.sources import Format

_MATH = "EleutherAI/hendrycks_math@21a5633873b6a120296cce3e2df9d5550074f4a3"
_GSM8K = "openai/gsm8k@740312add88f781978c0658806c59bc2815b9866"
_DAPO = "BytedTsinghua-SIA/DAPO-Math-17k@65877096c24ffa7abc4e4fa5edb95cf3413a5674"


@dataclass(frozen=True)
class Preset:
    """A problem source as `openrlhf-ktae data` reads it."""

    source: str
    """Data set of the Hub with its commit; a local copy is named with --source."""
    format: Format
    split: str
    what: str
    levels: str | None = None


PRESETS: dict[str, Preset] = {
    "math_train": Preset(_MATH, "math", "train", "MATH, training split"),
    "math_levels_3_to_5": Preset(_MATH, "math", "train", "MATH, training split, levels 3 to 5", "3-5"),
    "math_test": Preset(_MATH, "math", "test", "MATH, test split (MATH-500 is a part of it)"),
    "gsm8k_train": Preset(_GSM8K, "gsm8k", "train", "GSM8K, training split"),
    "gsm8k_test": Preset(_GSM8K, "gsm8k", "test", "GSM8K, test split"),
    "dapo_17k": Preset(_DAPO, "dapo", "train", "DAPO-Math-17k"),
}
"""By the name that ``--preset`` takes; a test compares docs/data.md with it."""


def preset(name: str) -> Preset:
    """The preset of that name; ValueError lists the names there are."""
    if name not in PRESETS:
        raise ValueError(f"preset: got {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
