"""Evaluation of a model on math benchmarks: `python -m eval run | grade | compare`, from the repository root."""
