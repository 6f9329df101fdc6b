"""Many runs in one table: plan, run, collect, tune, summarise, report."""
