"""One grader for training and evaluation: right, fast, and unable to hang."""
