"""One second-order MAML step timed beside other frameworks: ``python -m benchmarks``."""
