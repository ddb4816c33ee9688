"""The chain anchored outside the database: signed checkpoints, exports, proofs, and who verifies them.

Whoever owns the database can make a whole chain anew. What he cannot make is a signature by a key that the
database never sees, over the chain as it was, in a place that he cannot write to.
"""
