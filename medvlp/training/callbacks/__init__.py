"""What happens around a step, for every objective: one file a callback."""
