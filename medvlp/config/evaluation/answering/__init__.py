"""Options of how models are asked, and of how their answers are judged."""
