"""What evaluations keep for the next one."""
