"""From a run folder to scores and recommendations."""
