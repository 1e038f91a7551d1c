"""Puts the repository on the import path (pytest does so for a conftest in a package), so that tests can share ``tests.fixtures``."""
