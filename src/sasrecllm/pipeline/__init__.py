"""From settings to a finished run folder; ``contents.py`` is the table of contents."""
