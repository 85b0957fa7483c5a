"""Options of training objectives, one file a kind."""
