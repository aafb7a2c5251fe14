"""The advantage terms of this project, one a file; a test ties this list to the folder and to the documents."""

TERMS = ("entropy_weight", "high_entropy", "kalman_baseline", "ktae", "token_probability")
"""Names for ``advantage.terms``; the module of a name is loaded when a run uses it."""
