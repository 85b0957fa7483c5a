"""Options of tasks that models answer in words."""
