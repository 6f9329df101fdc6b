"""Updates: a run that goes on from another with the rows that came since, judged and promoted."""
