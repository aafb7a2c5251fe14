"""The tasks of this project, one a module or package; a test ties this list to the folder and to the documents."""

TASKS = ("arithmetic", "calculator", "checked_arithmetic", "knights_and_knaves", "math", "worded_arithmetic")
"""Names for ``task.name``; the module of a name is loaded when a run uses it."""
