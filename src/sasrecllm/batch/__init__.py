"""Lists for a file of users: jobs, workers on one machine, and on Ray."""
