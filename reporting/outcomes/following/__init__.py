"""Pairs follow what is known: new photographs, results, operations, merges and decisions make them anew."""
