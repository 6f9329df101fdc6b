"""What is measured from a checkout: the bench, its peers, loads and costs; no part of the package."""
