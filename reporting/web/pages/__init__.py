"""The pages, a module each; ``table.py`` lists them."""
