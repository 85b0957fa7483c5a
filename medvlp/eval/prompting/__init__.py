"""Prompting protocols: examples in front of questions, chains of thought, votes over samples, ensemble refinement."""
