"""One grader for training and evaluation: right, fast, and unable to hang. Imports no torch: workers start quickly."""

from openrlhf_ktae.reward.equivalence import is_equivalent
from openrlhf_ktae.reward.grading import Grader, Verdict, grade, grade_many, warm_up

__all__ = ["Grader", "Verdict", "grade", "grade_many", "is_equivalent", "warm_up"]
