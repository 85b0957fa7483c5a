"""What the rules look for in responses, as patterns: how answers are announced, and how languages say yes, no and perhaps."""
