"""Judging in a sweep: who judges, and the cells whose answers are judged when they are there."""
