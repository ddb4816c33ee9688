"""How good a method is: benchmark, validation against ratings, repeatability, statistics."""
