"""What a training costs before it runs: memory of a GPU, seconds of a step by part, and hours."""
