"""What tests and benchmarks share: small folds, commands as processes, a Ray of several nodes, an S3
server."""
