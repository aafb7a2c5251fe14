"""The options of the estimator. Imports no torch: recipes are checked without it."""

import math

from pydantic import Field, model_validator

from openrlhf_ktae.config import Options


class KtaeConfig(Options):
    """Options of the key-token advantage (KTAE, arXiv 2505.16826). The defaults are the paper's published runs."""

    alpha: float = Field(default=1.0, ge=0)
    """Weight of Fisher's exact test in the association strength (paper: alpha); 0 is the ablation "w/o Fisher"."""

    beta: float = Field(default=1.0, ge=0)
    """Weight of the information gain in the association strength (paper: beta); 0 is the ablation "w/o IG"."""

    gamma: float = Field(default=1.0, ge=0)
    """Weight of the term-frequency contrast in the direction (paper: gamma); 0 is the ablation "w/o tf"."""

    scale: float = Field(default=1.0, ge=0)
    """Weight of the key-token value in the advantage; 0 gives the rollout-level estimator exactly."""

    k1: float = Field(default=2.0, ge=0)
    """BM25 saturation of the term frequency (paper: k1)."""

    b0: float = Field(default=0.5, ge=0, le=1)
    """BM25 length normalisation of the term frequency (paper: b)."""

    eps: float = Field(default=1e-5, gt=0)
    """Added to the denominators of the term-frequency contrast (paper: epsilon)."""

    tf_smoothing: float = Field(default=0.0, ge=0)
    """Pseudo-count added to a token's occurrences in either class; 0 is the paper. Above 0, a token that occurs in one
    class only no longer saturates for being rare in a long corpus."""

    ignore_token_ids: tuple[int, ...] = ()
    """Token ids whose value is always 0. In training an empty tuple means: the tokenizer's padding and
    end-of-sequence ids."""

    @model_validator(mode="after")
    def _association_has_weight(self) -> "KtaeConfig":
        total = self.alpha + self.beta
        if total == 0 or not math.isfinite(total):
            raise ValueError(f"ktae.alpha + ktae.beta must be positive, got {self.alpha} + {self.beta}; raise one")
        return self
