"""Probes: classifiers fitted on a model's stored embeddings, of many labelled images and of few."""
