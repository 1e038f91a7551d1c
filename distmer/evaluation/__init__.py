"""Splits, scores and how sure they are: pure functions of clips and predictions. Nothing here knows torch, Ray or MLflow."""
