"""What people look at rather than read: tables, plots and HTML of one run."""
