"""The tests; what several of their files need is in ``tests.support``."""
