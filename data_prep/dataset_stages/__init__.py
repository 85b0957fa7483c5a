"""Stages over the whole data set, once every unit is done: splits, decontamination, duplicates.

Decisions are functions of the parts' tables in the data set's order, so they do not depend on who made the parts.
"""
