"""The advantage terms of this project, one a file; a test ties this list to the folder and to the documents."""

TERMS = (
    "entropy_weight",
    "functional_group",
    "high_entropy",
    "kalman_baseline",
    "ktae",
    "multi_answer",
    "segment_value",
    "token_probability",
    "tree_value",
    "turn_level",
)
"""Names for ``advantage.terms``; the module of a name is loaded when a run uses it."""
