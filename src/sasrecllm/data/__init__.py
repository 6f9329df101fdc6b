"""From files to ordered, split, indexed interactions."""
