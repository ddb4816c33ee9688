"""Commands that set right what came or was said wrong."""
