"""Learners: what meta-training trains, one system a file."""
