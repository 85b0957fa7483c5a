"""What a GPU is checked for and measured by, part by part, each with a limit of its own; `python -m benchmarks.gpu`."""
