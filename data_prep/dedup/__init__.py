"""What can only be said over all samples: which are copies of others, and which are in an evaluation set."""
