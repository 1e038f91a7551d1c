"""What tests and benchmarks share: small folds, commands as processes, clusters of Ray and an S3 server on this machine."""
