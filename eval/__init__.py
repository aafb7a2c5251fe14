"""Evaluation of checkpoints on math benchmarks: run, grade, compare. Command line: ``python -m eval --help``."""
