"""
Stand between a call and its body: admit it or say why not, and settle what was admitted.
"""
