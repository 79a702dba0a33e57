"""Made footage whose every box, mask and identity is known: to try the data pipeline without real footage or models.

Only the stand-ins and the scorer may read the truth; ``ms_lab.data`` cannot import this package.
"""
