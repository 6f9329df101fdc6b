"""From settings to a finished run folder; ``run.py`` is the table of contents."""
