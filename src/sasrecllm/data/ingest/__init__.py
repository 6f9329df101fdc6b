"""From files as people have them to checked rows: readers, columns, values, times."""
