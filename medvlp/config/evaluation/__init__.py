"""Options of `medvlp eval` that are more than a number."""
