"""Options of data: sources of a blend, files behind addresses, and tars of others."""
