"""Lightning callbacks of every objective, one file a callback."""
