"""How anything is judged: protocol, metrics, intervals, slices, tables of lists."""
