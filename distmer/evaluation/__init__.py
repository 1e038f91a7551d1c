"""Splits, scores and how sure they are: pure functions of clips and predictions, without torch, Ray or
MLflow."""
