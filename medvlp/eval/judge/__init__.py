"""A judge: a model that scores written answers by a rubric, its verdicts, and the metrics from them."""
