"""
The reference work on a data set, seen from the first call to the last outcome: ``python -m demo``.
"""
