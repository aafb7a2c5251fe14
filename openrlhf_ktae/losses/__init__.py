"""The policy losses of this project, one a file; a test ties this list to the folder and to the documents."""

LOSSES = ("a_star", "lopti", "openrlhf")
"""Names for ``policy_loss.name``; the module of a name is loaded when a run uses it."""
