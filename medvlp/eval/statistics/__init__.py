"""Statistics from the records of an evaluation alone, without a model: metrics, comparisons, protocol cards."""
