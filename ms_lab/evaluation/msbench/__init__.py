"""MS-Bench, the benchmark of the method's authors: read from their checkout, made by a running service, scored here."""
